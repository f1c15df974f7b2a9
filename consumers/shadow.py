"""Shadows: what a group has written, written again from the log beside it, in a schema, offsets and marks of its own.

The group's own code does it; here is what is different about it. Comparing and swapping are commands (`sentio.cli`).
"""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

import polars as pl
from confluent_kafka import Consumer as KafkaConsumer
from psycopg import Connection, sql

from consumers.consumer import Fenced
from consumers.sink import DatabaseConsumer
from schemas.topics import topics
from sentio import database, kafka, log
from sentio.batch import Batch
from sentio.config import Settings
from sentio.errors import Fatal, Retryable, SettingError
from sentio.kafka import Place

NAME = re.compile(r"^shadow_[a-z0-9_]{1,43}$")  # with a margin to PostgreSQL's 63 bytes of a name
LOCK = 0x53484457  # "SHDW": one member makes the shadow, the others wait
LOOK_EVERY_S = 1.0
FORGOTTEN_S = 60.0  # more than a session of a member that was killed


@dataclass(frozen=True, slots=True)
class Shadow:
    """A shadow by name, and from when on it is to be filled; None: from the oldest record of the log.

    Raises `SettingError` for a name that is none.
    """

    name: str
    since: datetime | None = None

    def __post_init__(self) -> None:
        if not NAME.match(self.name):
            raise SettingError(
                f"{self.name}: a shadow is named shadow_ and up to 43 of a-z, 0-9 and _, such as shadow_week"
            )


def into(kind: type[DatabaseConsumer], shadow: Shadow) -> type[DatabaseConsumer]:
    """The consumer that does the same in a shadow, as the group ``<name>.<shadow>``."""
    made: Any = type(
        f"{kind.__name__}InShadow",
        (InShadow, kind),
        {"name": f"{kind.name}.{shadow.name}", "schema": shadow.name, "live": kind.name, "shadow": shadow},
    )
    return made  # type: ignore[no-any-return] # made here


class InShadow(DatabaseConsumer):
    """Before a consumer's class: writes its tables in a shadow. It ends when the shadow is swapped or dropped."""

    live: ClassVar[str]
    shadow: ClassVar[Shadow]

    _look_s = 0.0

    def prepare(self) -> None:
        with (
            database.outages_are_retryable(),
            database.connect(self._settings.database, name=f"{self.name}-begin") as connection,
        ):
            connection.execute("select pg_advisory_xact_lock(%s)", [LOCK])
            known = connection.execute("select from_at from shadows where group_name = %s", [self.name]).fetchone()
            if known is None:
                self._make(connection)
            elif self.shadow.since not in (None, known[0]):
                raise SettingError(
                    f"--from: {self.shadow.name} is begun, from {known[0] or 'the oldest record'}; leave --from out to"
                    f" go on with it, or begin anew after 'sentio shadow drop {self.shadow.name}'"
                )

    def assigned(self, topic_ids: Mapping[Place, str]) -> Mapping[Place, int]:
        with self.transaction() as connection:
            self._hold(connection)
            return super().assigned(topic_ids)

    def process(self, batch: Batch) -> None:
        try:
            super().process(batch)
        except Fenced:
            self._look()
            raise

    def write(self, connection: Connection, batch: Batch) -> None:
        self._hold(connection)
        super().write(connection, batch)
        if batch.redrive_topic is None:  # its places say nothing of the log
            self._note_firsts(connection, batch)

    def idle(self) -> None:
        super().idle()
        if time.monotonic() >= self._look_s:
            self._look_s = time.monotonic() + LOOK_EVERY_S
            self._look()

    def _look(self) -> None:
        with self.transaction() as connection:
            self._hold(connection)

    def _hold(self, connection: Connection) -> None:
        """Keep the shadow until the transaction ends: without it the names of its tables are those of live ones."""
        if not connection.execute("select from shadows where group_name = %s for key share", [self.name]).rowcount:
            raise Fatal(f"{self.shadow.name} is no more: it was swapped or dropped; nothing is left to do here")

    def _make(self, connection: Connection) -> None:
        places = self._starts()
        connection.execute(
            "insert into shadows (name, live_group, group_name, from_at) values (%s, %s, %s, %s)",
            [self.shadow.name, self.live, self.name, self.shadow.since],
        )
        connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(self.shadow.name)))
        for table in self.tables:
            connection.execute("select sentio_shadow_table(%s, %s)", [self.shadow.name, table])
        for (topic, partition), (topic_id, first) in sorted(places.items()):
            connection.execute(
                "insert into consumer_offsets (group_name, topic, partition, generation, next_offset, topic_id)"
                " values (%s, %s, %s, 0, %s, %s)",
                [self.name, topic, partition, first, topic_id],
            )
        log.get().info("shadow begun", shadow=self.shadow.name, of=self.live, since=str(self.shadow.since))

    def _starts(self) -> dict[Place, tuple[str, int]]:
        """Topic id, and first offset to read, of each partition."""
        names = [topics()[name].full_name(self._settings.topic_prefix) for name in self.topics]
        states = kafka.describe(self._settings.kafka, names)
        places = [(name, partition) for name, state in states.items() for partition in range(state.partitions)]
        firsts = _firsts(self._settings.kafka, places, self.shadow.since)
        return {place: (states[place[0]].id, firsts[place]) for place in places}

    def _note_firsts(self, connection: Connection, batch: Batch) -> None:
        """Where each producer's records begin in the shadow's range, for whoever compares older rows with it."""
        rows = pl.DataFrame(
            {
                "partition": batch.partitions,
                "producer": batch.records["producer"],
                "sequence": batch.records["sequence"],
            }
        )
        firsts = rows.group_by("partition", "producer").agg(pl.col("sequence").first()).sort("partition", "producer")
        connection.execute(
            "insert into shadow_firsts (group_name, topic, partition, producer, sequence)"
            " select %s, %s, * from unnest(%s::int[], %s::text[], %s::bigint[]) on conflict do nothing",
            [self.name, batch.topic.full_name(self._settings.topic_prefix), *(each.to_list() for each in firsts)],
        )


