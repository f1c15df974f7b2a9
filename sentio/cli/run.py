"""`sentio run NAME`: one process of the platform, until SIGTERM."""

import gc
import importlib
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentio.errors import SettingError

if TYPE_CHECKING:
    from consumers.consumer import Consumer

CONSUMERS = {
    "store": "consumers.store.store:Store",
    "aggregates": "consumers.aggregates.aggregates:Aggregates",
}
GATEWAYS = {"stream": "gateway.stream.workers:main", "rest": "gateway.rest.app:main"}
PRODUCERS = {"webhooks": "producers.webhooks.app:main"}
OBSERVERS = {"lag": "sentio.exporter:main"}
SERVERS = GATEWAYS | PRODUCERS | OBSERVERS

STALLED_S = 60.0


def run(
    name: Annotated[
        str,
        typer.Argument(help="store, aggregates, stream, rest, lag, webhooks, or module:Class of a consumer of yours."),
    ],
    workers: Annotated[
        int | None, typer.Option(help="Of stream: processes that share its port; else SENTIO_STREAM_WORKERS.", min=1)
    ] = None,
) -> None:
    """Run one process of the platform until it is asked to stop (SIGTERM, Ctrl-C)."""
    from sentio.cli.starting import start
    from sentio.config import ObservedSettings, RestSettings, Settings, StreamSettings, WebhookSettings, load

    start(load(Settings), process=name, codec=name != "rest")
    if name in SERVERS:
        kinds: dict[str, type[Settings]] = {
            "stream": StreamSettings,
            "rest": RestSettings,
            "webhooks": WebhookSettings,
            "lag": ObservedSettings,
        }
        asked = {} if workers is None else {"stream_workers": workers}
        _load(SERVERS[name])(load(kinds[name], **asked))  # type: ignore[operator] # a main(settings)
    else:
        _consume(CONSUMERS.get(name, name))


def _consume(where: str) -> None:
    from consumers.group import Group
    from sentio import metrics
    from sentio.config import ConsumerSettings, load
    from sentio.stopping import on_stop
    from sentio.tracing import traces

    settings = load(ConsumerSettings)
    kind: type[Consumer] = _load(where)  # type: ignore[assignment] # a consumer class, by the word of the caller
    stop = threading.Event()
    on_stop(stop.set)
    consumer = kind(settings) if kind.owns_offsets else kind()  # type: ignore[call-arg]
    to_collector = traces(settings, process=kind.name)
    group = Group(consumer, settings, stop=stop, traces=to_collector)
    if settings.metrics_port is not None:
        metrics.serve(
            settings.metrics_port,
            live=lambda: time.monotonic() - group.turned_s < STALLED_S,
            ready=lambda: group.ready,
        )
    # A batch is tens of thousands of messages, none of which refers to another: looking for cycles among them, as
    # Python does every few hundred objects, costs a quarter of the loop's time and finds none.
    gc.freeze()
    gc.set_threshold(200_000)
    try:
        group.run()
    finally:
        if to_collector:
            to_collector.close()


def _load(where: str) -> object:
    module, _, name = where.partition(":")
    sys.path.insert(0, str(Path.cwd()))  # a consumer of yours is found where you stand
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as failure:
        names = ", ".join([*CONSUMERS, *SERVERS])
        raise SettingError(f"run {where}: {failure}; it may be {names}, or module:Class") from failure
