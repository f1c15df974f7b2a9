"""How a ring lies in its file: what `clients/c/sentio.h` says in C, from schemas/avro. Tests hold the two equal.

A head of one page, then slots of 256 bytes: checksum, position, kind, and the fields of an event in the order of its
schema, each aligned to its own size. Numbers are little-endian, texts end with a zero byte or with their room.
"""

import hashlib
from functools import cache
from typing import Any, NamedTuple

from schemas import layout as avro
from schemas.columns import HEADER
from schemas.registry import Schema, avro_files

VERSION = 1
MAGIC = b"SENTIORG"
HEAD_BYTES = 4096
SLOT_BYTES = 256
SLOT_HEAD_BYTES = 24
WORD_BYTES = 8
LEAST_CAPACITY, MOST_CAPACITY = 64, 1 << 30

KINDS = {1: "TradeExecuted", 2: "SignalGenerated", 3: "PositionUpdated", 4: "PerformanceMinute"}
"""The number of each event in a slot."""

NULL = -(2**63)
"""In a slot, of a number that may be null; of a text that may be, nothing is."""

ROOM = {"account": 32, "strategy": 32, "symbol": 16, "reason": 64, "order_id": 40}
"""Bytes of each text, by its name."""

_C_TYPES = {"text": "char", "word": "int32_t", "int": "int32_t", "double": "double"}


class Field(NamedTuple):
    """One field of an event in its slot."""

    name: str
    shape: str
    """text, word (of an enum, counted from 1), int (32 bits), long, decimal (64 bits, unscaled), or double."""

    offset: int
    size: int
    optional: bool
    whole: tuple[int, int] | None
    """As in `schemas.layout.Branch`."""

    real: tuple[float, bool, float] | None
    words: list[str]
    suffix: str
    """Unit of its name in C: _us, _e10 and so on."""

    @property
    def scale(self) -> int:
        """Decimals of an amount."""
        return int(self.suffix.removeprefix("_e"))

    @property
    def c_name(self) -> str:
        return f"{self.name}{self.suffix}"

    @property
    def c_type(self) -> str:
        return _C_TYPES.get(self.shape, "int64_t")


@cache
def fields(event: str) -> tuple[Field, ...]:
    """The fields of an event that lie in its slot: those that publishing does not give.

    Raises KeyError for a text without `ROOM`, and ValueError for an event that no longer fits into a slot.
    """
    schema = avro_files()[event]
    limits = {field.name: field.branches[-1] for field in avro.layout(schema, schema)}
    end = SLOT_HEAD_BYTES
    found = []
    for field in schema["fields"]:
        if field["name"] not in HEADER:
            made = _field(field, limits[field["name"]], end)
            found.append(made)
            end = made.offset + made.size
    if end > SLOT_BYTES:
        raise ValueError(f"{event} takes {end} bytes, a slot of a ring has {SLOT_BYTES}")
    return tuple(found)


def slot_bytes(event: str) -> int:
    """Bytes of a slot that an event takes, a whole number of words: what its checksum is of."""
    last = fields(event)[-1]
    return -(-(last.offset + last.size) // WORD_BYTES) * WORD_BYTES


def text() -> str:
    """The layout in words; its hash is in the head of a ring, and in the header."""
    lines = []
    for number, event in KINDS.items():
        parts = [
            f"{each.c_type} {each.c_name}[{each.size}]@{each.offset}{'|'.join(each.words)}" for each in fields(event)
        ]
        lines.append(f"{number} {event}: {', '.join(parts)}\n")
    return "".join(lines)


@cache
def layout_hash() -> int:
    """Of 64 bits, from the layout in words."""
    return int.from_bytes(hashlib.sha256(text().encode()).digest()[:8])


def _field(field: Schema, limits: avro.Branch, end: int) -> Field:
    kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
    shape, size, suffix = _shape(field["name"], kinds[-1])
    if kinds[:-1] not in ([], ["null"]):
        raise TypeError(f"a ring has no place for the Avro union of {field['name']}")
    align = 1 if shape == "text" else size
    offset = -(-end // align) * align
    return Field(
        field["name"],
        shape,
        offset,
        size,
        len(kinds) > 1,
        limits.whole if shape in {"int", "long", "decimal"} else None,
        limits.real,
        avro.symbols(field),
        suffix,
    )


def _shape(name: str, kind: Any) -> tuple[str, int, str]:
    match kind:
        case "string":
            return "text", ROOM[name], ""
        case {"logicalType": "decimal"}:
            return "decimal", 8, f"_e{kind['scale']}"
        case {"logicalType": "timestamp-micros"}:
            return "long", 8, "_us"
        case {"type": "enum"}:
            return "word", 4, ""
        case "int":
            return "int", 4, ""
        case "long" | "double":
            return kind, 8, ""
    raise TypeError(f"a ring has no place for the Avro type {kind} of {name}")
