"""Announces changed windows on `aggregates.updated`: after commit, at most once a second each, newest state only."""

import time
from collections.abc import Callable

import pyarrow as pa
from psycopg import Connection
from pyarrow import csv

from consumers.aggregates.sender import SCHEMA, Sender

EVERY_S = 1.0
MOST_SHARE = 0.05  # of the member's time; while it catches up, the states in between are worth less than the speed
AT_MOST = 10_000
"""Changes in a lot, but for those of the last row; several of one window are one event."""

ANNOUNCE_LOCK = 0x414E4E4F  # one member of the group announces at a time

_LOT = """
    select coalesce(array_agg(id), '{}') from (
        select id, sum(windows) over (order by id) - windows as before from window_changes
    ) as waiting where before < %s
"""
_NEWEST = f"""
    copy (
        select {", ".join(SCHEMA.names)} from statistics natural join (
            select distinct each.*
            from window_changes, unnest(account, strategy, symbol, kind, start_at)
                as each (account, strategy, symbol, kind, start_at)
            where id = any(%s)
        ) as changed
    ) to stdout (format csv)
"""
_AS_IN_SCHEMA = csv.ConvertOptions(column_types=SCHEMA, null_values=[""], strings_can_be_null=False)


class Announcer:
    """Sends the newest state of each window in `window_changes`.

    The changes are deleted only once Kafka has acknowledged the windows; a crash in between sends the same revisions
    again, which readers know by their numbers.
    """

    def __init__(self, sender: Sender, connection: Callable[[], Connection]) -> None:
        self._sender = sender
        self._connection = connection
        self._under_way: list[int] = []
        self._next_s = 0.0

    def turn(self) -> None:
        """Go on with announcing; never waits for Kafka."""
        began_s = time.monotonic()
        self._go_on()
        now_s = time.monotonic()
        self._next_s = max(self._next_s, now_s + (now_s - began_s) / MOST_SHARE)

    def _go_on(self) -> None:
        if self._under_way:
            arrived = self._sender.arrived()
            if arrived is None:
                return
            if arrived:
                self._mark()
            self._under_way = []
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + EVERY_S
            self._send()

    def _send(self) -> None:
        connection = self._connection()
        with connection.transaction(), connection.cursor() as cursor:
            row = cursor.execute("select pg_try_advisory_xact_lock(%s)", [ANNOUNCE_LOCK]).fetchone()
            if row is None or not row[0]:
                return
            # Before the windows are read: what changes from now on is in another row.
            [ids] = cursor.execute(_LOT, [AT_MOST]).fetchone() or [[]]
            if not ids:
                return
            with cursor.copy(_NEWEST, [ids]) as rows:
                windows = _table(b"".join(rows))
        self._sender.send(windows)
        # Only now: what was not sent must not be marked.
        self._under_way = ids

    def _mark(self) -> None:
        connection = self._connection()
        with connection.transaction():
            connection.execute("delete from window_changes where id = any(%s)", [self._under_way])


def _table(rows: bytes) -> pa.Table:
    if not rows:
        return SCHEMA.empty_table()
    return csv.read_csv(
        pa.BufferReader(rows),
        csv.ReadOptions(column_names=SCHEMA.names, use_threads=False),
        csv.ParseOptions(newlines_in_values=True),
        _AS_IN_SCHEMA,
    )
