"""The work of `sentio swap`: what a shadow has read replaces the same range of the live tables, in one transaction.

Only rows that differ are touched. Readers see the tables before or after; writers wait. Windows: `sentio.cli.rolling`.
"""

import time

from psycopg import Connection, sql

from consumers import shadow as shadows
from consumers.replay import table as replay
from consumers.store import upkeep
from schemas.columns import arrow_schema
from schemas.topics import Topic, stored_topics
from sentio.cli import differing
from sentio.cli.comparing import AGAIN_S, DIFFERENCES, Position, groups, positions, said, without_store
from sentio.cli.rolling import Swapped, swap_windows
from sentio.errors import Fatal

LOCK_TIMEOUT_S = 30.0
HELD_S = 15.0  # how long live groups are kept waiting for a shadow that is a little behind

_OFFSETS = """
    insert into consumer_offsets as o
        (group_name, topic, partition, generation, next_offset, topic_id, swapped, noted_from, noted_to)
    select live_group, topic, partition, 1, next_offset, topic_id, true, noted_from, noted_to
    from consumer_offsets join shadows using (group_name) where name = %(shadow)s
    on conflict (group_name, topic, partition) do update set generation = o.generation + 1,
        next_offset = excluded.next_offset, topic_id = excluded.topic_id, swapped = true, updated_at = now(),
        noted_from = least(case when o.noted_to = o.next_offset then o.noted_from end, excluded.noted_from),
        noted_to = excluded.noted_to
"""
# A shadow that began in the middle of repeats has a lower mark of their producer than there was before.
_MARKS = """
    insert into consumer_marks as m (group_name, topic, partition, producer, sequence)
    select live_group, topic, partition, producer, sequence
    from consumer_marks join shadows using (group_name) where name = %(shadow)s
    on conflict (group_name, topic, partition, producer)
    do update set sequence = greatest(m.sequence, excluded.sequence), updated_at = now()
"""
# What the live group refused of the range, the shadow may have taken; and what it refused is missing now.
_REFUSED = (
    """
    delete from consumer_refused as r using shadows as s join consumer_offsets as o using (group_name)
    where s.name = %(shadow)s and r.group_name = s.live_group and (r.topic, r.partition) = (o.topic, o.partition)
        and r.record_offset >= o.noted_from
    """,
    """
    insert into consumer_refused (group_name, topic, partition, record_offset, topic_id, noted_at)
    select live_group, topic, partition, record_offset, topic_id, noted_at
    from consumer_refused join shadows using (group_name) where name = %(shadow)s on conflict do nothing
    """,
    """
    insert into consumer_redriven
        (group_name, event_id, topic, applied_at, origin_topic, origin_partition, origin_offset)
    select live_group, event_id, topic, applied_at, origin_topic, origin_partition, origin_offset
    from consumer_redriven join shadows using (group_name) where name = %(shadow)s on conflict do nothing
    """,
)
# Records that a shadow refused, and that were not redriven to it, where the live group did not refuse them, or was
# redriven them. Of those from before refusals were noted the live group may have every one.
_LACKING = """
    select s.live_group, count(*) filter (where live.group_name is null), count(*)
    from shadows as s join consumer_refused as r using (group_name)
    join consumer_offsets as o on (o.group_name, o.topic, o.partition) = (s.live_group, r.topic, r.partition)
    left join consumer_refused as live on (live.group_name, live.topic, live.partition, live.record_offset)
        = (s.live_group, r.topic, r.partition, r.record_offset)
    left join consumer_redriven as again
        on (again.group_name, again.origin_topic, again.origin_partition, again.origin_offset)
        = (s.live_group, r.topic, r.partition, r.record_offset)
    where s.name = %(shadow)s and r.record_offset < o.next_offset
        and (live.group_name is null or again.group_name is not null)
        and not exists (select from consumer_redriven as d where d.group_name = r.group_name
            and (d.origin_topic, d.origin_partition, d.origin_offset) = (r.topic, r.partition, r.record_offset))
    group by s.live_group
"""


class _NotNow(Exception):
    """Nothing was done; another moment may do."""


def lacking(connection: Connection, shadow: str, *, remove_extra: bool, without_refused: bool) -> str | None:
    """What a swap would lose that live groups have, since the shadow refused it; None if nothing.

    The store keeps such rows, unless extra ones are to go: nobody can tell the two apart. Statistics are as the
    shadow has them.
    """
    found = connection.execute(_LACKING, {"shadow": shadow}).fetchall()
    for live_group, taken, taken_or_redriven in found:
        count = taken if live_group == "store" else taken_or_redriven
        if not count or (not remove_extra if live_group == "store" else without_refused):
            continue
        instead = "leave --remove-extra out" if live_group == "store" else "swap --without-refused, and they are lost"
        return (
            f"{shadow} has refused {count:,} records that {live_group} has: redrive or edit them first"
            f" ('sentio dead list --group {live_group}.{shadow}'), or {instead}"
        )
    return None


