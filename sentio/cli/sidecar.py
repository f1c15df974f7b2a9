"""`sentio sidecar`: the ways in for engines. Each runs until it is stopped (docs/engine.md)."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from producers.sidecar.bridge import Bridge
    from producers.sidecar.drain import Sidecar, Wait
    from producers.sidecar.source import Source
    from sentio.config import SidecarSettings

STALLED_S = 60.0


class _RingsUnlessNamed(TyperGroup):
    """`sentio sidecar PATH...` is `sentio sidecar rings PATH...`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            args.insert(0, "rings")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_RingsUnlessNamed,
    no_args_is_help=True,
    help="Send on what engines publish: from rings (sentio sidecar RING...), sockets, log files, HTTP or JSON topics.",
)


@app.command()
def rings(
    paths: Annotated[list[Path], typer.Argument(help="Files that engines publish into; they may come later.")],
) -> None:
    """Drain the rings that engines write with clients/c/sentio.h."""
    from producers.sidecar.rings import RingSource
    from producers.sidecar.watching import Watch

    sources = [RingSource(path) for path in paths]
    _drain(_settings(), sources, Watch(sources))


@app.command()
def listen(
    address: Annotated[str, typer.Argument(help="Path of a Unix socket, or HOST:PORT.")],
) -> None:
    """Take JSON lines over a socket, acknowledged on request."""
    from producers.sidecar.listening import Listener

    settings = _settings()
    listener = Listener(address)
    try:
        _drain(settings, [listener.inbox], listener.inbox.wait)
    finally:
        listener.close()


@app.command()
def http(
    address: Annotated[str, typer.Argument(help="HOST:PORT.")],
) -> None:
    """Take POST /v1/events, with the token of SENTIO_EVENTS_TOKEN."""
    from producers.sidecar.posting import STOP_S, Receiver

    settings = _settings()
    receiver = Receiver(address, settings)
    serving = threading.Thread(target=receiver.run, name="sentio-http", daemon=True)
    serving.start()
    try:
        _drain(settings, [receiver.inbox], receiver.inbox.wait)
    finally:
        receiver.stop()
        serving.join(STOP_S)


@app.command()
def follow(
    folder: Annotated[Path, typer.Argument(help="Where signals.jsonl, trades.jsonl and positions.jsonl are written.")],
    engine: Annotated[str, typer.Option(help="Name of the engine that writes them.")] = "engine",
    settle_s: Annotated[float, typer.Option(help="How long one file may lag behind the others.", min=0.01)] = 1.0,
) -> None:
    """Follow the log files of an engine while it writes them, or folders of them named by day."""
    from producers.sidecar.drain import wait_for_next_look
    from producers.sidecar.follow import Follower

    _drain(_settings(), [Follower(folder, engine=engine, settle_s=settle_s)], wait_for_next_look)


@app.command()
def bridge(
    mapping: Annotated[Path, typer.Argument(help="TOML file that says which fields become which (docs/engine.md).")],
    name: Annotated[str, typer.Option(help="Of this bridge: how far it came is known by it.")] = "bridge",
) -> None:
    """Carry an engine's JSON topics over into the house's, exactly once."""
    from producers.sidecar.bridge import Bridge
    from producers.sidecar.mapping import load

    settings = _settings()
    _run(settings, Bridge(settings, load(mapping), name=name))


def _settings() -> "SidecarSettings":
    from sentio.cli.starting import start
    from sentio.config import SidecarSettings, load

    settings = load(SidecarSettings, spool=None)  # the sources are what is durable
    start(settings, process="sidecar")
    return settings


def _drain(settings: "SidecarSettings", sources: "Sequence[Source]", wait: "Wait") -> None:
    from producers.sidecar.drain import Sidecar

    _run(settings, Sidecar(settings, sources, wait))


def _run(settings: "SidecarSettings", sidecar: "Sidecar | Bridge") -> None:
    from producers.sidecar.figures import Figures
    from sentio import metrics
    from sentio.stopping import on_stop

    stop = threading.Event()
    on_stop(stop.set)
    if settings.metrics_port is not None:
        Figures.register(sidecar)

        def is_live() -> bool:
            return time.monotonic() - sidecar.turned_s < STALLED_S

        metrics.serve(settings.metrics_port, live=is_live, ready=is_live)
    sidecar.run(stop)
