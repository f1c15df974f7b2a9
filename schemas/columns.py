"""Events as columns: the Arrow schema of each event, and typed events to and from a RecordBatch."""

from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import Any

import pyarrow as pa

from schemas import events
from schemas.registry import Schema, avro_files

_PLAIN = {
    "string": pa.string(),
    "long": pa.int64(),
    "int": pa.int32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
}


HEADER = tuple(field.name for field in fields(events.Event))
"""Columns of every event that publishing fills in, in their order."""


@cache
def arrow_schema(event: str) -> pa.Schema:
    """Arrow schema of an event's columns; enums are strings, event ids fixed_size_binary(16)."""
    return columns_of(avro_files()[event])


def columns_of(schema: Schema) -> pa.Schema:
    """Arrow schema of a record's fields; raises TypeError for an Avro type that no event of the house uses."""
    return pa.schema(_field(field) for field in schema["fields"])


def _field(field: dict[str, Any]) -> pa.Field:
    kind = field["type"]
    optional = isinstance(kind, list)
    return pa.field(field["name"], _type(kind[1] if optional else kind), nullable=optional)


def _type(kind: Any) -> pa.DataType:
    if isinstance(kind, str):
        return _PLAIN[kind]
    match kind:
        case {"logicalType": "decimal"}:
            return pa.decimal128(kind["precision"], kind["scale"])
        case {"logicalType": "timestamp-micros"}:
            return pa.timestamp("us", tz="UTC")
        case {"type": "fixed"}:
            return pa.binary(kind["size"])
        case {"type": "enum"}:
            return pa.string()
    raise TypeError(f"no Arrow type for the Avro type {kind}")


def from_events(batch: Sequence[events.Event], **headers: Sequence[Any]) -> pa.RecordBatch:
    """Columns of events of one type, not empty; ``headers`` replaces whole columns (event_id, sequence, …).

    Raises pyarrow.ArrowInvalid or ArrowTypeError when a value does not fit its column exactly, e.g. a
    price with more than ten decimals: nothing is ever rounded here.
    """
    event = type(batch[0]).__name__
    schema = arrow_schema(event)
    given = {name: column for name, column in headers.items() if column}
    own = [name for name in schema.names if name not in given]
    # One call an event reads all its fields, in C; field by field costs more than the conversion does.
    rows = map(attrgetter(*own), batch)
    columns = given | (dict(zip(own, zip(*rows, strict=True), strict=True)) if len(own) > 1 else {own[0]: list(rows)})
    arrays = [pa.array(columns[field.name], field.type) for field in schema]
    return pa.record_batch(arrays, schema=schema)


def to_events(records: pa.RecordBatch, event: str) -> list[events.Event]:
    """Typed events of a batch's rows."""
    kind = events.EVENTS[event]
    return [kind(**row) for row in records.to_pylist()]
