"""`records.decode` in native code (`native/src/ring.rs`). Releases the GIL while it does."""

from functools import cache
from typing import Any
from uuid import UUID

import sentio_native

from producers.sidecar.layout import KINDS, fields
from producers.sidecar.messages import Messages
from producers.sidecar.records import REASONS, Records, Refusal
from schemas.registry import current
from schemas.topics import topic_of_event

_EVENTS = tuple(KINDS.values())


def decode(slots: bytes, first: int, ring: UUID, producer: str, latest_us: int) -> Records:
    """As `records.decode`."""
    found, refused = _native().messages(slots, first, ring.int, producer, latest_us)
    return Records(
        tuple(Messages(event, keys, values) for event, (keys, values) in zip(_EVENTS, found, strict=True) if keys),
        tuple(Refusal(first + place, _reason(_EVENTS[kind], fault, of)) for place, kind, fault, of in refused),
    )


def _reason(event: str, fault: str, of: int) -> str:
    """``of`` is a position, or the number of a field."""
    named = fault not in {"damaged", "elsewhere"}
    return REASONS[fault].format(fields(event)[of].name if named else of)


@cache
def _native() -> Any:
    return sentio_native.Slots([_kind(number, event) for number, event in KINDS.items()])


def _kind(number: int, event: str) -> tuple[int, int, list[tuple[Any, ...]], int, int]:
    found = fields(event)
    topic = topic_of_event(event)
    names = [each.name for each in found]
    plain = [(f.shape, f.offset, f.size, f.optional, f.whole, f.real, f.words) for f in found]
    return number, current(event).id, plain, names.index(topic.time), names.index(topic.key[0])