class Swap:
    """One swap. ``remove_extra``: what the log does not explain goes, too.

    ``without_refused``: statistics may lack what live groups have and the shadow has refused.
    """

    def __init__(
        self, connection: Connection, prefix: str, shadow: str, *, remove_extra: bool, without_refused: bool = False
    ) -> None:
        self._connection = connection
        self._connection.autocommit = True
        self._prefix = prefix
        self._shadow = shadow
        self._remove_extra = remove_extra
        self._without_refused = without_refused
        self._groups = groups(connection, shadow)
        self.gone: list[str] = []
        """Groups of the shadow, once it is swapped: Kafka knows of them still."""

        if "store" not in self._groups:
            raise Fatal(without_store(shadow))

    def run(self, wait_s: float) -> list[Swapped]:
        """What was done to each table. Raises `Fatal`, and nothing is done, when the shadow is not level in time."""
        until_s = time.monotonic() + wait_s
        while True:
            try:
                self._await_shadow(max(0.0, until_s - time.monotonic()))
                return self._attempt()
            except _NotNow as failure:
                if time.monotonic() >= until_s:
                    raise Fatal(str(failure)) from None
            time.sleep(AGAIN_S)

    def _attempt(self) -> list[Swapped]:
        with self._connection.transaction():
            held = self._hold()
            found = lacking(
                self._connection,
                self._shadow,
                remove_extra=self._remove_extra,
                without_refused=self._without_refused,
            )
            if found:
                raise Fatal(found)
            for statement in (*_REFUSED, _OFFSETS, _MARKS):
                self._connection.execute(statement, {"shadow": self._shadow})
            done = [self._swap_rows(topic) for topic in stored_topics()]
            if "aggregates" in self._groups:
                done.append(self._swap_windows(held))
            self.gone = shadows.drop(self._connection, self._shadow)
        return done

    def _swap_windows(self, held: list[Position]) -> Swapped:
        ahead = any(each.live_group == "aggregates" and each.shadow > each.live for each in held)
        query = differing.windows(self._prefix, self._groups["store"], self._groups["aggregates"], self._shadow)
        done = swap_windows(self._connection, query, self._shadow, ahead=ahead, remove_extra=self._remove_extra)
        if done is None:
            raise _NotNow(
                f"{self._shadow} is ahead of aggregates, and minutes at its beginning have events before and in it:"
                " swap where both have read the same, as when both are stopped"
            )
        return done

    def _hold(self) -> list[Position]:
        """Lock where all groups stand, so that none of them writes, at a moment when no shadow is behind."""
        limits = {"lock_timeout": f"{LOCK_TIMEOUT_S}s", "client_connection_check_interval": "1s"}
        for setting, limit in limits.items():
            self._connection.execute("select set_config(%s, %s, true)", [setting, limit])
        # Chunks and partitions stay where they are, too.
        self._connection.execute("select pg_advisory_xact_lock(%s)", [upkeep.LOCK])
        # Nor does a replay add rows that the shadow has, too.
        self._connection.execute("select pg_advisory_xact_lock(%s)", [replay.LOCK])
        self._lock(list(self._groups))
        self._await_shadow(HELD_S)
        self._lock(list(self._groups.values()))
        return positions(self._connection, self._shadow)

    def _lock(self, names: list[str]) -> None:
        """In the order in which members lock."""
        self._connection.execute(
            "select from consumer_offsets where group_name = any(%s) order by topic, partition for update", [names]
        )

    def _await_shadow(self, wait_s: float) -> None:
        until_s = time.monotonic() + wait_s
        while behind := [each for each in positions(self._connection, self._shadow) if each.shadow < each.live]:
            if time.monotonic() >= until_s:
                raise _NotNow(f"{self._shadow} is behind: {said(behind[0])}")
            time.sleep(AGAIN_S)

    def _swap_rows(self, topic: Topic) -> Swapped:
        names = {
            "table": sql.Identifier(topic.table or ""),
            "shadow": sql.Identifier(self._shadow, topic.table or ""),
            "time": sql.Identifier(topic.time),
            "columns": differing.columns(arrow_schema(topic.event).names),
            "shadow_columns": differing.columns(arrow_schema(topic.event).names, "s"),
        }
        query = differing.rows(topic, self._prefix, "store", self._groups["store"], self._shadow)
        self._connection.execute(
            sql.SQL("create temp table swapping on commit drop as select * from ({}) as compared where what = any({})")
            .format(query, sql.Literal(list(DIFFERENCES)))
        )  # fmt: skip
        gone = ["differing", "misplaced", *(["extra"] if self._remove_extra else [])]
        self._connection.execute(
            sql.SQL(
                "delete from {table} as l using swapping where l.{time} = at and l.event_id = swapping.event_id"
                " and what = any(%s)"
            ).format(**names),
            [gone],
        )
        self._connection.execute(
            "select sentio_partition_for(%(table)s, %(time)s, span, %(width)s)"
            " from (select distinct date_trunc(%(width)s, at, 'UTC') as span from swapping where what = 'missing')"
            " as spans",
            {"table": topic.table, "time": topic.time, "width": topic.partition_width},
        )
        self._connection.execute(
            sql.SQL(
                "insert into {table} ({columns}) select {shadow_columns} from {shadow} as s join swapping"
                " on s.{time} = at and s.event_id = swapping.event_id where what in ('missing', 'differing')"
            ).format(**names)
        )
        found = self._connection.execute("select what, count(*) from swapping group by what").fetchall()
        self._connection.execute("drop table swapping")
        return Swapped.of(topic.table or "", dict(found), remove_extra=self._remove_extra)