def drop(connection: Connection, name: str) -> list[str]:
    """Forget a shadow: tables, offsets and marks, in the caller's transaction. Its groups, for `forget` after that."""
    found = connection.execute("select group_name from shadows where name = %s", [name]).fetchall()
    groups = [group for (group,) in found]
    # In the order in which members lock them: a batch of theirs is finished, or finds that it has no place any more.
    connection.execute(
        "select from consumer_offsets where group_name = any(%s) order by topic, partition for update", [groups]
    )
    for table in ("consumer_offsets", "consumer_marks", "consumer_refused", "consumer_redriven", "shadows"):
        connection.execute(f"delete from {table} where group_name = any(%s)", [groups])
    connection.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(name)))
    return groups


def forget(settings: Settings, groups: Iterable[str]) -> str | None:
    """Have Kafka forget the groups of a shadow that is gone, so that nobody takes them for groups that are behind.

    Their processes end by themselves; one that was killed is a member until its session is over, and is waited for.
    Returns what could not be done, None if nothing: the shadow is gone all the same.
    """
    until_s = time.monotonic() + FORGOTTEN_S
    for name in groups:
        group = f"{settings.topic_prefix}.{name}"
        try:
            while not kafka.forget_group(settings.kafka, group):
                if time.monotonic() >= until_s:
                    return f"group {group} has members in Kafka still, and is seen by 'sentio lag': are they running?"
                time.sleep(LOOK_EVERY_S / 4)
        except Retryable as failure:
            return f"group {group} is seen by 'sentio lag' still: {failure}"
    return None


def _firsts(bootstrap: str, places: Sequence[Place], since: datetime | None) -> dict[Place, int]:
    if since is None:
        return {place: oldest for place, (oldest, _) in kafka.spans(bootstrap, places).items()}
    client = KafkaConsumer(kafka.reader(bootstrap, name="sentio-shadow"))
    try:
        return kafka.offsets_at(client, places, int(since.timestamp() * 1000))
    finally:
        client.close()
