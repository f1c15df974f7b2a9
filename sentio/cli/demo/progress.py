"""What the demo shows while it plays: events per topic, how far each reader is, latency."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import psycopg
from confluent_kafka import Consumer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from schemas.topics import topics
from sentio import kafka
from sentio.cli.demo.viewer import Viewer
from sentio.config import Settings
from sentio.errors import Retryable

EVERY_S = 0.25

_READ = "select group_name, topic, sum(greatest(next_offset, 0))::bigint from consumer_offsets group by 1, 2"
_UNANNOUNCED = "select coalesce(sum(windows), 0)::bigint from window_changes"


def reporter(*, quiet: bool) -> Callable[[str], None]:
    """Says a line on stderr, or nothing."""
    return (lambda _: None) if quiet else (lambda line: print(line, file=sys.stderr, flush=True))


def percentile(values: list[float], share: float) -> float | None:
    """Nearest-rank percentile; None without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


class Progress:
    """Looks at the log's ends, the database and the client a few times a second."""

    def __init__(self, settings: Settings, database: str, viewer: Viewer, *, quiet: bool) -> None:
        self._settings = settings
        self._viewer = viewer
        self._reader = Consumer(kafka.reader(settings.kafka, name="sentio-demo"))
        self._database = database
        console = Console(stderr=True)
        self._live = None if quiet or not console.is_terminal else Live(console=console, auto_refresh=False)
        self._next_s = 0.0
        self._ends: dict[str, int] = {}
        self._read: dict[tuple[str, str], int] = {}
        self._unannounced = 0

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        self._reader.close()

    def turn(self) -> bool:
        """Look and show, if it is time; always true."""
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + EVERY_S
            self._look()
            if self._live:
                self._live.update(self._table(), refresh=True)
        return True

    def settled(self) -> bool:
        """Whether every reader has read to the end of the log."""
        if not self._look() or self._unannounced:
            return False
        store = all(self._read.get(("store", t.name), 0) == self._ends[t.name] for t in topics().values() if t.table)
        counted = ("trades.executed", "performance.minute")
        aggregates = all(self._read.get(("aggregates", name), 0) == self._ends[name] for name in counted)
        client = all(
            len(self._viewer.received[t.channel]) + self._viewer.repeats[t.channel] >= self._ends[t.name]
            for t in topics().values()
            if t.channel
        )
        return store and aggregates and client

    def _look(self) -> bool:
        """Take the figures; false while Kafka or the database cannot give them."""
        prefix = f"{self._settings.topic_prefix}."
        try:
            for topic in topics().values():
                name = topic.full_name(self._settings.topic_prefix)
                places = [(name, partition) for partition in range(self._settings.partitions)]
                self._ends[topic.name] = sum(end for _, end in kafka.ends(self._reader, places).values())
            with psycopg.connect(self._database, application_name="sentio-demo", connect_timeout=2) as connection:
                rows = connection.execute(_READ).fetchall()
                [(self._unannounced,)] = connection.execute(_UNANNOUNCED).fetchall()
        except (Retryable, psycopg.OperationalError):
            return False
        self._read = {(group, topic.removeprefix(prefix)): read for group, topic, read in rows}
        return True

    def _table(self) -> Table:
        table = Table("topic", "on the log", "store lag", "aggregates lag", "at the client", title="the day so far")
        for topic in topics().values():
            end = self._ends.get(topic.name, 0)
            if not end:
                continue
            lags = [
                "-" if (group, topic.name) not in self._read else f"{end - self._read[group, topic.name]:,}"
                for group in ("store", "aggregates")
            ]
            client = f"{len(self._viewer.received[topic.channel]):,}" if topic.channel else "-"
            table.add_row(topic.name, f"{end:,}", *lags, client)
        recent = self._viewer.latencies_ms[-2_000:]
        p50, p99 = percentile(recent, 0.5), percentile(recent, 0.99)
        if p50 is not None and p99 is not None:
            table.caption = f"publish() to client: p50 {p50:.0f} ms, p99 {p99:.0f} ms"
        return table
