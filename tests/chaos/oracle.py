"""What must be in the tables and among the dead letters, by the log itself: read raw, decoded by fastavro alone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from typing import Any

import fastavro
import psycopg
from confluent_kafka import Message
from psycopg import sql

from schemas.columns import arrow_schema
from schemas.registry import locked
from schemas.topics import Topic
from sentio import kafka
from sentio.kafka import Place
from sentio.letters import DEAD_SUFFIX
from tests.chaos.meddler import POISON

Letter = tuple[str, str, int, int]
"""By what a repeat of a dead letter is known: source group, topic, partition, offset."""


@dataclass(slots=True)
class Truth:
    """The log: every event once, in the order of its first appearance, and every poison message."""

    events: dict[str, dict[bytes, tuple[Any, ...]]] = field(default_factory=dict)
    """By topic name without prefix, by event id: values in the order of the event's columns."""

    poison: dict[tuple[str, int, int], bytes | None] = field(default_factory=dict)
    """By (full topic name, partition, offset)."""

    repeats: int = 0
    sequences: dict[str, set[int]] = field(default_factory=dict)
    """By producer."""

    ends: dict[Place, int] = field(default_factory=dict)

    @property
    def ids(self) -> set[bytes]:
        return {event_id for events in self.events.values() for event_id in events}


def read(bootstrap: str, names: Mapping[str, Topic], places: Iterable[Place]) -> Truth:
    """Read the whole log of these topics (by full name)."""
    spans = kafka.spans(bootstrap, places)
    truth = Truth({topic.name: {} for topic in names.values()}, ends={place: end for place, (_, end) in spans.items()})
    for messages in kafka.read(bootstrap, spans, at_most=10_000):
        for message in messages:
            topic = names[message.topic() or ""]
            if any(name == POISON for name, _ in headers(message)):
                place = (message.topic() or "", message.partition() or 0, message.offset() or 0)
                truth.poison[place] = message.value()
                continue
            row = _decode(message.value() or b"")
            known = truth.events[topic.name].setdefault(row[0], row)
            assert known == row, "two events have the same id"
            truth.repeats += known is not row
            truth.sequences.setdefault(row[1], set()).add(row[2])
    return truth


def headers(message: Message) -> list[tuple[str, Any]]:
    return list(message.headers() or [])  # type: ignore[arg-type] # a list of pairs, whatever its stubs say


def letters(bootstrap: str, names: Mapping[str, Topic]) -> dict[Letter, bytes | None]:
    """The bytes of each dead letter of these topics, however often it was sent."""
    found = {}
    spans = kafka.spans(bootstrap, [(name + DEAD_SUFFIX, 0) for name in names])
    for messages in kafka.read(bootstrap, spans):
        for message in messages:
            source = {name: text.decode() for name, text in headers(message) if name.startswith("source.")}
            place = int(source["source.partition"]), int(source["source.offset"])
            found[source["source.group"], source["source.topic"], *place] = message.value()
    return found


def differing_rows(connection: psycopg.Connection, topic: Topic, truth: Truth) -> dict[str, list[tuple[Any, ...]]]:
    """Rows of a topic's table against the log, by value of every column: what is missing, and what is too much."""
    table, names = topic.table or "", arrow_schema(topic.event).names
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    connection.execute(
        sql.SQL("create temp table truth as select {} from {} limit 0").format(columns, sql.Identifier(table))
    )
    copy = sql.SQL("copy truth ({}) from stdin").format(columns)
    with connection.cursor() as cursor, cursor.copy(copy) as stream:
        for event_id, *values in truth.events[topic.name].values():
            stream.write_row([event_id.hex(), *values])
    difference = "select * from (select {columns} from {one} except all select {columns} from {other}) as d limit 3"
    found = {}
    for what, one, other in (("missing", "truth", table), ("too much", table, "truth")):
        query = sql.SQL(difference).format(columns=columns, one=sql.Identifier(one), other=sql.Identifier(other))
        if rows := connection.execute(query).fetchall():
            found[what] = rows
    connection.execute("drop table truth")
    return found


def _decode(value: bytes) -> tuple[Any, ...]:
    schema = _schema(int.from_bytes(value[1:5], "big"))
    row = fastavro.schemaless_reader(BytesIO(value[5:]), schema)
    assert isinstance(row, dict)
    return tuple(row.values())


@cache
def _schema(schema_id: int) -> Any:
    return fastavro.parse_schema(locked()[schema_id].schema)
