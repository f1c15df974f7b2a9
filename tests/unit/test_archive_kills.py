"""Whatever process dies, freezes or wakes at whatever step, the archive holds each record once, where it was."""

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from consumers.archive import manifests, reading, verifying
from consumers.archive.compaction import PARTS, Compaction, sweep
from consumers.archive.stores import Folder, Store
from consumers.consumer import Fenced
from sentio.errors import Retryable
from tests.members import LATER_MS, OFFSETS, PLACE, RECORDS, START_MS, TOPIC, live, read


class Killed(BaseException):
    """SIGKILL."""


class Stepping(Folder):
    """Before step ``at`` of its use it does what the test says."""

    def __init__(self, root: Path, at: int, act: Callable[[], object]) -> None:
        super().__init__(root)
        self._at, self._act, self.steps = at, act, 0

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self._at:
            self._act()

    def put(self, path: str, data: pa.Buffer | bytes) -> None:
        self._step()
        super().put(path, data)

    def get(self, path: str) -> bytes:
        self._step()
        return super().get(path)

    def open(self, path: str) -> pa.NativeFile:
        self._step()
        return super().open(path)

    def list(self, folder: str) -> dict[str, int]:
        self._step()
        return super().list(folder)

    def delete(self, path: str) -> None:
        self._step()
        super().delete(path)

    def move(self, path: str, to: str) -> None:
        self._step()
        super().move(path, to)


def offsets_in(file: Path) -> list[int]:
    offsets: list[int] = pq.ParquetFile(file).read(["kafka_offset"])["kafka_offset"].to_pylist()
    return offsets


def by_pattern(store: Store) -> list[int]:
    """Offsets of the rows that a query by pattern finds."""
    files = Path(store.root, TOPIC).rglob("*.parquet")
    return sorted(offset for file in files for offset in offsets_in(file))


