"""examples/engine-cpp: what it publishes is a right stream and adds up to its own totals; all of it under the sanitizers."""

import json
import re
import subprocess
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from producers.sidecar.ring import Ring
from tests import engines, rotation
from tests.pipeline import until
from tests.rotation import CAPITAL, run
from tests.written import columns

COLUMNS = "ts_utc,ts_nyt_epoch,open,high,low,close,volume"
OPENING_S = 1_736_173_800
"""09:30 in New York on 2025-01-06."""


@pytest.fixture(scope="module")
def program() -> Path:
    return rotation.built()


@pytest.fixture(scope="module")
def simulated(program: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Three days of seed 7: what the engine says at its end, and what is in its ring."""
    path = tmp_path_factory.mktemp("simulated") / "ring"
    totals, errors = run(program, "--ring", path, "--simulate", 7, "--days", 3)
    assert not errors
    return totals, rotation.in_ring(path)


def test_totals_are_what_the_events_add_up_to(simulated: tuple[dict[str, Any], dict[str, list[Any]]]) -> None:
    totals, events = simulated
    accounts = rotation.added_up(events)
    assert list(accounts) == ["cpp-2025-10-08", "cpp-2025-10-09", "cpp-2025-10-10"]
    assert rotation.said(totals) == accounts
    assert rotation.figures(totals["all"]) == rotation.sum_of(accounts.values())
    assert totals["all"]["signals"] == len(events["SignalGenerated"])
    assert totals["published"] == sum(map(len, events.values()))
    assert all(account["wins"] and account["losses"] for account in accounts.values())


def test_books_of_the_stream_are_in_order(simulated: tuple[dict[str, Any], dict[str, list[Any]]]) -> None:
    _, events = simulated
    held: dict[tuple[str, str], Any] = {}  # by account and symbol, the entry
    realized: dict[tuple[str, str], Decimal] = {}
    for fill in events["TradeExecuted"]:
        key = (fill.account, fill.symbol)
        if fill.action == "ENTRY":
            assert (fill.side, fill.realized_pnl, key in held) == ("BUY", None, False)
            held[key] = fill
            continue
        entry = held.pop(key)
        assert (fill.side, fill.quantity) == ("SELL", entry.quantity)
        gain = ((fill.price - entry.price) * fill.quantity).quantize(rotation.SIX) - entry.fees - fill.fees
        assert fill.realized_pnl == gain
        realized[key] = realized.get(key, Decimal(0)) + gain
    assert not held, "flat at the end of each day"

    newest = {(each.account, each.symbol): each for each in events["PositionUpdated"]}
    assert {key: each.realized_pnl for key, each in newest.items()} == realized
    assert {(each.quantity, each.unrealized_pnl) for each in newest.values()} == {(0, 0)}


def test_every_minute_says_the_worth_of_the_account(simulated: tuple[dict[str, Any], dict[str, list[Any]]]) -> None:
    _, events = simulated
    open_at: dict[tuple[str, Any], list[Any]] = {}
    for position in events["PositionUpdated"]:
        if position.quantity:
            open_at.setdefault((position.account, position.updated_at), []).append(position)
    for minute in events["PerformanceMinute"]:
        positions = open_at.get((minute.account, minute.minute_at), [])
        assert minute.open_positions == len(positions)
        assert minute.unrealized_pnl == sum((each.unrealized_pnl for each in positions), Decimal(0))
        assert minute.equity == CAPITAL + minute.realized_pnl + minute.unrealized_pnl
        assert minute.day_return == (minute.equity / CAPITAL - 1).quantize(rotation.TEN)
    for signal in events["SignalGenerated"]:
        assert abs(signal.probability - 0.5) * 2 == pytest.approx(signal.confidence)
        assert signal.direction == "NEUTRAL" or (signal.direction == "LONG") == (signal.probability > 0.5)


def test_a_full_ring_is_waited_for_and_nothing_is_lost(program: Path, tmp_path: Path) -> None:
    path = tmp_path / "ring"
    read: list[int] = []

    def drain() -> None:
        until(path.exists)
        with Ring(path) as ring:
            while not finished.is_set() or ring.counts().unread:
                found = ring.read(16)
                read.extend(int(n) for batch in columns(found).values() for n in batch.column("sequence").to_pylist())
                ring.acknowledge(ring.position)

    finished = threading.Event()
    reader = threading.Thread(target=drain)
    reader.start()
    try:
        totals, errors = run(program, "--ring", path, "--simulate", 7, "--days", 1, "--capacity", 64)
    finally:
        finished.set()
        reader.join(60)
    assert (totals["lost"], errors) == (0, "")
    assert totals["waits"] > 0
    assert totals["waited_us"] > 0
    assert sorted(read) == list(range(totals["published"]))


def test_what_a_full_ring_has_no_room_for_is_counted_said_and_ends_with_1(program: Path, tmp_path: Path) -> None:
    path = tmp_path / "ring"
    arguments = ("--ring", path, "--simulate", 7, "--days", 1, "--capacity", 64, "--patience", 0)
    totals, errors = run(program, *arguments, status=1)
    events = sum(totals["all"][name] for name in ("fills", "signals", "positions", "minutes"))
    assert (totals["published"], totals["lost"]) == (64, events - 64)
    assert errors.count("events are lost") == 1


def test_events_go_into_the_ring_again_once_there_is_room(program: Path, tmp_path: Path) -> None:
    path = tmp_path / "ring"
    simulated = ("--simulate", "7", "--days", "3", "--speed", "40000")
    command = [str(program), "--ring", str(path), "--capacity", "64", "--patience", "0", *simulated]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert "events are lost" in process.stderr.readline()
        with Ring(path) as ring:
            ring.read()
            ring.acknowledge(ring.position)
            assert "events are lost" in process.stderr.readline(), "each time that it begins"
            ring.read()
            ring.acknowledge(ring.position)
        output, errors = process.communicate(timeout=60)
    totals = json.loads(output)
    assert totals["published"] == 3 * 64
    assert totals["published"] + totals["lost"] == sum(
        totals["all"][name] for name in ("fills", "signals", "positions", "minutes")
    )
    assert errors.count("events are lost") == 1


def test_a_run_that_was_killed_goes_on_behind_what_its_ring_has(
    program: Path, tmp_path: Path, simulated: tuple[dict[str, Any], dict[str, list[Any]]]
) -> None:
    path = tmp_path / "ring"
    days = ("--simulate", "7", "--days", "3")
    command = [str(program), "--ring", str(path), *days, "--speed", "60000"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        until(lambda: path.exists() and int.from_bytes(path.read_bytes()[256:264], "little") > 2_000)
        process.kill()
    totals, _ = run(program, "--ring", path, *days, "--resume")
    undisturbed, events = simulated
    assert 2_000 < totals["resumed"] < undisturbed["published"]
    assert totals["resumed"] + totals["published"] == undisturbed["published"]
    assert totals["days"] == undisturbed["days"]
    assert rotation.added_up(rotation.in_ring(path)) == rotation.added_up(events)


def bar(minute: int, *, at_s: object = None, price: object = 10, low: object = None, volume: object = 100) -> str:
    at_s = OPENING_S + 60 * minute if at_s is None else at_s
    return f"2025-01-06T09:30:00-05:00,{at_s},{price},{price},{price if low is None else low},{price},{volume}"


def write_bars(folder: Path, symbol: str, *lines: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{symbol}.csv").write_text("".join(f"{line}\n" for line in (COLUMNS, *lines)))
    return folder


def test_a_bad_line_is_named_counted_and_left_out(program: Path, tmp_path: Path) -> None:
    bad = {
        "close is 'nan', no price": bar(1, price=10).replace(",10,100", ",nan,100"),
        "open is '-10', no price from 0.01 to 1000000 USD": bar(1, price=-10),
        "open is '1e3', no price from 0.01 to 1000000 USD": bar(1, price="1e3"),
        "open is '0', no price from 0.01 to 1000000 USD": bar(1, price=0),
        "open is '99999999999', no price from 0.01 to 1000000 USD": bar(1, price=99_999_999_999),
        "open is '1000000.01', no price": bar(1, price="1000000.01"),
        "open is '0.009999999949999', no price": bar(1, price="0.009999999949999"),
        "low is '', no price": bar(1, low=""),
        "open and close are not between low and high": bar(1, low=11),
        "volume is '-1', no number of shares": bar(1, volume=-1),
        "volume is 'many', no number of shares": bar(1, volume="many"),
        "ts_nyt_epoch is '1736173801', no minute": bar(1, at_s=OPENING_S + 1),
        "ts_nyt_epoch is '99999999960', no minute": bar(1, at_s=99_999_999_960),
        "ts_nyt_epoch is 'soon'": bar(1, at_s="soon"),
        "its time is not after that of the line before": bar(0),
        "it has 8 fields, not 7": bar(1) + ",",
        "it has 1 fields, not 7": "what is this",
    }
    folder = write_bars(tmp_path / "bars", "AAA", bar(0), *bad.values(), bar(1, price="10.00000000005"), "", bar(2))
    write_bars(folder, "BBB", *(bar(minute) for minute in range(3)))
    totals, errors = run(program, "--ring", tmp_path / "ring", "--bars", folder)
    assert totals["bad_lines"] == len(bad)
    lines = errors.splitlines()
    assert len(lines) == len(bad)
    for number, (line, reason) in enumerate(zip(lines, bad, strict=True), 3):
        assert line.startswith(f"{folder}/AAA.csv line {number}: left out, {reason}")
    assert totals["days"][0]["minutes"] == 3


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("AAA.csv", "", "AAA.csv cannot be read or is empty"),
        ("AAA.csv", "time,price\n", f"AAA.csv line 1: the columns are not {COLUMNS}"),
        ("AAA.csv", f"{COLUMNS}\n", "there are no bars"),
        ("A-SYMBOL-TOO-LONG.csv", f"{COLUMNS}\n", "its name is no symbol"),
        ("AAA.csv.gz", "", "has no SYMBOL.csv (unpack .csv.gz first)"),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_line_and_exit_1(
    program: Path, tmp_path: Path, name: str, text: str, reason: str
) -> None:
    (tmp_path / name).write_text(text)
    _, errors = run(program, "--ring", tmp_path / "ring", "--bars", tmp_path, status=1)
    assert errors.startswith("rotation: ")
    assert reason in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "--ring is missing"),
        (("--ring", "r"), "either --bars or --simulate"),
        (("--ring", "r", "--bars", ".", "--simulate", "1"), "either --bars or --simulate"),
        (("--ring", "r", "--simulate", "x"), "--simulate x: a whole number"),
        (("--ring", "r", "--simulate", "1", "--days", "0"), "--days 0: a whole number from 1"),
        (("--ring", "r", "--simulate", "1", "--speed", "-1"), "--speed -1: a number above zero, or max"),
        (("--ring", "r", "--simulate", "1", "--from", "2025-02-30"), "--from 2025-02-30: a day as YYYY-MM-DD"),
        (("--ring", "r", "--simulate", "1", "--account", "a b"), "--account a b: up to 21 letters"),
        (("--ring", "r", "--loud", "1"), "--loud: there is no such option"),
        (("--ring",), "--ring: its value is missing"),
    ],
)
def test_a_wrong_option_is_named_and_exit_2(program: Path, arguments: tuple[str, ...], reason: str) -> None:
    _, errors = run(program, *arguments, status=2)
    assert errors.startswith(f"rotation: {reason}")
    assert len(errors.splitlines()) == 1


def test_readme_names_no_option_that_help_lacks(program: Path) -> None:
    listed = set(re.findall(r"--[a-z]+", engines.ran(program, "--help")))
    named = set(re.findall(r"(?<=[ `])--[a-z]+", (rotation.SOURCES / "README.md").read_text()))
    assert {"--simulate", "--patience"} <= listed & named
    assert named <= listed | {"--help", "--build"}, "the last one is cmake's"


def test_minutes_take_their_time_at_a_speed_and_days_are_those_of_new_york(program: Path, tmp_path: Path) -> None:
    """The clocks change on Sunday, 2025-11-02."""
    ring = tmp_path / "ring"
    totals, _ = run(program, "--ring", ring, "--simulate", 1, "--from", "2025-10-31", "--days", 2, "--speed", "1e9")
    assert [day["account"] for day in totals["days"]] == ["cpp-2025-10-31", "cpp-2025-11-03"]
    minutes = rotation.in_ring(ring)["PerformanceMinute"]
    assert [f"{minutes[at].minute_at:%d %H:%M}" for at in (0, 389, 390, 779)] == [
        "31 13:30", "31 19:59", "03 14:30", "03 20:59",
    ]  # fmt: skip
