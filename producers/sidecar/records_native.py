"""`records.decode` in native code (`native/src/ring.rs`). Releases the GIL while it does."""

from functools import cache
from typing import Any
from uuid import UUID

import pyarrow as pa
import sentio_native

from producers.sidecar.layout import KINDS, fields
from producers.sidecar.records import REASONS, Records, Refusal
from schemas.columns import arrow_schema
from schemas.topics import topic_of_event

_EVENTS = tuple(KINDS.values())


def decode(slots: bytes, first: int, ring: UUID, producer: str) -> Records:
    """Decode the slots at the positions from ``first`` on, of the ring with that id."""
    batches, refused = _native().decode(slots, first, ring.int, producer)
    found = {event: _plain(batch, event) for event, batch in zip(_EVENTS, batches, strict=True) if batch is not None}
    return Records(
        dict(sorted(found.items())),
        tuple(Refusal(first + place, _reason(_EVENTS[kind], fault, of)) for place, kind, fault, of in refused),
    )


def _reason(event: str, fault: str, of: int) -> str:
    """``of`` is a position, or the number of a field."""
    named = fault in {"word", "limits", "text"}
    return REASONS[fault].format(fields(event)[of].name if named else of)


def _plain(batch: pa.RecordBatch, event: str) -> pa.RecordBatch:
    """Without what passing it on adds: times in the zone "UTC" by that name, no metadata."""
    schema = arrow_schema(event)
    columns = [
        column if column.type == field.type else column.cast(field.type)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.record_batch(columns, schema)


@cache
def _native() -> Any:
    return sentio_native.Slots([_kind(number, event) for number, event in KINDS.items()])


def _kind(number: int, event: str) -> tuple[int, pa.Schema, list[tuple[Any, ...]], int]:
    found = fields(event)
    time = topic_of_event(event).time
    plain = [(f.shape, f.offset, f.size, f.optional, f.whole, f.real, f.words) for f in found]
    return number, arrow_schema(event), plain, [each.name for each in found].index(time)
