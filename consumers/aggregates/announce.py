"""Publishes changed windows on `aggregates.updated`: after commit, at most once a second each, newest state only."""

import time
from collections.abc import Callable

from psycopg import Connection
from psycopg.rows import dict_row

from producers.publisher import EventPublisher
from schemas.columns import arrow_schema
from schemas.events import AggregateUpdated
from sentio.errors import Fatal

EVERY_S = 1.0
MOST_SHARE = 0.2  # of the member's time; while it catches up, the states in between are worth less than the speed
AT_MOST = 5_000
ANNOUNCE_LOCK = 0x414E4E4F  # one member of the group announces at a time

_HEADER = {"event_id", "producer", "sequence"}
_COLUMNS = ", ".join(name for name in arrow_schema("AggregateUpdated").names if name not in _HEADER)


class Announcer:
    """Sends the newest state of each window whose revision nobody was told yet.

    A window is marked as announced only once Kafka has acknowledged it; a crash in between sends the same revision
    again, which readers know by its number.
    """

    def __init__(self, publisher: EventPublisher, connection: Callable[[], Connection]) -> None:
        self._publisher = publisher
        self._connection = connection
        self._under_way: list[AggregateUpdated] = []
        self._failed = 0
        self._next_s = 0.0

    def turn(self) -> None:
        """Go on with announcing; never waits for Kafka."""
        began_s = time.monotonic()
        self._go_on()
        now_s = time.monotonic()
        self._next_s = max(self._next_s, now_s + (now_s - began_s) / MOST_SHARE)

    def _go_on(self) -> None:
        if self._publisher.failure:
            raise Fatal(f"windows are no longer announced: {self._publisher.failure!r} stopped the publisher")
        if self._under_way:
            counters = self._publisher.counters()
            if counters.waiting:
                return
            if counters.failed == self._failed:
                self._mark()
            self._failed = counters.failed
            self._under_way = []
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + EVERY_S
            self._send()

    def _send(self) -> None:
        connection = self._connection()
        with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute("select pg_try_advisory_xact_lock(%s) as mine", [ANNOUNCE_LOCK])
            row = cursor.fetchone()
            if row is None or not row["mine"]:
                return
            cursor.execute(
                f"select {_COLUMNS} from statistics natural join"
                " (select account, strategy, symbol, kind, start_at from windows"
                "  where unannounced_since is not null order by unannounced_since limit %s) as changed",
                [AT_MOST],
            )
            events = [AggregateUpdated(**row) for row in cursor]
        for event in events:
            self._publisher.publish(event)
        # Only now: what was not published must not be marked.
        self._under_way = events

    def _mark(self) -> None:
        events = sorted(self._under_way, key=lambda e: (e.account, e.strategy, e.symbol, e.kind, e.start_at))
        connection = self._connection()
        with connection.transaction():
            connection.execute(
                "update windows as w set published_revision = greatest(published_revision, done.revision),"
                # Changed meanwhile: at the end of the queue again.
                " unannounced_since = case when w.revision > done.revision then now() end"
                " from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::bigint[])"
                " as done (account, strategy, symbol, kind, start_at, revision)"
                " where (w.account, w.strategy, w.symbol, w.kind, w.start_at)"
                " = (done.account, done.strategy, done.symbol, done.kind, done.start_at)",
                [[getattr(e, name) for e in events]
                 for name in ("account", "strategy", "symbol", "kind", "start_at", "revision")],
            )  # fmt: skip
