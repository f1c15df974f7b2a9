"""`sentio clients`: who is connected to the stream, on all its instances, and sending someone away."""

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Who is connected to the stream; needs SENTIO_REDIS.")


@app.command(name="list")
def show(
    user: Annotated[str | None, typer.Argument(help="Only this user, the sub of a token.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show each open connection: user, address, what it says it is, instance, and since when."""
    import json
    from dataclasses import asdict

    from gateway.clients import connected
    from sentio.config import AccessSettings, load

    clients = connected(load(AccessSettings), user)
    if as_json:
        print(json.dumps([asdict(client) for client in clients], default=lambda at: at.isoformat()))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("user", "address", "client", "instance", "since (UTC)", title=f"{len(clients):,} connections")
    for client in clients:
        since = f"{client.opened_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(escape(client.user) or "-", client.address, client.product, client.instance, since)
    Console().print(table)


@app.command()
def disconnect(user: Annotated[str, typer.Argument(help="The sub of the user's tokens.")]) -> None:
    """Close all connections of a user, on all instances (4403). A token stays good until it ends."""
    from gateway.clients import disconnect as send_away
    from sentio.config import AccessSettings, load
    from sentio.errors import Retryable

    sent = send_away(load(AccessSettings), user)
    told = f"{user}: {sent.closed} connections closed; {sent.instances} instances heard of it"
    if sent.left:
        still = ", ".join(sorted({client.instance for client in sent.left}))
        raise Retryable(f"{told}; {len(sent.left)} are open still, on {still}: try again")
    print(told)