def assert_whole(store: Store) -> None:
    assert read(store) == RECORDS
    assert by_pattern(store) == OFFSETS
    found = verifying.verify(store, PLACE)
    assert found is not None
    assert (found.faults, found.rows, found.next) == ([], len(RECORDS), OFFSETS[-1] + 1)
    assert verifying.strays(store, {TOPIC}) == []


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of several small files an hour."""
    root = tmp_path_factory.mktemp("archive")
    live(Folder(root), steps=[2])
    return root


def roots(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    return ((step, tmp_path / str(step)) for step in itertools.count(1))


def killed() -> None:
    raise Killed


def test_member_killed_at_any_step_is_followed_by_one_that_reads_other_batches(tmp_path: Path) -> None:
    for step, root in roots(tmp_path):
        dying, store = Stepping(root, step, killed), Folder(root)
        try:
            live(dying, steps=[3, 2])
        except Killed:
            assert set(by_pattern(store)) <= set(OFFSETS)
            assert len(set(by_pattern(store))) == len(by_pattern(store))
            assert read(store) == RECORDS[: len(read(store))]
            live(store, steps=[4, 1])
        assert_whole(store)
        if dying.steps < step:
            assert step > 15  # so many were died at
            return


@pytest.mark.parametrize("up_to", [4, len(OFFSETS)])
def test_member_that_freezes_at_any_step_and_wakes_behind_another_spoils_nothing(tmp_path: Path, up_to: int) -> None:
    for step, root in roots(tmp_path):
        store = Folder(root)
        frozen = Stepping(root, step, partial(live, store, steps=[2, 3], up_to=up_to))
        with suppress(Fenced):
            live(frozen, steps=[3, 4])
        live(store, steps=[5])
        assert_whole(store)
        if frozen.steps < step:
            return


def test_file_of_a_member_that_slept_through_a_compaction_is_found_and_removed(tmp_path: Path) -> None:
    removed: list[str] = []
    for step, root in roots(tmp_path):
        store = Folder(root)

        def another(store: Store = store) -> None:
            live(store, steps=[2])
            Compaction(store, file_bytes=1 << 20).run(PLACE, now_ms=LATER_MS)

        frozen = Stepping(root, step, another)
        try:
            live(frozen, steps=[3])
        except Fenced:
            pass
        else:
            live(store, steps=[3])
        assert read(store) == RECORDS
        removed += sweep(store, TOPIC)
        assert_whole(store)
        if frozen.steps < step:
            break
    assert removed


def compacted(store: Store) -> tuple[int, int]:
    return Compaction(store, file_bytes=1 << 20).run(PLACE, now_ms=LATER_MS)


def assert_read_whole(store: Store) -> None:
    """In the middle of a compaction."""
    assert read(store) == RECORDS
    found = by_pattern(store)
    assert len(found) == len(set(found)), "a row twice"


def test_compaction_makes_a_file_of_each_hour_that_is_over(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    live(store, steps=[1])

    assert Compaction(store, file_bytes=1 << 20).run(PLACE, now_ms=START_MS + 3_600_000) == (0, 0)
    assert compacted(store) == (8, 2)
    assert compacted(store) == (0, 0)
    assert_whole(store)
    assert [path.rpartition("/")[2] for path in sorted(store.list(TOPIC))] == ["0-0-4.parquet", "0-2-9.parquet"]


def test_compaction_killed_at_any_step_shows_readers_no_row_twice_and_is_ended_by_the_next(
    tmp_path: Path,
    written: Path,
) -> None:
    for step, root in roots(tmp_path):
        dying, store = Stepping(root, step, killed), Folder(root)
        shutil.copytree(written, root, dirs_exist_ok=True)
        try:
            compacted(dying)
        except Killed:
            assert_read_whole(store)
            compacted(store)
        assert_whole(store)
        assert store.list(PARTS) == {}
        if dying.steps < step:
            return


def test_two_compactions_at_once_leave_a_whole_archive(tmp_path: Path, written: Path) -> None:
    for step, root in roots(tmp_path):
        store = Folder(root)
        shutil.copytree(written, root, dirs_exist_ok=True)
        # It makes pairs, where the frozen one makes one file of three.
        pairs = Compaction(store, file_bytes=2 * max(Folder(written).list(TOPIC).values()))
        frozen = Stepping(root, step, partial(pairs.run, PLACE, now_ms=LATER_MS))
        with suppress(Retryable):
            compacted(frozen)
        assert_read_whole(store)
        compacted(store)
        assert_whole(store)
        if frozen.steps < step:
            return


def test_reader_goes_on_over_a_compaction_at_any_step_of_its(
    tmp_path: Path, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "READ_ROWS", 1)
    for step, root in roots(tmp_path):
        shutil.copytree(written, root, dirs_exist_ok=True)
        store = Stepping(root, step, partial(compacted, Folder(root)))
        assert read(store) == RECORDS
        if store.steps < step:
            return


def test_head_forgets_files_that_were_compacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "TRIM_FILES", 1)
    store = Folder(tmp_path)
    live(store, steps=[1], up_to=7)
    compacted(store)
    live(store, steps=[1])

    found = manifests.view(store, PLACE)
    assert found is not None
    assert len(found.head.files) == 1
    assert_whole(store)


def test_range_of_offsets_or_times_is_read(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    live(store, steps=[3])

    def ranged(**limits: Any) -> list[int]:
        wanted = reading.Range(**limits)
        return [record.offset for records in reading.read(store, PLACE, wanted) for record in records]

    assert ranged(first=2, next=7) == [2, 3, 4, 6]
    assert ranged(since_ms=START_MS + 2_000) == [2, 4, 6, 7, 8]
    assert ranged(until_ms=START_MS + 2_200) == [0, 1, 2, 3]
    assert ranged(first=5, since_ms=0, until_ms=START_MS + 3_001) == [6, 7]
    assert reading.offsets(store, PLACE) == (0, 9)
