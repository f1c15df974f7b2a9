"""`sentio webhooks simulate`: what Helius would send, to a receiver, and what it answered."""

import json
import threading
import time
from typing import Annotated

import typer

from sentio.errors import Fatal

app = typer.Typer(no_args_is_help=True, help="Prices from webhooks.")


@app.callback()
def _group() -> None:
    """Commands come under a name of their own, also while there is one."""


@app.command()
def simulate(
    url: Annotated[str | None, typer.Option(help="Else the receiver at SENTIO_WEBHOOK_HOST and _PORT.")] = None,
    rate: Annotated[float, typer.Option(help="Events a second.", min=0.1)] = 100.0,
    events: Annotated[int, typer.Option(help="How many.", min=1)] = 1_000,
    batch: Annotated[int, typer.Option(help="Events of a request.", min=1)] = 10,
    connections: Annotated[int, typer.Option(min=1, max=256)] = 4,
    seed: Annotated[int, typer.Option(help="The same seed gives the same swaps.")] = 42,
) -> None:
    """Send swaps to a receiver as Helius does, good and bad ones; exit 1 when it makes of them what it should not."""
    from producers.webhooks.app import PATH
    from producers.webhooks.sending import Sender
    from producers.webhooks.simulator import Delivery, Simulation
    from producers.webhooks.tokens import read
    from sentio.config import WebhookSettings, load
    from sentio.stopping import on_stop

    settings = load(WebhookSettings)
    simulation = Simulation(read(settings.webhook_tokens), seed=seed, start_s=time.time(), rate=rate, batch=batch)
    expected = Delivery()
    stop = threading.Event()
    on_stop(stop.set)

    def written(delivery: Delivery) -> bytes:
        expected.prices += delivery.prices
        expected.repeated += delivery.repeated
        expected.ignored += delivery.ignored
        expected.refused += delivery.refused
        return json.dumps(delivery.events).encode()

    sender = Sender(
        url or f"http://{settings.webhook_host}:{settings.webhook_port}{PATH}",
        settings.webhook_secret.get_secret_value(),
        connections=connections,
    )
    sent = sender.run(map(written, simulation.deliveries(events)), every_s=batch / rate, stop=stop)
    wanted = {
        "accepted": len(expected.prices),
        "repeated": expected.repeated,
        "ignored": expected.ignored,
        "refused": expected.refused,
    }
    answered = {name: sent.answered[name] for name in wanted}
    print(json.dumps({"requests": sent.requests, "statuses": sent.statuses, "answered": answered, "expected": wanted}))
    if answered != wanted:
        raise Fatal("the receiver did not make of the events what it should have made of them")
