"""An engine's logs when something is wrong: with the files, the clock, the disk, or how much there is of something."""

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest

from producers.sidecar import follow, tail
from producers.sidecar.follow import CHECKPOINT
from producers.sidecar.followed import EVENTS_OF_A_LINE
from tests.data import book, entry, holding, leave, signal, write_session
from tests.unit.test_follow import (
    DAY,
    FILES,
    OPEN,
    POSITIONS,
    SIGNALS,
    TRADES,
    Log,
    expected,
    follower,
    take_all,
    texts,
)


@pytest.fixture(autouse=True)
def looks_at_once_and_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tail, "LOOK_S", 0.0)
    yield
    while OPEN:
        OPEN.pop().close()


def written(folder: Path, **changed: list[Any]) -> Path:
    """The day's files, some with other lines."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, lines in (FILES | changed).items():
        (folder / f"{kind}.jsonl").write_bytes(texts(lines))
    return folder


UNUSABLE: list[Any] = [b"no JSON\n"] * 100

CROWDED: dict[str, dict[str, list[Any]]] = {
    "signals": {"signals": [*SIGNALS[:8], *[signal(4)] * 100, *SIGNALS[8:]]},
    "signals of the first minute": {"signals": [*[signal(0)] * 100, *SIGNALS]},
    "unusable signals": {"signals": [*SIGNALS[:8], *UNUSABLE, *SIGNALS[8:]]},
    "unusable fills": {"trades": [*TRADES[:3], *UNUSABLE, *TRADES[3:]]},
    "unusable fills before all": {"trades": UNUSABLE + TRADES},
    "unusable rows": {"positions": [*POSITIONS[:3], *UNUSABLE, *POSITIONS[3:]]},
    "all": {kind: [*lines[:2], *UNUSABLE, *lines[2:]] for kind, lines in FILES.items()},
}


@pytest.mark.parametrize("settle_s", [0.0, 0.005])
@pytest.mark.parametrize("crowd", CROWDED.values(), ids=CROWDED.keys())
def test_more_lines_of_a_minute_than_are_read_ahead_hold_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crowd: dict[str, list[Any]], settle_s: float
) -> None:
    monkeypatch.setattr(follow, "PENDING", 20)
    monkeypatch.setattr(tail, "CHUNK_BYTES", 600)
    whole = expected(written(tmp_path / "played" / DAY, **crowd))
    live = written(tmp_path / "live", **crowd)
    log, source = Log(), follower(live, settle_s)
    deadline_s, portions = time.monotonic() + 5.0, 0
    while log.sorted() != whole and time.monotonic() < deadline_s:
        if portion := source.take(10):
            log.add(portion)
            portions += 1
            if portions % 7 == 0:
                # Sent, not acknowledged: killed.
                source.close()
                source = follower(live, settle_s)
            elif portions % 3:
                source.acknowledge()
    assert log.sorted() == whole


class Clock(datetime):
    """A clock that a test sets."""

    shown = datetime.now(UTC)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override] # a plain datetime will do
        return cls.shown.astimezone(tz)


def test_one_line_of_tomorrow_does_not_end_the_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "datetime", Clock)
    monkeypatch.setattr(Clock, "shown", datetime(2025, 1, 6, 15, 0, tzinfo=UTC))
    day = written(tmp_path / "played" / DAY)
    tomorrow = signal(20 * 60)
    live = written(tmp_path / "live", signals=[*SIGNALS[:6], tomorrow, *SIGNALS[6:]])
    log = Log()
    take_all(follower(live), log)
    assert log.sorted() == expected(day)
    assert log.refused == [f"{live}/signals.jsonl line 7: timestamp_ms is 2025-01-07 10:30 UTC, in the future"]


def test_an_engine_whose_clock_is_minutes_ahead_may_begin_the_next_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "datetime", Clock)
    monkeypatch.setattr(Clock, "shown", datetime(2025, 1, 7, 4, 58, tzinfo=UTC))  # 23:58 in New York
    write_session(tmp_path, signals=[signal(14 * 60 + 31), signal(14 * 60 + 40)])  # 00:01 and 00:10
    log = Log()
    take_all(follower(tmp_path), log)
    assert [row["generated_at"].minute for row in log.rows["SignalGenerated"]] == [1]
    assert len(log.refused) == 1


def test_a_first_line_without_a_time_does_not_make_an_account_of_1969(tmp_path: Path) -> None:
    day = written(tmp_path / "played" / DAY)
    live = written(tmp_path / "live", signals=[signal(0, timestamp_ms=0), *SIGNALS])
    log = Log()
    take_all(follower(live), log)
    assert log.sorted() == expected(day)
    assert len(log.refused) == 1


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("killed", [False, True])
def test_a_file_that_cannot_be_read_for_a_moment_holds_up_the_others_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str, *, killed: bool
) -> None:
    whole = expected(written(tmp_path / "played" / DAY))
    early = {name: lines[: len(lines) // 2] for name, lines in FILES.items()}
    live = written(tmp_path / "live", **early) if killed else written(tmp_path / "live")
    log = Log()
    if killed:
        source = follower(live)
        take_all(source, log)
        source.close()
        written(live)
    real = Path.open
    broken = [True]

    def sometimes(path: Path, *args: Any, **more: Any) -> Any:
        if broken and path.name == f"{kind}.jsonl":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **more)

    monkeypatch.setattr(Path, "open", sometimes)
    source = follower(live)
    take_all(source, log)
    assert log.sorted() != whole
    broken.clear()
    take_all(source, log)
    assert log.sorted() == whole
    assert log.refused == []
    assert capsys.readouterr().err.count("Permission denied") == 1


def is_there(source: follow.Follower) -> bool:
    (beat,) = source.beats()
    return beat.is_there


def test_an_engine_is_there_when_it_writes_and_not_because_its_logs_are_read(tmp_path: Path) -> None:
    source = follower(tmp_path)
    assert not is_there(source)
    written(tmp_path)
    for path in tmp_path.glob("*.jsonl"):
        os.utime(path, (1_736_200_000, 1_736_200_000))
    log = Log()
    take_all(source, log)
    assert len(log.rows["SignalGenerated"]) == len(SIGNALS)
    assert not is_there(source)
    (tmp_path / "signals.jsonl").rename(tmp_path / "signals.jsonl.1")
    (tmp_path / "signals.jsonl").touch()  # by what rotates
    assert not is_there(source)
    (tmp_path / "signals.jsonl").write_bytes(texts([signal(13)]))
    assert is_there(source)


def test_files_between_are_read_when_the_newest_has_the_number_of_the_one_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "trades.jsonl"
    written(tmp_path, trades=[entry(1)], positions=[])
    log, source = Log(), follower(tmp_path)
    take_all(source, log)
    source.close()
    path.unlink()  # compressed, say
    for later, (name, line) in enumerate([("trades.jsonl.1", leave(4)), ("trades.jsonl", entry(6))], 1):
        (tmp_path / name).write_bytes(texts([line]))
        os.utime(tmp_path / name, (2_000_000_000 + later, 2_000_000_000 + later))
    # As a file system does that gives numbers again.
    checkpoint = tmp_path / CHECKPOINT
    saved = json.loads(checkpoint.read_text())
    saved["marks"]["trades"][3] = path.stat().st_ino
    checkpoint.write_text(json.dumps(saved))
    take_all(follower(tmp_path), log)
    assert [row["executed_at"].minute for row in log.rows["TradeExecuted"]] == [31, 34, 36]


@pytest.mark.parametrize("spelled", ["logs", "./logs", "logs/../logs"])
def test_it_goes_on_however_the_folder_is_spelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelled: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "logs" / "signals.jsonl"
    written(tmp_path / "logs", signals=SIGNALS[:4], trades=[], positions=[])
    log, source = Log(), follower(Path(spelled))
    take_all(source, log)
    source.close()
    path.rename(tmp_path / "gone")  # its number is not given again
    path.write_bytes(texts(SIGNALS[4:]))
    os.utime(path, (2_000_000_000, 2_000_000_000))
    take_all(follower(tmp_path / "logs"), log)
    assert len(log.rows["SignalGenerated"]) == len(SIGNALS)


def test_a_row_that_makes_more_events_than_a_line_has_numbers_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    symbols = [f"S{number}" for number in range(EVENTS_OF_A_LINE)]
    others = [f"T{number}" for number in range(9)]
    most = [holding(symbol) for symbol in symbols[1:]]
    written(
        tmp_path,
        signals=[signal(number) for number in range(5)],
        trades=[
            *[entry(0, symbol) for symbol in symbols],
            *[entry(2, symbol) for symbol in others],
            *[leave(3, symbol) for symbol in symbols[1:]],
        ],
        positions=[
            book(1, 100_000, *most, holding(symbols[0])),
            book(2, 100_001, *most),
            book(3, 100_002, *[holding(symbol) for symbol in others]),
            book(5, 100_004, *[holding(symbol) for symbol in others]),
        ],
    )
    log, source = Log(), follower(tmp_path)
    for _ in range(20):
        if portion := source.take(100_000):
            log.add(portion)  # which sees numbers that are given twice
            source.acknowledge()
    assert [row["equity"] for row in log.rows["PerformanceMinute"]] == [100_001, 100_004]
    rows = log.rows["PositionUpdated"]
    assert [row["updated_at"].minute for row in rows] == [31] * len(most) + [33] * len(most) + [34] * len(others)
    assert [row["quantity"] for row in rows] == [100] * len(most) + [0] * len(most) + [100] * len(others)
    assert log.refused == [
        f"{tmp_path}/positions.jsonl line 1: positions makes 1025 events, more than 1024",
        f"{tmp_path}/positions.jsonl line 3: positions makes 1033 events, more than 1024",
    ]


@pytest.mark.parametrize(
    "name", [".1", ".14", "-20250106", "-20250106-1736173800", ".2025-01-06", ".2025-01-06_13-30-00", ".2025-01-06.1"]
)
def test_a_file_with_a_number_or_a_time_behind_its_name_was_moved_away(tmp_path: Path, name: str) -> None:
    written(tmp_path, signals=SIGNALS[4:])
    moved = tmp_path / f"signals.jsonl{name}"
    moved.write_bytes(texts(SIGNALS[:4]))
    os.utime(moved, (1_736_200_000, 1_736_200_000))
    log = Log()
    take_all(follower(tmp_path), log)
    assert [row["bar_id"] for row in log.rows["SignalGenerated"]] == [line["bar_id"] for line in SIGNALS]


@pytest.mark.parametrize(
    "name", ["~", ".bak", ".orig", ".1~", ".1.gz", ".1.bz2", "-20250106.zst", ".swp", ".tmp", ".1/"]
)
def test_what_else_has_the_name_of_a_log_is_no_part_of_it(tmp_path: Path, name: str) -> None:
    day = written(tmp_path / "played" / DAY)
    live = written(tmp_path / "live")
    if name.endswith("/"):
        (live / f"signals.jsonl{name}").mkdir()
    else:
        (live / f"signals.jsonl{name}").write_bytes(texts(SIGNALS))
    log = Log()
    take_all(follower(live), log)
    assert log.sorted() == expected(day)
    assert log.refused == []


def test_a_power_cut_leaves_a_whole_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_disk: dict[int, bytes] = {}

    def fsync(descriptor: int) -> None:
        on_disk[os.fstat(descriptor).st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    monkeypatch.setattr(os, "fsync", fsync)
    written(tmp_path, signals=SIGNALS[:4], trades=[entry(1)], positions=[])
    source = follower(tmp_path)
    take_all(source, Log())
    checkpoint = tmp_path / CHECKPOINT
    assert on_disk[checkpoint.stat().st_ino] == checkpoint.read_bytes()
