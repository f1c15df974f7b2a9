"""An engine's logs while they are written: whatever comes when, and however often the sidecar begins again."""

import json
import os
import random
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from producers import session
from producers.sidecar import follow
from producers.sidecar.follow import CHECKPOINT, Follower
from producers.sidecar.source import Portion
from sentio.errors import Fatal, SettingError
from tests.data import book, entry, holding, leave, ms, signal, write_session
from tests.ways import rows_of, without_header
from tests.written import columns

DAY = "2025-01-06"

SIGNALS = [signal(n, symbol) for n in range(12) for symbol in ("AAA", "BBB")]
TRADES = [entry(1), entry(2, "BBB", direction="SHORT"), leave(4, pnl=75.0), entry(6), leave(9, "BBB"), leave(11)]
POSITIONS = [
    book(1, 100_000),
    book(2, 100_010, holding()),
    book(3, 100_020, holding(), holding("BBB", direction="SHORT")),
    book(4, 100_020, holding(), holding("BBB", direction="SHORT")),
    book(5, 100_095, holding("BBB", direction="SHORT")),
    book(7, 100_090, holding(), holding("BBB", direction="SHORT")),
    book(8, 100_090, holding(), holding("BBB", direction="SHORT")),
    book(10, 100_080, holding()),
]
FILES: dict[str, list[Any]] = {"signals": SIGNALS, "trades": TRADES, "positions": POSITIONS}


class Log:
    """What came of a follower by its portions, as readers take it."""

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.refused: list[str] = []
        self._newest: dict[tuple[str, str], int] = {}
        self._values: dict[tuple[str, str, int], dict[str, Any]] = {}

    def add(self, portion: Portion) -> None:
        for kind, batch in columns(portion).items():
            for row in batch.to_pylist():
                place = (kind, row["producer"])
                # What comes again under a number is the same again.
                assert self._values.setdefault((*place, row["sequence"]), row) == row
                if row["sequence"] > self._newest.get(place, -1):
                    self._newest[place] = row["sequence"]
                    self.rows.setdefault(kind, []).append(without_header(row))
        self.refused += [f"{each.place}: {each.reason}" for each in portion.refused]

    def sorted(self) -> dict[str, list[list[str]]]:
        return in_order(self.rows)


def in_order(rows: dict[str, list[dict[str, Any]]]) -> dict[str, list[list[str]]]:
    return {
        kind: sorted(sorted(f"{name} {_plain(value)}" for name, value in row.items()) for row in found)
        for kind, found in sorted(rows.items())
    }


def _plain(value: object) -> object:
    return value.timestamp() if isinstance(value, datetime) else value


OPEN: list[Follower] = []


def follower(folder: Path, settle_s: float = 0.0) -> Follower:
    OPEN.append(Follower(folder, engine="rotation", settle_s=settle_s))
    return OPEN[-1]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def take_all(source: Follower, log: Log, *, acknowledge: bool = True) -> None:
    for _ in range(50):
        if portion := source.take(1_000):
            log.add(portion)
            if acknowledge:
                source.acknowledge()


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producers.sidecar.tail.LOOK_S", 0.0)


def expected(folder: Path) -> dict[str, list[list[str]]]:
    return in_order(rows_of(list(session.events(folder, skip_bad=True))))


def texts(lines: list[Any]) -> bytes:
    return b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)


def test_a_day_that_is_there_gives_what_it_gives_when_it_is_played(tmp_path: Path) -> None:
    day = write_session(tmp_path / DAY, signals=SIGNALS, trades=TRADES, positions=POSITIONS)
    log = Log()
    take_all(follower(tmp_path), log)
    assert log.sorted() == expected(day)
    assert log.refused == []


