"""The work of `sentio verify --against`: a shadow and the live tables, in one snapshot, while all groups go on."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from psycopg import Connection, IsolationLevel, sql
from psycopg.rows import class_row, dict_row

from schemas.topics import stored_topics
from sentio.cli import differing
from sentio.errors import Fatal, SettingError

AGAIN_S = 0.1
DIFFERENCES = ("missing", "differing", "misplaced", "extra")

# Every partition that the live group or its shadow knows, of the topics that the shadow reads. A live group that has
# read nothing of it has no place yet; nor had the shadow anything to read there if it has no marks.
_POSITIONS = """
    with mine as (select live_group, group_name from shadows where name = %(shadow)s),
        live as (select m.live_group, o.* from mine as m join consumer_offsets as o on o.group_name = m.live_group),
        shadow as (select m.live_group, o.* from mine as m join consumer_offsets as o on o.group_name = m.group_name)
    select live_group, topic, partition, coalesce(s.next_offset, -1) as shadow,
        case
            when l.next_offset >= 0 then l.next_offset
            when exists (select from consumer_marks as m
                where (m.group_name, m.topic, m.partition) = (s.group_name, s.topic, s.partition)) then -1
            else coalesce(s.next_offset, -1)
        end as live,
        coalesce(l.topic_id = s.topic_id, true) as same_topic
    from live as l full join shadow as s using (live_group, topic, partition)
    where topic in (select topic from shadow) order by topic, partition, live_group
"""


class _NotComparable(Exception):
    """Nothing can be said of windows now; the message says why."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a live group and its shadow stand in a partition; -1: nowhere yet."""

    live_group: str
    topic: str
    partition: int
    live: int
    shadow: int
    same_topic: bool


@dataclass(frozen=True, slots=True)
class Day:
    """What one table has of one UTC day, by event time or by the windows' beginning."""

    table: str
    day: date
    same: int
    missing: int
    differing: int
    misplaced: int
    extra: int
    moving: int
    cut: int
    examples: list[str] = field(default_factory=list)
    """Event ids of up to five rows that are not the same, or what windows are of."""

    @property
    def differences(self) -> int:
        return self.missing + self.differing + self.misplaced + self.extra


@dataclass(frozen=True, slots=True)
class Seen:
    """What was compared, and in ``unsaid`` why something could not be."""

    days: list[Day]
    unsaid: str = ""


def groups(connection: Connection, shadow: str) -> dict[str, str]:
    """Live group and the one that writes into the shadow; raises `SettingError` when there is no such shadow."""
    found = connection.execute("select live_group, group_name from shadows where name = %s", [shadow]).fetchall()
    if not found:
        raise SettingError(f"there is no {shadow}; 'sentio shadow list' shows which there are")
    return dict(found)


def positions(connection: Connection, shadow: str) -> list[Position]:
    """Raises `Fatal` when a topic was made anew between the two."""
    with connection.cursor(row_factory=class_row(Position)) as cursor:
        found = cursor.execute(_POSITIONS, {"shadow": shadow}).fetchall()
    for each in found:
        if not each.same_topic:
            raise Fatal(
                f"{each.topic}[{each.partition}] is another topic for {shadow} than for group {each.live_group};"
                f" 'sentio shadow drop {shadow}', then begin anew"
            )
    return found


class Comparison:
    """One look at live tables and shadow; ``range`` narrows it to event times (from, to), either may be None."""

    def __init__(
        self, connection: Connection, prefix: str, shadow: str, range_: tuple[datetime | None, datetime | None]
    ) -> None:
        self._connection = connection
        self._connection.isolation_level = IsolationLevel.REPEATABLE_READ
        self._connection.read_only = True
        self._prefix = prefix
        self._shadow = shadow
        self._range = dict(zip(("from", "to"), range_, strict=True))
        self.positions: list[Position] = []

    def begin(self, wait_s: float) -> None:
        """Begin the snapshot at a moment when all stand at the same offsets, or when ``wait_s`` is over."""
        until_s = time.monotonic() + wait_s
        while True:
            self._groups = groups(self._connection, self._shadow)
            self.positions = positions(self._connection, self._shadow)
            if time.monotonic() >= until_s or not any(each.live != each.shadow for each in self.positions):
                return
            self._connection.rollback()
            time.sleep(AGAIN_S)

    def look(self) -> Seen:
        """Compare each table, day by day."""
        days: list[Day] = []
        try:
            for day in self._days():
                days.append(day)  # noqa: PERF402 - what came before windows that cannot be compared is kept
        except _NotComparable as failure:
            return Seen(days, str(failure))
        return Seen(days)

    def _days(self) -> Iterator[Day]:
        if "store" in self._groups:
            for topic in stored_topics():
                query = differing.rows(topic, self._prefix, "store", self._groups["store"], self._shadow)
                yield from self._by_day(topic.table or "", query, "at", "event_id")
        if "aggregates" in self._groups:
            yield from self._windows()

    def _windows(self) -> Iterator[Day]:
        if "store" not in self._groups:
            raise _NotComparable(without_store(self._shadow))
        if apart := [each for each in self.positions if each.live_group == "aggregates" and each.live != each.shadow]:
            raise _NotComparable(f"windows are compared where both groups have read the same; {said(apart[0])}")
        query = differing.windows(self._prefix, self._groups["store"], self._groups["aggregates"], self._shadow)
        yield from self._by_day("windows", query, "start_at", "concat_ws(' ', kind, account, strategy, symbol)")

    def _by_day(self, table: str, query: sql.Composed, at: str, named: str) -> Iterator[Day]:
        kinds = ("same", *DIFFERENCES, "moving", "cut")
        statement = sql.SQL(
            "select {table} as table, {at}::date as day, {counts},"
            " coalesce((array_agg({named}::text order by {at})"
            " filter (where what = any(%(differences)s)))[1:5], '{{}}') as examples from ({query}) as compared"
            " where what <> 'older' and {at} >= coalesce(%(from)s::timestamptz, '-infinity')"
            " and {at} < coalesce(%(to)s::timestamptz, 'infinity') group by 2 order by 2"
        ).format(
            table=sql.Literal(table),
            at=sql.Identifier(at),
            named=sql.SQL(named),
            query=query,
            counts=sql.SQL(", ").join(
                sql.SQL("count(*) filter (where what = {kind}) as {name}").format(
                    kind=sql.Literal(kind), name=sql.Identifier(kind)
                )
                for kind in kinds
            ),
        )
        values: dict[str, Any] = {**self._range, "differences": list(DIFFERENCES)}
        with self._connection.cursor(row_factory=dict_row) as cursor:
            for row in cursor.execute(statement, values).fetchall():
                yield Day(**row)


def said(position: Position) -> str:
    """Where the two stand, in words."""
    return (
        f"in {position.topic}[{position.partition}] {position.live_group} is at {position.live}, its shadow at"
        f" {position.shadow}; 'sentio lag' shows more, --wait gives them more time"
    )


def without_store(shadow: str) -> str:
    return (
        f"{shadow} has windows and no events, which say what windows are whole in it: sentio run store --into {shadow}"
    )
