"""The same events as the log, the tables and the client have them, made comparable. Shares no code with the pipeline.

The log is read with a plain consumer and plain fastavro, by the schema files themselves.
"""

import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import fastavro
import psycopg
from confluent_kafka import Consumer, TopicPartition

Event = dict[str, Any]
"""Field values in one form for all: Decimal normalized, times aware UTC datetimes, event_id UUID text."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SCHEMAS = Path(__file__).parents[3] / "schemas" / "avro"


def schema_of(event: str) -> dict[str, Any]:
    """The event's Avro schema as its file has it."""
    schemas = (json.loads(path.read_text()) for path in SCHEMAS.glob("*.avsc"))
    return next(schema for schema in schemas if schema["name"] == event)


def on_log(bootstrap: str, topic: str, event: str) -> tuple[dict[str, Event], int]:
    """Events of a topic by id, and how many records were repeats of one that came before."""
    schema = fastavro.parse_schema(schema_of(event))
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "reconciliation", "enable.auto.commit": False,
         "auto.offset.reset": "earliest", "isolation.level": "read_committed"}
    )  # fmt: skip
    found: dict[str, Event] = {}
    repeats = 0
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        left = {}
        for partition in partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
            if low < high:
                left[partition] = high
        consumer.assign([TopicPartition(topic, partition, 0) for partition in left])
        while left:
            message = consumer.poll(5)
            body = message.value() if message else None
            if message is None or message.error() or body is None:
                raise RuntimeError(f"reading {topic}: {message.error() if message else 'nothing came for 5 s'}")
            value: Any = fastavro.schemaless_reader(io.BytesIO(body[5:]), schema, None)
            canonical = {name: _plain(field) for name, field in value.items()}
            repeats += canonical["event_id"] in found
            found[canonical["event_id"]] = canonical
            if (message.offset() or 0) + 1 >= left.get(message.partition(), 0):
                left.pop(message.partition(), None)
    finally:
        consumer.close()
    return found, repeats


def in_table(database: str, table: str, event: str) -> dict[str, Event]:
    """Rows of a table by event id."""
    names = [field["name"] for field in schema_of(event)["fields"]]
    with psycopg.connect(database) as connection:
        rows = connection.execute(f"select {', '.join(names)} from {table}").fetchall()
    events = ({name: _plain(value) for name, value in zip(names, row, strict=True)} for row in rows)
    return {each["event_id"]: each for each in events}


def at_client(received: Mapping[str, Event], event: str) -> dict[str, Event]:
    """What a WebSocket client received, by event id: JSON text read as the schema says."""
    kinds = {field["name"]: field["type"] for field in schema_of(event)["fields"]}
    return {
        key: {name: _from_json(kinds[name], value) for name, value in each.items()} for key, each in received.items()
    }


def _plain(value: Any) -> Any:
    match value:
        case bytes():
            return str(UUID(bytes=value))
        case UUID():
            return str(value)
        case Decimal():
            return value.normalize()
        case datetime():
            return value.astimezone(UTC)
    return value


def _from_json(kind: Any, value: Any) -> Any:
    if isinstance(kind, list):
        return None if value is None else _from_json(kind[1], value)
    match kind:
        case {"logicalType": "decimal"}:
            return Decimal(value).normalize()
        case {"logicalType": "timestamp-micros"}:
            at = datetime.fromisoformat(value)
            return EPOCH + (at - EPOCH) // timedelta(microseconds=1) * timedelta(microseconds=1)
    return value
