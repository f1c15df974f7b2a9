"""What a message's bytes say field by field, as far as they can be read: for people who look at dead letters."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from typing import Any, NamedTuple
from uuid import UUID

import fastavro

from schemas.codec_fastavro import Unusable, field_end
from schemas.layout import FRAME, MAGIC, layout
from schemas.registry import Version, locked

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_BYTES = 64
"""Of a decimal that is shown as a number."""


class Piece(NamedTuple):
    """One field, in bytes [first, end) of the message."""

    name: str
    value: Any
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Dissection:
    """The fields up to the first that cannot be read, and why there are no more."""

    version: Version | None
    pieces: tuple[Piece, ...]
    reason: str | None


def dissect(message: bytes | None) -> Dissection:
    """Read a framed message in the schema it was written in, whatever the limits of its values."""
    if message is None:
        return Dissection(None, (), "no value")
    if len(message) < FRAME.size or message[0] != MAGIC:
        return Dissection(None, (), "not framed Avro: it does not start with byte 0 and a 4-byte schema id")
    (_, schema_id) = FRAME.unpack_from(message)
    version = locked().get(schema_id)
    if version is None:
        return Dissection(None, (), f"unknown schema id {schema_id}")
    pieces: list[Piece] = []
    at = FRAME.size
    for field, written in zip(layout(version.schema, version.schema), version.schema["fields"], strict=True):
        try:
            end = field_end(version.event, field, message, at)
        except Unusable as failure:
            return Dissection(version, tuple(pieces), str(failure))
        pieces.append(Piece(field.name, _value(written["type"], message[at:end]), at, end))
        at = end
    left = len(message) - at
    return Dissection(version, tuple(pieces), f"{left} bytes after the end of the Avro body" if left else None)


def _value(kind: Any, body: bytes) -> Any:
    """A field's value; bytes or a number where its type has no room for it."""
    kinds = kind if isinstance(kind, list) else [kind]
    plain = [_without_logical_type(each) for each in kinds]
    parsed = fastavro.parse_schema(plain if isinstance(kind, list) else plain[0])
    value: Any = fastavro.schemaless_reader(BytesIO(body), parsed, None)
    match kinds[-1], value:
        case {"logicalType": "timestamp-micros"}, int():
            with suppress(OverflowError):
                return _EPOCH + timedelta(microseconds=value)
        case {"logicalType": "decimal", "scale": int(scale)}, bytes() if len(value) <= _MOST_BYTES:
            return Decimal(f"{int.from_bytes(value, signed=True)}E-{scale}")
        case {"logicalType": "uuid"}, bytes():
            return UUID(bytes=value)
    return value


def _without_logical_type(kind: Any) -> Any:
    return {name: part for name, part in kind.items() if name != "logicalType"} if isinstance(kind, dict) else kind
