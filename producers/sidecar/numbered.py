"""Typed events with their numbers, as messages. The numbers are the source's: whoever reads it again gives the same."""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import pyarrow as pa

from producers.fields import EPOCH
from producers.sidecar.messages import Messages, of_columns
from producers.sidecar.records import event_id
from schemas.columns import from_events
from schemas.events import Event
from schemas.topics import topic_of_event

_MICROSECOND = timedelta(microseconds=1)


class Numbered(NamedTuple):
    """An event at its place in a source."""

    producer: str
    source: UUID
    sequence: int
    """Below 2^40."""

    event: Event


def messages(found: Sequence[Numbered]) -> list[Messages]:
    """Those of each kind of event, in the order given. Values have to fit their columns."""
    by_kind: dict[str, list[Numbered]] = {}
    for each in found:
        by_kind.setdefault(type(each.event).__name__, []).append(each)
    return [of_columns(kind, _columns(kind, those)) for kind, those in by_kind.items()]


def _columns(kind: str, those: Sequence[Numbered]) -> pa.RecordBatch:
    time = topic_of_event(kind).time
    return from_events(
        [each.event for each in those],
        event_id=[
            event_id(each.source, each.sequence, (getattr(each.event, time) - EPOCH) // _MICROSECOND) for each in those
        ],
        producer=[each.producer for each in those],
        sequence=[each.sequence for each in those],
    )
