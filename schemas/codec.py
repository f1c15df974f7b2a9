"""Kafka values to columns and back: Confluent framing (byte 0, 4-byte schema id, Avro body) on fastavro.

One bad message never spoils the others: `decode` gives it back with its place and the reason.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from io import BytesIO
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.compute as pc

from schemas.columns import arrow_schema
from schemas.registry import Schema, current, locked

MAGIC = 0
FRAME = struct.Struct(">bI")

# A time outside these years is a clock gone wrong (and the far ends break time zones and datetimes).
_FIRST_US = 0
_LAST_US = 7_258_118_400_000_000 - 1


@dataclass(frozen=True, slots=True)
class Decoded:
    """What `decode` made of N messages: ``records`` has a row for each entry of ``kept``, in order."""

    records: pa.RecordBatch
    kept: tuple[int, ...]
    """Index, among the messages given, of each row."""

    poison: tuple[tuple[int, str], ...]
    """(index, reason) of each message that cannot be used."""


def decode(event: str, messages: Sequence[bytes | None]) -> Decoded:
    """Decode the values of one topic's messages to columns of the newest schema of ``event``."""
    rows: list[dict[str, Any]] = []
    kept: list[int] = []
    poison: list[tuple[int, str]] = []
    for index, message in enumerate(messages):
        try:
            rows.append(_decode_one(event, message))
        except _Unusable as failure:
            poison.append((index, str(failure)))
        else:
            kept.append(index)
    schema = arrow_schema(event)
    arrays = [pa.array([row[field.name] for row in rows], field.type) for field in schema]
    return Decoded(pa.record_batch(arrays, schema=schema), tuple(kept), tuple(poison))


def encode(event: str, records: pa.RecordBatch) -> list[bytes]:
    """Framed Avro of each row, in the newest locked schema of ``event``."""
    version = current(event)
    writer = _parsed(version.id)
    frame = FRAME.pack(MAGIC, version.id)
    columns = {field.name: _plain_column(records.column(field.name)) for field in arrow_schema(event)}
    names = tuple(columns)
    encoded = []
    for values in zip(*columns.values(), strict=True):
        body = BytesIO()
        body.write(frame)
        fastavro.schemaless_writer(body, writer, dict(zip(names, values, strict=True)))
        encoded.append(body.getvalue())
    return encoded


class _Unusable(Exception):
    """Why one message cannot be decoded."""


def _decode_one(event: str, message: bytes | None) -> dict[str, Any]:
    if message is None:
        raise _Unusable("no value (a tombstone)")
    if len(message) < FRAME.size or message[0] != MAGIC:
        raise _Unusable("not framed Avro: it does not start with byte 0 and a 4-byte schema id")
    (_, schema_id) = FRAME.unpack_from(message)
    version = locked().get(schema_id)
    if version is None:
        raise _Unusable(f"unknown schema id {schema_id}")
    if version.event != event:
        raise _Unusable(f"schema id {schema_id} is {version.event}, this topic carries {event}")
    body = BytesIO(message)
    body.seek(FRAME.size)
    try:
        row = fastavro.schemaless_reader(body, _parsed(schema_id), _parsed(current(event).id))
    except (EOFError, IndexError) as failure:
        raise _Unusable(f"not {event} in Avro: the body ends too early") from failure
    except Exception as failure:  # fastavro raises many kinds on bad bytes; each means this message is unusable
        raise _Unusable(f"not {event} in Avro: {type(failure).__name__}: {failure}") from failure
    if body.tell() != len(message):
        raise _Unusable(f"{len(message) - body.tell()} bytes after the end of the Avro body")
    assert isinstance(row, dict)
    _check_ranges(event, row)
    return row


def _check_ranges(event: str, row: dict[str, Any]) -> None:
    """What Avro's bytes can say and the platform does not accept: the same rule for every reader.

    avro/*.avsc give numbers their limits: ``above``, ``from`` and ``to``.
    """
    for name, check in _checks(event):
        value = row[name]
        if value is not None and (reason := check(value)):
            raise _Unusable(f"{name} {reason}")


@cache
def _checks(event: str) -> tuple[tuple[str, Callable[[Any], str | None]], ...]:
    fields = {field["name"]: field for field in current(event).schema["fields"]}
    return tuple((column.name, partial(_reason, column.type, fields[column.name])) for column in arrow_schema(event))


def _reason(kind: pa.DataType, field: dict[str, Any], value: Any) -> str | None:  # noqa: PLR0911 - a list of rules
    """Why this value of a column cannot be used, or None."""
    if pa.types.is_string(kind):
        return "holds a NUL character" if "\0" in value else None
    if pa.types.is_timestamp(kind):
        return None if _FIRST_US <= value <= _LAST_US else "is outside the years 1970 to 2199"
    if pa.types.is_decimal(kind) and value and value.adjusted() >= kind.precision - kind.scale:
        return f"has more than {kind.precision - kind.scale} digits before the point"
    if "above" in field and not value > field["above"]:
        return f"is {value}, not above {field['above']}"
    if "from" in field and not value >= field["from"]:
        return f"is {value}, below {field['from']}"
    if "to" in field and not value <= field["to"]:
        return f"is {value}, above {field['to']}"
    return None


def _plain_column(column: pa.Array) -> list[Any]:
    plain: list[Any] = (pc.cast(column, pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()
    return plain


@cache
def _parsed(schema_id: int) -> Any:
    """The schema as fastavro wants it; timestamps stay integers, which is exact and spares a datetime each."""
    return fastavro.parse_schema(_with_plain_times(locked()[schema_id].schema))


def _with_plain_times(schema: Schema) -> Schema:
    def plain(kind: Any) -> Any:
        return "long" if isinstance(kind, dict) and kind.get("logicalType") == "timestamp-micros" else kind

    return {**schema, "fields": [{**field, "type": plain(field["type"])} for field in schema["fields"]]}
