"""Lives of the archive's members without a broker: records, batches of them, and what a member does with those."""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from consumers.archive import reading
from consumers.archive.archive import Archive
from consumers.archive.reading import Record
from consumers.archive.stores import Store
from consumers.polled import ORIGINALS
from schemas.columns import from_events
from schemas.topics import topics
from sentio.batch import Batch, Range
from sentio.config import ArchiveSettings, load
from tests.samples import encoded, trade

TOPIC = "sentio.trades.executed"
PLACE = (TOPIC, 0)
START_MS = round(datetime(2026, 11, 20, 13, 59, 58, tzinfo=UTC).timestamp() * 1000)
LATER_MS = START_MS + 10 * 3_600_000
# Over the end of an hour, once back and forth; an offset is missing.
TIMES_MS = [START_MS + ms for ms in (0, 500, 2_100, 1_900, 2_200, 2_300, 3_000, 4_000)]
OFFSETS = [0, 1, 2, 3, 4, 6, 7, 8]


def record(number: int) -> Record:
    headers: list[tuple[str, bytes | None]] = [("n", b"%d" % number)] if number % 2 else []
    value = encoded(trade(number), number=number)
    return Record(*PLACE, OFFSETS[number], TIMES_MS[number], b"key", value, headers)


RECORDS = [record(number) for number in range(len(OFFSETS))]


def batch(numbers: Sequence[int], span: Range) -> Batch:
    count = len(numbers)
    records = from_events(
        [trade(number) for number in numbers],
        event_id=[number.to_bytes(16) for number in numbers],
        producer=["test@1"] * count,
        sequence=list(numbers),
    )
    chosen = [RECORDS[number] for number in numbers]
    originals = [
        {"key": one.key, "value": one.value, "headers": [{"name": n, "value": v} for n, v in one.headers]}
        for one in chosen
    ]
    return Batch(
        topics()["trades.executed"],
        records,
        pa.array([0] * count, pa.int32()),
        pa.array([one.offset for one in chosen], pa.int64()),
        pa.array([one.timestamp_ms for one in chosen], pa.int64()),
        {0: span},
        originals=pa.RecordBatch.from_pylist(originals, ORIGINALS),
    )


def archive(store: Store, **more: Any) -> Archive:
    """A member that writes at once, or as ``more`` settings say."""
    settings = load(ArchiveSettings, archive=store.root, archive_file_s=1e-9).model_copy(update=more)
    made = Archive(settings)
    made._store = store
    return made


def live(store: Store, *, steps: Sequence[int], up_to: int = len(OFFSETS)) -> None:
    """A member's life: it claims, reads on in batches of such sizes, and writes each."""
    member = archive(store)
    first = member.assigned({PLACE: "id"}).get(PLACE, 0)
    sizes = itertools.cycle(steps)
    numbers = [number for number in range(up_to) if OFFSETS[number] >= first]
    while numbers:
        taken, numbers = numbers[: (size := next(sizes))], numbers[size:]
        end = OFFSETS[numbers[0]] if numbers else OFFSETS[taken[-1]] + 1
        member.process(batch(taken, Range(first, end)))
        for _ in range(2):  # what was pending from before, then the rest
            member.idle()
        first = end


def read(store: Store) -> list[Record]:
    return [record for records in reading.read(store, PLACE) for record in records]