@pytest.mark.parametrize("seed", range(25))
def test_it_does_not_matter_when_what_is_written_and_when_the_sidecar_is_killed(tmp_path: Path, seed: int) -> None:
    moments = random.Random(seed)
    day = write_session(tmp_path / "played" / DAY, **FILES)
    live = tmp_path / "live"
    live.mkdir()
    log, source = Log(), follower(live)
    # Minute by minute as the engine does it, cut anywhere, even within a line.
    for minute in range(12):
        for kind, lines in FILES.items():
            of_minute = [line for line in lines if _minute(kind, line) == minute]
            data = texts(of_minute)
            cut = moments.randrange(len(data) + 1)
            for part in (data[:cut], data[cut:]):
                with (live / f"{kind}.jsonl").open("ab") as file:
                    file.write(part)
                if moments.random() < 0.3:
                    # Read, sent, not acknowledged: killed.
                    if portion := source.take(1_000):
                        log.add(portion)
                    source.close()
                    source = follower(live)
        take_all(source, log)
        if moments.random() < 0.3:
            source.close()
            source = follower(live)
    take_all(source, log)
    assert log.sorted() == expected(day)
    assert log.refused == []


def _minute(kind: str, line: dict[str, Any]) -> int:
    return int(line["bar"] - 1 if kind == "positions" else (line["timestamp_ms"] - ms(0)) // 60_000)


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("how", ["moved", "copied"])
def test_files_are_followed_through_rotation(tmp_path: Path, how: str, *, killed: bool) -> None:
    day = write_session(tmp_path / "played" / DAY, **FILES)
    live = tmp_path / "live"
    live.mkdir()
    log, source = Log(), follower(live)
    for part in range(4):
        take_all(source, log)
        for kind, lines in FILES.items():
            path = live / f"{kind}.jsonl"
            of_part = [line for line in lines if _minute(kind, line) // 3 == part]
            if how == "moved" and path.exists():
                path.rename(live / f"{kind}.jsonl.{part}")
            elif path.exists():
                path.write_bytes(b"")  # a copy of it was made; what had not been read would be lost
            with path.open("ab") as file:
                file.write(texts(of_part))
        if killed:
            # What it had begun of the new files was sent, and not acknowledged.
            if portion := source.take(1_000):
                log.add(portion)
            source.close()
            source = follower(live)
    take_all(source, log)
    assert log.sorted() == expected(day)
    assert log.refused == []


def test_a_rotated_file_is_read_to_its_end_even_when_it_is_found_rotated(tmp_path: Path) -> None:
    path = tmp_path / "signals.jsonl"
    path.write_bytes(texts(SIGNALS[:4]))
    log, source = Log(), follower(tmp_path)
    take_all(source, log)
    source.close()
    with path.open("ab") as file:
        file.write(texts(SIGNALS[4:6]) + json.dumps(SIGNALS[6]).encode())  # its last line has no end
    path.rename(tmp_path / "signals.jsonl.1")
    path.write_bytes(texts(SIGNALS[7:10]))
    take_all(follower(tmp_path), log)
    assert [row["generated_at"].minute for row in log.rows["SignalGenerated"]] == [30 + n // 2 for n in range(10)]


def test_what_a_fill_closed_is_closed_by_a_sidecar_that_begins_between_the_fill_and_the_end_of_its_minute(
    tmp_path: Path,
) -> None:
    signals = [signal(n) for n in range(14)]
    day = write_session(tmp_path / "played" / DAY, signals=signals, trades=TRADES, positions=POSITIONS)
    live = write_session(tmp_path / "live", signals=signals, trades=TRADES, positions=POSITIONS)
    log, source = Log(), follower(live, settle_s=75.0)  # minutes before 12 are done, and not quiet
    take_all(source, log)
    assert [row["executed_at"].minute for row in log.rows["TradeExecuted"]][-1] == 41
    assert log.rows["PositionUpdated"][-1]["quantity"] != 0
    source.close()
    take_all(follower(live), log)
    assert log.sorted() == expected(day)


def test_what_was_not_read_before_a_log_was_copied_and_truncated_is_read_from_the_copy(tmp_path: Path) -> None:
    path = tmp_path / "signals.jsonl"
    path.write_bytes(texts(SIGNALS[:4]))
    for killed in (False, True):
        log, source = Log(), follower(tmp_path)
        take_all(source, log)
        first = len(log.rows.get("SignalGenerated", []))
        if killed:
            source.close()
        with path.open("ab") as file:
            file.write(texts(SIGNALS[4:6]))
        (tmp_path / f"signals.jsonl.{'2' if killed else '1'}").write_bytes(path.read_bytes())
        path.write_bytes(texts(SIGNALS[8:10] if killed else SIGNALS[6:8]))
        if killed:
            source = follower(tmp_path)
        take_all(source, log)
        assert len(log.rows["SignalGenerated"]) - first == 4
        source.close()
    assert log.refused == []


def test_a_log_that_is_moved_away_is_left_when_another_is_written_and_not_before(tmp_path: Path) -> None:
    path, moved = tmp_path / "signals.jsonl", tmp_path / "signals.jsonl.1"
    half = texts(SIGNALS[1:2])
    path.write_bytes(texts(SIGNALS[:1]) + half[:20])
    log, source = Log(), follower(tmp_path)
    take_all(source, log)
    path.rename(moved)
    path.touch()  # the engine has the former open yet
    take_all(source, log)
    with moved.open("ab") as file:
        file.write(half[20:] + texts(SIGNALS[2:3]))
    take_all(source, log)
    path.write_bytes(texts(SIGNALS[3:4]))
    take_all(source, log)
    assert len(log.rows["SignalGenerated"]) == 4
    assert log.refused == []


@pytest.mark.parametrize("killed", [False, True])
def test_of_files_that_were_rotated_none_is_left_out_and_none_read_again(tmp_path: Path, *, killed: bool) -> None:
    path = tmp_path / "signals.jsonl"
    path.write_bytes(texts(SIGNALS[:2]))
    log, source = Log(), follower(tmp_path)
    take_all(source, log)
    if killed:
        source.close()
    path.unlink()  # compressed, say
    for number in (2, 1):
        (tmp_path / f"signals.jsonl.{number}").write_bytes(texts(SIGNALS[4 - number : 5 - number]))
        os.utime(tmp_path / f"signals.jsonl.{number}", (2_000_000_000 - number, 2_000_000_000 - number))
    path.write_bytes(texts(SIGNALS[4:5]))
    os.utime(path, (2_000_000_000, 2_000_000_000))
    if killed:
        source = follower(tmp_path)
    take_all(source, log)
    assert [row["bar_id"] for row in log.rows["SignalGenerated"]] == [line["bar_id"] for line in SIGNALS[:5]]
    path.unlink()
    take_all(source, log)
    assert len(log.rows["SignalGenerated"]) == 5


def test_a_row_that_never_was_does_not_hold_up_a_backlog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "PENDING", 10)
    bad = [*POSITIONS[:4], book(5_000, 100_000), *POSITIONS[4:]]
    day = write_session(tmp_path / "played" / DAY, **FILES)
    live = write_session(tmp_path / "live", signals=SIGNALS, trades=TRADES, positions=bad)
    log = Log()
    take_all(follower(live), log)
    assert log.sorted() == expected(day)
    assert len(log.refused) == 1


def test_another_file_under_the_same_name_and_number_is_another_file(tmp_path: Path) -> None:
    path = tmp_path / "signals.jsonl"
    path.write_bytes(texts(SIGNALS[:4]))
    log, source = Log(), follower(tmp_path)
    take_all(source, log)
    source.close()
    status = path.stat()
    path.write_bytes(texts(SIGNALS[4:12]))  # the same inode, and longer than before
    assert path.stat().st_ino == status.st_ino
    take_all(follower(tmp_path), log)
    assert len(log.rows["SignalGenerated"]) == 12


def test_each_day_begins_a_book_of_its_own_in_one_row_of_files(tmp_path: Path) -> None:
    later = [{**line, "timestamp_ms": line["timestamp_ms"] + 86_400_000} for line in (*SIGNALS, *TRADES)]
    next_signals, next_trades = later[: len(SIGNALS)], later[len(SIGNALS) :]
    write_session(tmp_path / "one" / DAY, **FILES)
    write_session(tmp_path / "two" / "2025-01-07", signals=next_signals, trades=next_trades, positions=POSITIONS)
    live = write_session(
        tmp_path / "live", signals=SIGNALS + next_signals, trades=TRADES + next_trades, positions=POSITIONS * 2
    )
    log = Log()
    take_all(follower(live), log)
    both = [*session.events(tmp_path / "one" / DAY), *session.events(tmp_path / "two" / "2025-01-07")]
    assert log.sorted() == in_order(rows_of(both))


MOST_CHARACTERS = 200
BAD = {
    "no JSON": b"{nonsense\n",
    "nothing of an object": b"[1]\n",
    "not finite": texts([signal(3)]).replace(b"0.75", b"NaN"),
    "a price below zero": texts([entry(3, exec_price=-1)]),
    "an unknown direction": texts([entry(3, direction="UP")]),
    "a far future": texts([signal(3, timestamp_ms=4_000_000_000_000)]),
    "seconds": texts([signal(3, timestamp_ms=ms(3) // 1_000)]),
    "a list for a word": texts([entry(3, action=[])]),
    "an object for a word": texts([entry(3, action={})]),
    "a long list for a word": texts([entry(3, action=[1] * 10_000)]),
    "a long list for a text": texts([entry(3) | {"symbol": [1] * 10_000}]),
    "a long list for a number": texts([entry(3, exec_price=[1] * 10_000)]),
    "a long text": texts([entry(3, reason="é" * 129)]),
    "a number beyond all": b'{"timestamp_ms": ' + b"9" * 5_000 + b"}\n",
    "no UTF-8": b'{"symbol": "\xff"}\n',
    "too long": b'"' + b"x" * (3 << 20) + b'"\n',
}


@pytest.mark.parametrize("line", BAD.values(), ids=BAD.keys())
def test_a_bad_line_is_refused_by_its_place_and_the_rest_goes_on(tmp_path: Path, line: bytes) -> None:
    kind = "trades" if b"exec_price" in line else "signals"
    day = write_session(tmp_path / "played" / DAY, **FILES)
    live = tmp_path / "live"
    live.mkdir()
    for name, lines in FILES.items():
        middle = len(lines) // 2
        parts = [*lines[:middle], line, *lines[middle:]] if name == kind else lines
        (live / f"{name}.jsonl").write_bytes(texts(parts))
    log = Log()
    take_all(follower(live), log)
    assert log.sorted() == expected(day)
    assert [each.partition(": ")[0] for each in log.refused] == [
        f"{live / kind}.jsonl line {len(FILES[kind]) // 2 + 1}"
    ]
    assert len(log.refused[0].partition(": ")[2]) < MOST_CHARACTERS


def test_a_row_whose_minute_no_signal_tells_is_refused_once_nothing_more_comes(tmp_path: Path) -> None:
    write_session(tmp_path, signals=SIGNALS[:4], positions=[book(1, 100_000), book(7, 100_000), book(2, 100_001)])
    log = Log()
    take_all(follower(tmp_path), log)
    assert [row["equity"] for row in log.rows["PerformanceMinute"]] == [100_000, 100_001]
    assert log.refused == [f"{tmp_path}/positions.jsonl line 2: bar is 7, but the signals have 2 minutes"]


def test_nothing_of_a_minute_is_given_before_its_files_are_quiet(tmp_path: Path) -> None:
    write_session(tmp_path, signals=SIGNALS[:6])
    log, source = Log(), follower(tmp_path, settle_s=3_600.0)
    take_all(source, log)
    assert log.rows == {}
    source.close()
    take_all(follower(tmp_path, settle_s=0.0), log)
    assert len(log.rows["SignalGenerated"]) == 6


def test_what_it_needs_is_named_where_it_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="there is no such folder"):
        follower(tmp_path / "none")
    (tmp_path / CHECKPOINT).write_text("{")
    with pytest.raises(Fatal, match=f"{CHECKPOINT} is damaged"):
        follower(tmp_path)


def test_a_file_that_cannot_be_read_is_said_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_session(tmp_path, signals=SIGNALS[:4])
    real = Path.open
    broken = [True]

    def sometimes(path: Path, *args: Any, **more: Any) -> Any:
        if broken and path.suffix == ".jsonl":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **more)

    monkeypatch.setattr(Path, "open", sometimes)
    log, source = Log(), follower(tmp_path)
    take_all(source, log)
    assert log.rows == {}
    assert "Permission denied" in capsys.readouterr().err
    broken.clear()
    take_all(source, log)
    assert len(log.rows["SignalGenerated"]) == 4
