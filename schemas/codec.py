"""Kafka values to columns and back: Confluent framing (byte 0, 4-byte schema id, Avro body).

Native where `native/` is built, else on fastavro: the same results for some fifty times the CPU (`NATIVE` says which).
One bad message never spoils the others: `decode` gives it back with its place and the reason.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow as pa

from schemas import codec_fastavro
from schemas.columns import arrow_schema, from_events
from schemas.events import Event
from schemas.registry import Version, current, locked

try:
    from schemas import codec_native
except ModuleNotFoundError:
    codec_native = None  # type: ignore[assignment] # not built here

NATIVE = codec_native is not None
"""Whether native code decodes and encodes."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What `decode` made of N messages: ``records`` has a row for each entry of ``kept``, in order."""

    records: pa.RecordBatch
    kept: Sequence[int]
    """Index, among the messages given, of each row."""

    poison: tuple[tuple[int, str], ...]
    """(index, reason) of each message that cannot be used."""


def decode(event: str, messages: Sequence[bytes | None]) -> Decoded:
    """Decode the values of one topic's messages to columns of the newest schema of ``event``."""
    if codec_native is not None:
        try:
            records, kept, kinds = _native(event).decode(messages)
        except codec_native.Disagreement:
            pass  # a defect of the native codec must not stop the log: the other one decides
        else:
            return Decoded(records, kept, tuple((index, _why(event, messages[index], kind)) for index, kind in kinds))
    records, kept, poison = _fastavro(event).decode(messages)
    return Decoded(records, kept, tuple((index, str(failure)) for index, failure in poison))


@dataclass(frozen=True, slots=True)
class Fields:
    """What `fields` made of N messages: a tuple of values for each entry of ``kept``, in order."""

    values: Sequence[tuple[Any, ...]]
    kept: Sequence[int]
    """Index, among the messages given, of each."""

    poison: tuple[tuple[int, str], ...]
    """(index, reason) of each message that cannot be used."""


def fields(event: str, messages: Sequence[bytes | None], names: tuple[str, ...]) -> Fields | None:
    """A few columns of messages, texts or whole numbers, without making columns: for few messages, which cost as much
    as many there. None where `decode` has to do it: native code is not built, or an older version is among them.
    """
    found = None
    if codec_native is not None:
        with suppress(codec_native.Disagreement):
            found = _native(event).fields(messages, _places(event, names))
    if found is None:
        return None
    values, kept, kinds = found
    return Fields(values, kept, tuple((index, _why(event, messages[index], kind)) for index, kind in kinds))


def documents(event: str, messages: Sequence[bytes | None]) -> list[str]:
    """The JSON object of each message that `fields` kept, written as clients are given it (`gateway.wire`)."""
    written = _native(event).documents(messages)
    assert written is not None
    return written


def encode(event: str, records: pa.RecordBatch) -> list[bytes]:
    """Framed Avro of each row, in the newest locked schema of ``event``.

    Raises ValueError for a value that the schema does not allow: a null, or a word that is none of an enum's.
    """
    return (_native(event) if NATIVE else _fastavro(event)).encode(records)


def encode_events(events: list[Event], *, first_id: bytes, producer: str, sequences: Sequence[int]) -> list[bytes]:
    """Framed Avro of typed events, of one type and not empty, in the newest locked schema.

    Their ids count up from ``first_id``. Raises as `from_events` and `encode` do.
    """
    event = type(events[0]).__name__
    if codec_native is not None:
        written = _native(event).write(events, first_id, producer, sequences)
        if written is not None:
            return written
    first = int.from_bytes(first_id)
    ids = [(first + place).to_bytes(16) for place in range(len(events))]
    return encode(event, from_events(events, event_id=ids, producer=[producer] * len(events), sequence=sequences))


def _why(event: str, message: bytes | None, kind: str) -> str:
    """In words why a message is unusable, from the codec that looks at it value by value."""
    try:
        _fastavro(event).decode_one(message)
    except codec_fastavro.Unusable as failure:
        return str(failure)
    return kind


@cache
def _places(event: str, names: tuple[str, ...]) -> list[int]:
    return [arrow_schema(event).get_field_index(name) for name in names]


@cache
def _native(event: str) -> "codec_native.Codec":
    return codec_native.Codec(current(event), _versions(event))


@cache
def _fastavro(event: str) -> codec_fastavro.Codec:
    return codec_fastavro.Codec(current(event), _versions(event))


def _versions(event: str) -> list[Version]:
    return [version for version in locked().values() if version.event == event]
