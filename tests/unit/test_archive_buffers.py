"""When the archive writes what it keeps, and that a store which fails costs no record."""

from pathlib import Path

import pyarrow as pa
import pytest

from consumers.archive import files
from consumers.archive.stores import Folder
from consumers.consumer import Fenced
from sentio.batch import Range
from sentio.errors import Fatal, Retryable
from tests.members import PLACE, RECORDS, START_MS, archive, batch, read

NEVER_S = 1_000.0


class Failing(Folder):
    """Takes nothing while ``down``."""

    down = False

    def put(self, path: str, data: pa.Buffer | bytes) -> None:
        if self.down:
            raise Retryable("the store is away")
        super().put(path, data)


def test_file_is_written_when_it_is_large_or_old_enough(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    member = archive(store, archive_file_s=NEVER_S, archive_file_bytes=2_000)
    member.assigned({PLACE: "id"})

    member.process(batch([0], Range(0, 1)))
    member.idle()
    assert read(store) == []
    numbers = list(range(1, 8))
    member.process(batch(numbers, Range(1, 9)))
    member.idle()
    assert read(store) == RECORDS


def test_what_does_not_fit_into_memory_is_written_before_more_is_taken(tmp_path: Path) -> None:
    store = Failing(tmp_path)
    member = archive(store, archive_file_s=NEVER_S, archive_memory_bytes=500)
    member.assigned({PLACE: "id"})

    member.process(batch([0, 1], Range(0, 2)))
    store.down = True
    for _ in range(2):  # as often as the group asks, nothing of it is taken
        with pytest.raises(Retryable):
            member.process(batch([2, 3], Range(2, 4)))
    store.down = False
    member.process(batch([2, 3], Range(2, 4)))
    assert read(store) == RECORDS[:2]
    member.process(batch([4], Range(4, 5)))
    assert read(store) == RECORDS[:4]


def test_batch_of_another_place_is_refused(tmp_path: Path) -> None:
    member = archive(Folder(tmp_path))
    with pytest.raises(Fenced) as gone:
        member.process(batch([0], Range(0, 1)))
    assert gone.value.gone == (PLACE,)
    member.assigned({PLACE: "id"})
    member.process(batch([0], Range(0, 1)))
    with pytest.raises(Fenced) as moved:
        member.process(batch([2], Range(2, 3)))
    assert moved.value.moved == (PLACE,)


def test_manifest_that_is_none_ends_it_by_name(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    archive(store).assigned({PLACE: "id"})
    [name] = store.list(f"_manifests/{PLACE[0]}")
    store.put(name, b"[]")
    with pytest.raises(Fatal, match=name):
        archive(store).assigned({PLACE: "id"})


def test_record_without_a_time_of_any_calendar_lies_in_the_first_hour_of_all() -> None:
    times_ms = [START_MS, -1, 10**18, START_MS + files.HOUR_MS]
    rows = pa.table({"kafka_timestamp_ms": pa.array(times_ms, pa.int64())})

    found = {hour: part["kafka_timestamp_ms"].to_pylist() for hour, part in files.by_hour(rows)}

    assert found == {
        "date=1970-01-01/hour=00": [-1, 10**18],
        "date=2026-11-20/hour=13": [START_MS],
        "date=2026-11-20/hour=14": [START_MS + files.HOUR_MS],
    }
