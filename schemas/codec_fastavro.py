"""The codec in Python, on fastavro: stands in where the native one is not built, and says why a message is unusable.

fastavro takes what Avro does not allow (an index of -1, a number of 90 bits), so the shape of each message is walked
first. native/src/check.rs does the same walk; tests hold the two equal.
"""

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from functools import partial
from io import BytesIO
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.compute as pc

from schemas.amounts import EXACT
from schemas.columns import columns_of
from schemas.layout import FIRST_US, FRAME, LAST_US, MAGIC, Field, layout
from schemas.registry import Schema, Version, locked

# Of a varint: the bit that says that a byte follows, and where the tenth byte's bits go.
_MORE = 0x80
_LAST_SHIFT = 63


class Unusable(Exception):
    """Why one message cannot be decoded. ``kind`` is one of those that native/src/codec.rs names."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Codec:
    """Decodes and encodes the messages of one event."""

    def __init__(self, newest: Version, versions: Iterable[Version]) -> None:
        self._newest = newest
        self._columns = columns_of(newest.schema)
        self._writers = {
            version.id: (layout(version.schema, newest.schema), _parsed(version.schema)) for version in versions
        }
        self._reader = _parsed(newest.schema)
        fields = {field["name"]: field for field in newest.schema["fields"]}
        self._checks = [(column.name, partial(_reason, column.type, fields[column.name])) for column in self._columns]

    def decode(
        self, messages: Sequence[bytes | None]
    ) -> tuple[pa.RecordBatch, Sequence[int], list[tuple[int, Unusable]]]:
        """Columns, the index of each of their rows, and what is unusable."""
        rows: list[dict[str, Any]] = []
        kept: list[int] = []
        poison: list[tuple[int, Unusable]] = []
        for index, message in enumerate(messages):
            try:
                rows.append(self.decode_one(message))
            except Unusable as failure:
                poison.append((index, failure))
            else:
                kept.append(index)
        arrays = [pa.array([row[field.name] for row in rows], field.type) for field in self._columns]
        return pa.record_batch(arrays, schema=self._columns), kept, poison

    def decode_one(self, message: bytes | None) -> dict[str, Any]:
        """One message's values by column, times as microseconds since 1970 UTC. Raises `Unusable`."""
        if message is None:
            raise Unusable("no value", "no value (a tombstone)")
        if len(message) < FRAME.size or message[0] != MAGIC:
            raise Unusable("unframed", "not framed Avro: it does not start with byte 0 and a 4-byte schema id")
        (_, schema_id) = FRAME.unpack_from(message)
        if schema_id not in self._writers:
            raise Unusable("unknown id", self._unknown(schema_id))
        (fields, writer) = self._writers[schema_id]
        event = self._newest.event
        end = _walk(event, fields, message)
        if end < len(message):
            raise Unusable("trailing", f"{len(message) - end} bytes after the end of the Avro body")
        body = BytesIO(message)
        body.seek(FRAME.size)
        try:
            row = fastavro.schemaless_reader(body, writer, self._reader)
        except Exception as failure:  # what has its shape and does not resolve, e.g. a symbol that the reader lacks
            raise Unusable("out of range", f"not {event} in Avro: {type(failure).__name__}: {failure}") from failure
        assert isinstance(row, dict)
        for name, check in self._checks:
            value = row[name]
            if value is not None and (reason := check(value)):
                raise Unusable("out of range", f"{name} {reason}")
        return row

    def encode(self, records: pa.RecordBatch) -> list[bytes]:
        """Framed Avro of each row, in the newest schema."""
        frame = FRAME.pack(MAGIC, self._newest.id)
        names = self._columns.names
        encoded = []
        for values in zip(*(_plain_column(records.column(name)) for name in names), strict=True):
            body = BytesIO()
            body.write(frame)
            fastavro.schemaless_writer(body, self._reader, dict(zip(names, values, strict=True)))
            encoded.append(body.getvalue())
        return encoded

    def _unknown(self, schema_id: int) -> str:
        other = locked().get(schema_id)
        if other is None:
            return f"unknown schema id {schema_id}"
        return f"schema id {schema_id} is {other.event}, this topic carries {self._newest.event}"


# --- the shape of a message ----------------------------------------------------------------------------------------


def _walk(event: str, fields: Sequence[Field], message: bytes) -> int:
    """Where the record ends that begins behind the frame. Raises `Unusable`."""
    at = FRAME.size
    for field in fields:
        at = field_end(event, field, message, at)
    return at


