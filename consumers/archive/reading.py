"""Reads an archive as one would read the log: records of a partition in the order of their offsets, byte for byte."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow.compute as pc
import pyarrow.parquet as pq

from consumers.archive import manifests
from consumers.archive.files import HOUR_MS, KAFKA, hour_ms
from consumers.archive.manifests import File, View
from consumers.archive.stores import Store
from sentio.errors import Fatal
from sentio.kafka import Place

READ_ROWS = 10_000
TRIES = 10


class Record(NamedTuple):
    """A record as it was in the log."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Range:
    """What to read of a partition: records at or behind ``first`` and before ``next``, from ``since_ms`` on and before
    ``until_ms`` (Kafka's timestamps); None is no limit.
    """

    first: int = 0
    next: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None


EVERYTHING = Range()


def places(store: Store, topic: str) -> list[Place]:
    """The partitions that the archive has of a topic, by its full name."""
    return [place for place in manifests.places(store) if place[0] == topic]


def offsets(store: Store, place: Place) -> tuple[int, int] | None:
    """(oldest, next) offset that the archive has of a partition; None where it has none.

    Of a topic that was made anew it is what the archive has of the new one.
    """
    found = manifests.view(store, place)
    if found is None or found.head.next_offset is None:
        return None
    mine = [file.first for file in found.files if file.epoch == found.head.epoch]
    return min(mine, default=found.head.next_offset), found.head.next_offset


def read(store: Store, place: Place, wanted: Range = EVERYTHING) -> Iterator[list[Record]]:
    """Records of a partition, in lists, by rising offset; of the newest log where the topic was made anew.

    It may be read while the archive goes on and is compacted. Raises `Retryable` when the store does not answer,
    `Fatal` when a file of the manifest is not there.
    """
    first, tries = wanted.first, 0
    while True:
        found = manifests.view(store, place)
        if found is None:
            return
        try:
            for records in _merged(store, place, found, wanted, first):
                first, tries = records[-1].offset + 1, 0
                yield records
        except FileNotFoundError as failure:
            # Compacted away meanwhile; the manifest then names another file by now.
            if (tries := tries + 1) >= TRIES:
                raise Fatal(f"archive: {failure}; 'sentio archive verify' says what is missing") from failure
        else:
            return


def _merged(store: Store, place: Place, found: View, wanted: Range, first: int) -> Iterator[list[Record]]:
    """A file is opened when its first offset is reached: those of two hours may overlap where clocks differ."""
    files = [file for file in found.files if file.epoch == found.head.epoch and _touches(file, wanted, first)]
    waiting = sorted(files, key=lambda file: file.first_offset, reverse=True)
    heads: list[tuple[int, list[Record], Iterator[list[Record]]]] = []
    while waiting or heads:
        while waiting and (not heads or waiting[-1].first_offset < heads[0][0]):
            _push(heads, _records(store, place, found, waiting.pop(), wanted, first))
        if not heads:
            return
        _, records, more = heapq.heappop(heads)
        # As many as lie before what any other file has.
        limits = [heads[0][0]] if heads else []
        limits += [waiting[-1].first_offset] if waiting else []
        limit = min(limits, default=None)
        count = len(records) if limit is None else sum(record.offset < limit for record in records)
        yield records[:count]
        if rest := records[count:]:
            heapq.heappush(heads, (rest[0].offset, rest, more))
        else:
            _push(heads, more)


def _push(heads: list[tuple[int, list[Record], Iterator[list[Record]]]], more: Iterator[list[Record]]) -> None:
    if records := next(more, None):
        heapq.heappush(heads, (records[0].offset, records, more))


def _touches(file: File, wanted: Range, first: int) -> bool:
    if file.last_offset < first or (wanted.next is not None and file.first_offset >= wanted.next):
        return False
    # A folder of hours, not each record's time: those of no calendar lie in the first hour of all.
    if (start_ms := hour_ms(file)) == 0:
        return True
    after = wanted.until_ms is not None and start_ms >= wanted.until_ms
    before = wanted.since_ms is not None and start_ms + HOUR_MS <= wanted.since_ms
    return not (after or before)


def _records(store: Store, place: Place, found: View, file: File, wanted: Range, first: int) -> Iterator[list[Record]]:
    whole = manifests.read_file(store, file, found.moving)
    for rows in pq.ParquetFile(whole).iter_batches(READ_ROWS, columns=KAFKA.names):
        keep = pc.greater_equal(rows["kafka_offset"], first)
        times_ms = rows["kafka_timestamp_ms"]
        if wanted.next is not None:
            keep = pc.and_(keep, pc.less(rows["kafka_offset"], wanted.next))
        if wanted.since_ms is not None:
            keep = pc.and_(keep, pc.greater_equal(times_ms, wanted.since_ms))
        if wanted.until_ms is not None:
            keep = pc.and_(keep, pc.less(times_ms, wanted.until_ms))
        kept = rows.filter(keep)
        columns = [kept[name].to_pylist() for name in KAFKA.names[1:]]
        if len(kept):
            yield [
                Record(*place, offset, at_ms, key, value, [(one["name"], one["value"]) for one in headers])
                for offset, at_ms, key, value, headers in zip(*columns, strict=True)
            ]
