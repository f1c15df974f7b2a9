"""Slots of a ring to messages, and what is wrong with those that cannot be used. Knows nothing of files.

Native where `native/` is built, else in Python: the same results for some fifty times the CPU.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from struct import Struct
from typing import Any
from uuid import UUID

import pyarrow as pa

from producers.sidecar.layout import KINDS, NULL, SLOT_BYTES, WORD_BYTES, Field, fields, slot_bytes
from producers.sidecar.messages import Messages, of_columns
from schemas.columns import arrow_schema
from schemas.topics import topic_of_event

_HEAD = Struct("<QQQ")
_NUMBERS = {"word": Struct("<i"), "int": Struct("<i"), "long": Struct("<q"), "decimal": Struct("<q")}
_DOUBLE = Struct("<d")
_MASK = (1 << 64) - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EXACT = Context(prec=28)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A slot that cannot be used."""

    position: int
    reason: str


@dataclass(frozen=True, slots=True)
class Records:
    """What N slots hold: the messages of each event among them, in the order of positions (`sequence`)."""

    messages: tuple[Messages, ...]
    refused: tuple[Refusal, ...]


REASONS = {
    "damaged": "it is damaged: its checksum is not that of its content",
    "elsewhere": "it says that it is at position {}",
    "word": "{} is none of its words",
    "limits": "{} is beyond its limits",
    "text": "{} is not UTF-8",
    "ahead": "{} is in the future, by more than a day",
}
"""Why a slot cannot be used; the native code names them too."""


class Unusable(ValueError):
    """One of `REASONS`, and what it is of."""

    def __init__(self, reason: str, of: object = "") -> None:
        super().__init__(REASONS[reason].format(of))


def decode(slots: bytes, first: int, ring: UUID, producer: str, latest_us: int) -> Records:
    """Decode the slots at the positions from ``first`` on, of the ring with that id; what happened after ``latest_us``
    (Unix microseconds) is refused.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    refused = []
    for place in range(len(slots) // SLOT_BYTES):
        position = first + place
        slot = slots[place * SLOT_BYTES : (place + 1) * SLOT_BYTES]
        try:
            event = _event(slot, position)
            values = {field.name: _value(slot, field) for field in fields(event)}
            at_us = _at_us(event, values, latest_us)
        except Unusable as why:
            refused.append(Refusal(position, str(why)))
            continue
        given = {"event_id": event_id(ring, position, at_us), "producer": producer, "sequence": position}
        rows.setdefault(event, []).append(given | values)
    columns = {event: pa.RecordBatch.from_pylist(found, arrow_schema(event)) for event, found in rows.items()}
    return Records(
        tuple(of_columns(event, columns[event]) for event in KINDS.values() if event in columns), tuple(refused)
    )


def event_id(ring: UUID, position: int, at_us: int) -> bytes:
    """A UUIDv7, the same on every read: the event's millisecond, then 40 bits of its position, then 34 of the ring.

    So ids are in the order of time, and those of a millisecond in the order of publishing.
    """
    place, of_ring = position & ((1 << 40) - 1), ring.int & ((1 << 34) - 1)
    number = (at_us // 1_000) << 80 | 7 << 76 | (place >> 28) << 64 | 2 << 62
    return (number | (place & ((1 << 28) - 1)) << 34 | of_ring).to_bytes(16)


def checksum(slot: bytes, size: int) -> int:
    """Of a slot's first ``size`` bytes but the first word, which holds it: the sum of `sentio_carry` in the header."""
    lanes = [1, 2, 3, 4]
    for word in range(1, size // WORD_BYTES):
        at = word * WORD_BYTES
        lanes[word % 4] = _mixed(lanes[word % 4], int.from_bytes(slot[at : at + WORD_BYTES], "little"))
    return _mixed(_mixed(lanes[0], lanes[1]), _mixed(lanes[2], lanes[3]))


def _mixed(total: int, word: int) -> int:
    total = (total ^ word) * 0x9E3779B97F4A7C15 & _MASK
    return (total << 29 | total >> 35) & _MASK


def _event(slot: bytes, position: int) -> str:
    found, at, kind = _HEAD.unpack_from(slot)
    event = KINDS.get(kind)
    if event is None or found != checksum(slot, slot_bytes(event)):
        raise Unusable("damaged")
    if at != position:
        raise Unusable("elsewhere", at)
    return event


def _at_us(event: str, values: dict[str, Any], latest_us: int) -> int:
    name = topic_of_event(event).time
    at_us: int = (values[name] - _EPOCH) // timedelta(microseconds=1)
    if at_us > latest_us:
        raise Unusable("ahead", name)
    return at_us


def _value(slot: bytes, field: Field) -> Any:
    match field.shape:
        case "text":
            return _text(slot[field.offset : field.offset + field.size], field)
        case "double":
            (real,) = _DOUBLE.unpack_from(slot, field.offset)
            if field.real is not None and not _is_within(real, *field.real):
                raise Unusable("limits", field.name)
            return real
    (number,) = _NUMBERS[field.shape].unpack_from(slot, field.offset)
    if field.optional and number == NULL:
        return None
    if field.shape == "word":
        if not 1 <= number <= len(field.words):
            raise Unusable("word", field.name)
        return field.words[number - 1]
    if field.whole is not None and not field.whole[0] <= number <= field.whole[1]:
        raise Unusable("limits", field.name)
    if field.shape == "decimal":
        return Decimal(number).scaleb(-field.scale, _EXACT)
    return _EPOCH + timedelta(microseconds=number) if field.suffix == "_us" else number


def _text(room: bytes, field: Field) -> str | None:
    try:
        text = room.split(b"\0", 1)[0].decode()
    except UnicodeDecodeError:
        raise Unusable("text", field.name) from None
    return None if field.optional and not text else text


def _is_within(value: float, low: float, closed: bool, high: float) -> bool:  # noqa: FBT001 - as the layout has it
    return (low <= value if closed else low < value) and value <= high
