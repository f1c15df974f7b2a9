"""The archive as where a replay reads: what the log has no more, in the same order, byte for byte."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from consumers.archive import manifests, reading
from consumers.archive.reading import Record
from consumers.archive.stores import Store
from consumers.polled import Messages
from consumers.replay.held import Seen
from consumers.replay.job import Spans
from consumers.replay.source import Found, Part
from sentio.errors import Fatal
from sentio.kafka import Place


class ArchiveHeld:
    """What an archive holds of the newest log of each topic."""

    name = "archive"
    further = ""

    def __init__(self, store: Store) -> None:
        self._store = store

    def topic_ids(self, names: Iterable[str]) -> dict[str, str]:
        found = {}
        for name in names:
            places = reading.places(self._store, name)
            view = manifests.view(self._store, places[0]) if places else None
            if view is None:
                raise Fatal(f"the archive (SENTIO_ARCHIVE) has nothing of {name}; 'sentio archive list' shows it all")
            found[name] = view.head.topic_id
        return found

    def bounds(self, names: Iterable[str]) -> dict[Place, tuple[int, int]]:
        places = [place for name in names for place in reading.places(self._store, name)]
        return {place: span for place in places if (span := reading.offsets(self._store, place)) is not None}

    def offsets_at(self, places: Iterable[Place], time_ms: int) -> dict[Place, int]:
        return {place: self._offset_at(place, time_ms) for place in places}

    def records(self, spans: Spans) -> Mapping[Place, list[Seen]]:
        return {
            place: [
                Seen(record.timestamp_ms, record.key, record.value)
                for records in reading.read(self._store, place, reading.Range(first, end))
                for record in records
            ]
            for place, (first, end) in spans.items()
        }

    def _offset_at(self, place: Place, time_ms: int) -> int:
        for records in reading.read(self._store, place, reading.Range(since_ms=time_ms)):
            return records[0].offset
        span = reading.offsets(self._store, place)
        return 0 if span is None else span[1]


class Archived:
    """Reads an archive, one partition after the other; the next one while a partition is held."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: set[Place] = set()

    def read(self, spans: Spans) -> Iterator[Found]:
        """Until every span is read. Raises `Retryable` when the store does not answer, `Fatal` for a missing file."""
        if finished := frozenset(place for place, (first, end) in spans.items() if first >= end):
            yield Found((), finished)
        lanes = {
            place: reading.read(self._store, place, reading.Range(first, end))
            for place, (first, end) in spans.items()
            if place not in finished
        }
        while lanes:
            place = next((place for place in lanes if place not in self._held), None)
            records = None if place is None else next(lanes[place], None)
            if place is None:
                yield Found((), frozenset())
            elif records is None:
                del lanes[place]
                yield Found((), frozenset({place}))
            else:
                reached = {place: records[-1].offset + 1}
                yield Found((Part(place[0], Records(records), range(len(records)), reached),), frozenset())

    def hold(self, place: Place) -> None:
        self._held.add(place)

    def go_on(self, place: Place) -> None:
        self._held.discard(place)


class Records:
    """Records of an archive as messages (`consumers.polled.Messages`)."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def values(self) -> Sequence[bytes | None]:
        return [record.value for record in self._records]

    def columns(self) -> tuple[pa.Int32Array, pa.Int64Array, pa.Int64Array]:
        return (
            pa.array([record.partition for record in self._records], pa.int32()),
            pa.array([record.offset for record in self._records], pa.int64()),
            pa.array([record.timestamp_ms for record in self._records], pa.int64()),
        )

    def spans(self) -> Mapping[int, tuple[int, int]]:
        found: dict[int, tuple[int, int]] = {}
        for record in self._records:
            low, high = found.get(record.partition, (record.offset, record.offset))
            found[record.partition] = min(low, record.offset), max(high, record.offset)
        return found

    def since(self, first: dict[int, int]) -> Messages:
        return Records([one for one in self._records if one.offset >= first.get(one.partition, one.offset + 1)])

    def letter(self, index: int) -> tuple[int, int, bytes | None, bytes | None, Sequence[tuple[str, Any]]]:
        record = self._records[index]
        return record.partition, record.offset, record.key, record.value, record.headers
