"""`sentio run NAME`: one process of the platform, until SIGTERM."""

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
    "archive": "consumers.archive.archive:Archive",
}
SHADOWED = ("store", "aggregates")
GATEWAYS = {
    "stream": "gateway.stream.workers:main",
    "rest": "gateway.rest.app:main",
    "watcher": "gateway.watch.app:main",
}
PRODUCERS = {"webhooks": "producers.webhooks.app:main"}
OBSERVERS = {"lag": "sentio.exporter:main"}
SERVERS = GATEWAYS | PRODUCERS | OBSERVERS

STALLED_S = 60.0


def run(
    name: Annotated[
        str,
        typer.Argument(
            help="store, aggregates, archive, stream, rest, watcher, webhooks, lag, or module:Class of your consumer."
        ),
    ],
    workers: Annotated[
        int | None, typer.Option(help="Of stream: processes that share its port; else SENTIO_STREAM_WORKERS.", min=1)
    ] = None,
    into: Annotated[
        str | None,
        typer.Option(help="Of store and aggregates: write into this shadow, shadow_NAME, beside the tables."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="Of a new shadow: from this time of the log on; else its beginning.")
    ] = None,
) -> None:
    """Run one process of the platform until it is asked to stop (SIGTERM, Ctrl-C)."""
    from sentio.cli.starting import start
    from sentio.config import (
        ObservedSettings,
        RestSettings,
        Settings,
        StreamSettings,
        WatchSettings,
        WebhookSettings,
        load,
    )

    if (into is not None and name not in SHADOWED) or (since is not None and into is None):
        raise SettingError(f"run {name}: --into is for {' and '.join(SHADOWED)}, and --from for --into")
    start(load(Settings), process=name, codec=name != "rest")
    if name in SERVERS:
        kinds: dict[str, type[Settings]] = {
            "stream": StreamSettings,
            "rest": RestSettings,
            "watcher": WatchSettings,
            "webhooks": WebhookSettings,
            "lag": ObservedSettings,
        }
        asked = {} if workers is None else {"stream_workers": workers}
        _load(SERVERS[name])(load(kinds[name], **asked))  # type: ignore[operator] # a main(settings)
    else:
        kind: type[Consumer] = _load(CONSUMERS.get(name, name))  # type: ignore[assignment] # by the word of the caller
        _consume(kind if into is None else _in_shadow(kind, into, since))


def _in_shadow(kind: "type[Consumer]", name: str, since: str | None) -> "type[Consumer]":
    from consumers.shadow import Shadow
    from consumers.shadow import into as in_shadow
    from consumers.sink import DatabaseConsumer
    from sentio.asked import time_of

    assert issubclass(kind, DatabaseConsumer)
    return in_shadow(kind, Shadow(name, None if since is None else time_of("--from", since)))


def _consume(kind: "type[Consumer]") -> None:
    from consumers.group import Group
    from sentio import garbage, metrics
    from sentio.config import load
    from sentio.stopping import on_stop
    from sentio.tracing import traces

    settings = load(kind.settings_kind)
    stop = threading.Event()
    on_stop(stop.set)
    consumer = kind(settings) if kind.owns_offsets else kind()  # type: ignore[call-arg] # as its kind is made
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
    garbage.look_seldom(young=200_000)
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