def field_end(event: str, field: Field, message: bytes, at: int) -> int:
    """Where a field ends that begins ``at`` a place. Raises `Unusable`."""
    name, is_union, branches = field
    try:
        chosen = 0
        if is_union:
            chosen, at = _index(message, at, len(branches))
        shape, size, *_ = branches[chosen]
        return _SHAPES[shape](message, at, size)
    except IndexError as failure:
        raise Unusable("malformed", f"not {event} in Avro: the body ends too early, in {name}") from failure
    except ValueError as failure:
        raise Unusable("malformed", f"not {event} in Avro: {name}: {failure}") from failure


def _index(message: bytes, at: int, size: int) -> tuple[int, int]:
    index, at = _long(message, at)
    if not 0 <= index < size:
        raise ValueError(f"{index} is not one of {size}")
    return index, at


def _long(message: bytes, at: int) -> tuple[int, int]:
    """A zig-zag varint of at most 64 bits in at most ten bytes, and where it ends."""
    value = shift = 0
    while (byte := message[at]) & _MORE:
        value |= (byte & ~_MORE) << shift
        shift += 7
        at += 1
        if shift > _LAST_SHIFT:
            raise ValueError("a number of more than ten bytes")
    value |= byte << shift
    if value >> 64:
        raise ValueError("a number of more than 64 bits")
    return (value >> 1) ^ -(value & 1), at + 1


def _int(message: bytes, at: int, _: int) -> int:
    value, at = _long(message, at)
    if not -(2**31) <= value < 2**31:
        raise ValueError("an int of more than 32 bits")
    return at


def _counted(message: bytes, at: int, _: int) -> int:
    size, at = _long(message, at)
    if size < 0:
        raise ValueError(f"a length of {size}")
    return _fixed(message, at, size)


def _string(message: bytes, at: int, _: int) -> int:
    end = _counted(message, at, 0)
    _, begin = _long(message, at)
    message[begin:end].decode()
    return end


def _fixed(message: bytes, at: int, size: int) -> int:
    if at + size > len(message):
        raise IndexError
    return at + size


def _boolean(message: bytes, at: int, _: int) -> int:
    if message[at] > 1:
        raise ValueError("a boolean is 0 or 1")
    return at + 1


_SHAPES: dict[str, Callable[[bytes, int, int], int]] = {
    "null": lambda _, at, __: at,
    "boolean": _boolean,
    "int": _int,
    "long": lambda message, at, _: _long(message, at)[1],
    "float": lambda message, at, _: _fixed(message, at, 4),
    "double": lambda message, at, _: _fixed(message, at, 8),
    "bytes": _counted,
    "decimal": _counted,
    "string": _string,
    "fixed": _fixed,
    "enum": lambda message, at, size: _index(message, at, size)[1],
}


# --- its values ----------------------------------------------------------------------------------------------------


def _reason(kind: pa.DataType, field: Schema, value: Any) -> str | None:  # noqa: PLR0911 - a list of rules
    """Why the platform does not accept this value of a column, or None."""
    if pa.types.is_string(kind):
        return "holds a NUL character" if "\0" in value else None
    if pa.types.is_timestamp(kind):
        return None if FIRST_US <= value <= LAST_US else "is outside the years 1970 to 2199"
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
    if pa.types.is_timestamp(column.type):
        column = pc.cast(column, pa.int64())
    plain: list[Any] = column.to_pylist()
    if pa.types.is_decimal(column.type):
        return [None if value is None else _shortest(value, column.type.scale) for value in plain]
    return plain


def _shortest(value: Decimal, scale: int) -> bytes:
    """Two's complement as short as can be; fastavro's own writes -128 in two bytes."""
    unscaled = int(EXACT.scaleb(value, scale))
    return unscaled.to_bytes((unscaled + (unscaled < 0)).bit_length() // 8 + 1, "big", signed=True)


def _parsed(schema: Schema) -> Any:
    """The schema as fastavro wants it; timestamps stay integers, which is exact and spares a datetime each."""
    return fastavro.parse_schema(_with_plain_times(schema))


def _with_plain_times(schema: Schema) -> Schema:
    def plain(kind: Any) -> Any:
        return "long" if isinstance(kind, dict) and kind.get("logicalType") == "timestamp-micros" else kind

    return {**schema, "fields": [{**field, "type": plain(field["type"])} for field in schema["fields"]]}
