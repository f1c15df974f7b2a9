"""The spool keeps what it accepted, in order, through crashes, damage and a full disk."""

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producers import spool as spool_module
from producers.spool import Record, Spool
from sentio.errors import SettingError

ROOM = 1 << 20
Open = Callable[[], Spool]


def record(number: int, size: int = 10) -> Record:
    return Record("sentio.trades.executed", b"TQQQ", number.to_bytes(size, "big"), 1_760_000_000_000 + number)


def values(found: list[tuple[tuple[int, int], Record]]) -> list[int]:
    return [int.from_bytes(each.value, "big") for _, each in found]


@pytest.fixture
def reopen(tmp_path: Path) -> Iterator[Open]:
    """Opens the spool again, as a new process would after a SIGKILL."""
    opened: list[Spool] = []

    def open_it() -> Spool:
        if opened:
            opened[-1].close()
        opened.append(Spool(tmp_path / "spool", max_bytes=ROOM))
        return opened[-1]

    yield open_it
    opened[-1].close()


def test_records_come_back_in_order_after_a_crash(reopen: Open) -> None:
    reopen().append([record(n) for n in range(100)])
    found = reopen().read(1_000)
    assert [each for _, each in found] == [record(n) for n in range(100)]


def test_a_trace_is_kept_with_its_record_and_those_without_lie_there_as_ever(reopen: Open, tmp_path: Path) -> None:
    """A spool that an older version left is read, and one of records without traces is read by older versions."""
    topic, key, value = b"sentio.trades.executed", b"TQQQ", bytes(10)
    body = struct.pack(">qHI", 1_760_000_000_000, len(topic), len(key)) + topic + key + value
    written = struct.pack(">II", len(body), zlib.crc32(body)) + body
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "1000000000.seg").write_bytes(written)
    traced = record(1)._replace(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    reopen().append([traced, record(0)])
    assert [each for _, each in reopen().read(10)] == [record(0), traced, record(0)]
    last = max((tmp_path / "spool").glob("*.seg"))
    assert last.read_bytes().endswith(written)


def test_what_was_acknowledged_does_not_come_back(reopen: Open) -> None:
    spool = reopen()
    spool.append([record(n) for n in range(10)])
    spool.acknowledge(spool.read(4)[-1][0])
    assert values(reopen().read(100)) == [4, 5, 6, 7, 8, 9]


def test_appending_nothing_changes_nothing(reopen: Open) -> None:
    spool = reopen()
    assert spool.append([]) == 0
    assert spool.empty


def test_an_empty_spool_leaves_no_segment_behind_and_goes_on_counting(reopen: Open, tmp_path: Path) -> None:
    spool = reopen()
    spool.append([record(1)])
    spool.acknowledge(spool.read(1)[0][0])
    assert spool.empty
    assert list((tmp_path / "spool").glob("*.seg")) == []
    spool.append([record(2)])
    assert values(reopen().read(10)) == [2]


def test_a_record_cut_off_by_a_crash_is_dropped_and_those_before_it_stay(reopen: Open, tmp_path: Path) -> None:
    reopen().append([record(n) for n in range(3)])
    [segment] = (tmp_path / "spool").glob("*.seg")
    os.truncate(segment, segment.stat().st_size - 1)
    spool = reopen()
    assert spool.lost_bytes == 0
    spool.append([record(9)])
    assert values(spool.read(10)) == [0, 1, 9]


@pytest.mark.parametrize("left", [b"", b"half a record"])
def test_a_segment_that_a_crash_left_without_a_record_holds_nothing_back(
    reopen: Open, tmp_path: Path, left: bytes
) -> None:
    spool = reopen()
    spool.append([record(n) for n in range(3)])
    after = spool.end[0] + 1
    spool.close()
    (tmp_path / "spool" / f"{after:010d}.seg").write_bytes(left)
    spool = reopen()
    assert values(spool.read(100, until=spool.end)) == [0, 1, 2]
    spool.acknowledge(spool.end)
    assert spool.empty
    assert reopen().append([record(7)]) == 1


def test_a_damaged_segment_is_counted_and_kept_aside(reopen: Open, tmp_path: Path) -> None:
    reopen().append([record(n) for n in range(3)])
    [segment] = (tmp_path / "spool").glob("*.seg")
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 0xFF
    segment.write_bytes(content)
    spool = reopen()
    assert values(spool.read(10)) == [0]
    assert spool.lost_bytes == len(content) * 2 // 3
    assert segment.with_suffix(".damaged").stat().st_size == spool.lost_bytes


def test_a_full_spool_says_how_many_it_took(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", max_bytes=1_000)
    taken = spool.append([record(n, 100) for n in range(20)])
    assert 0 < taken < 20
    assert values(spool.read(100)) == list(range(taken))
    spool.close()


def test_a_disk_that_refuses_leaves_the_spool_whole(
    reopen: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = reopen()
    spool.append([record(1)])
    write = Spool._write_file

    def half_written(self: Spool, path: Path, data: bytes) -> None:
        write(self, path, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "_write_file", half_written)
        assert spool.append([record(2)]) == 0
        with_a_new_segment = Spool(tmp_path / "new", max_bytes=ROOM)
        assert with_a_new_segment.append([record(2)]) == 0
        assert with_a_new_segment.empty
    assert with_a_new_segment.append([record(3)]) == 1
    assert values(with_a_new_segment.read(10)) == [3]
    with_a_new_segment.close()
    assert spool.append([record(3)]) == 1
    assert values(spool.read(10)) == [1, 3]
    assert values(reopen().read(10)) == [1, 3]


def test_what_was_sent_before_the_spool_is_read_before_it(reopen: Open) -> None:
    spool = reopen()
    spool.append([record(5), record(6)])
    spool.prepend([record(3), record(4)])
    assert values(spool.read(10)) == [3, 4, 5, 6]
    assert values(reopen().read(10)) == [3, 4, 5, 6]


def test_prepending_to_an_emptied_spool_is_not_forgotten(reopen: Open) -> None:
    spool = reopen()
    spool.append([record(1)])
    spool.acknowledge(spool.read(1)[0][0])
    spool.prepend([record(2)])
    assert values(reopen().read(10)) == [2]


def test_a_second_publisher_is_told_that_the_spool_is_in_use(reopen: Open, tmp_path: Path) -> None:
    reopen()
    with pytest.raises(SettingError, match=r"SENTIO_SPOOL.*another publisher"):
        Spool(tmp_path / "spool", max_bytes=ROOM)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["append", "read", "acknowledge", "crash", "rewind"]), max_size=40))
def test_in_any_course_of_events_nothing_is_lost_and_the_order_holds(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool_module, "SEGMENT_BYTES", 200)
        spool = Spool(folder, max_bytes=ROOM)
        appended, delivered = 0, 0
        unread: list[tuple[tuple[int, int], Record]] = []
        for step in steps:
            match step:
                case "append":
                    spool.append([record(appended), record(appended + 1)])
                    appended += 2
                case "read":
                    unread += spool.read(3)
                case "acknowledge" if unread:
                    place, last = unread.pop(0)
                    spool.acknowledge(place)
                    delivered = int.from_bytes(last.value, "big") + 1
                case "crash":
                    spool.close()
                    spool, unread = Spool(folder, max_bytes=ROOM), []
                case "rewind":
                    spool.rewind()
                    unread = []
        spool.rewind()
        assert values(spool.read(1_000)) == list(range(delivered, appended))
        spool.close()
