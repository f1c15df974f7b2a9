import gzip
import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pytest

from producers.session import events
from schemas import amounts
from schemas.columns import from_events, to_events
from schemas.events import Event, PerformanceMinute, PositionUpdated, SignalGenerated, TradeExecuted
from sentio.errors import NotPlayable
from tests.data import book, decimals, entry, holding, leave, minute, recorded_days, signal, write_session

E = TypeVar("E", bound=Event)
DAY = "2025-01-06"
KINDS = [SignalGenerated, TradeExecuted, PositionUpdated, PerformanceMinute]


def of(kind: type[E], played: list[Event]) -> list[E]:
    return [event for event in played if isinstance(event, kind)]


def at(event: Event) -> datetime:
    for name in ("generated_at", "executed_at", "updated_at", "minute_at"):
        if hasattr(event, name):
            time: datetime = getattr(event, name)
            return time
    raise AssertionError(event)


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    with gzip.open(folder / f"{name}.jsonl.gz") as file:
        return [json.loads(line, parse_float=Decimal) for line in file]


def play_until_stopped(folder: Path) -> tuple[list[Event], str]:
    """What was yielded, and the complaint that ended it."""
    played: list[Event] = []

    some = events(folder)
    try:
        for event in some:
            played.append(event)  # noqa: PERF402  (a list made at once would be lost with the error)
    except NotPlayable as stopped:
        return played, str(stopped)
    raise AssertionError("played to the end")


# The recorded days


@pytest.mark.parametrize("folder", recorded_days())
def test_every_line_of_a_recorded_day_becomes_an_event(folder: Path) -> None:
    played = list(events(folder))
    assert len(of(SignalGenerated, played)) == len(lines(folder, "signals"))
    assert len(of(TradeExecuted, played)) == len(lines(folder, "trades"))
    assert len(of(PerformanceMinute, played)) == len(lines(folder, "positions")) == 388
    assert {e.account for e in of(PerformanceMinute, played)} == {f"paper-{folder.name}"}


@pytest.mark.parametrize("folder", recorded_days())
def test_realized_pnl_of_a_recorded_day_is_the_logs_to_the_cent(folder: Path) -> None:
    played = list(events(folder))
    realized = sum(e.realized_pnl for e in of(TradeExecuted, played) if e.realized_pnl is not None)
    logged = sum(line["pnl"] for line in lines(folder, "trades") if line["action"] == "EXIT")
    last = of(PerformanceMinute, played)[-1]
    assert abs(realized - logged) < Decimal("0.000001")  # the noise of its binary fractions
    assert last.equity == 100_000 + realized
    assert last.realized_pnl == realized


@pytest.mark.parametrize("folder", recorded_days())
def test_recorded_day_ends_flat(folder: Path) -> None:
    played = list(events(folder))
    newest = {position.symbol: position for position in of(PositionUpdated, played)}
    last = of(PerformanceMinute, played)[-1]
    assert newest
    assert all(position.quantity == 0 for position in newest.values())
    assert sum(position.realized_pnl for position in newest.values()) == last.realized_pnl
    assert last.open_positions == last.unrealized_pnl == 0


@pytest.mark.parametrize("folder", recorded_days())
def test_equity_of_every_minute_is_capital_plus_realized_plus_unrealized(folder: Path) -> None:
    for row in of(PerformanceMinute, list(events(folder))):
        assert row.equity == 100_000 + row.realized_pnl + row.unrealized_pnl
        assert row.day_return == amounts.price(row.equity / 100_000 - 1)


@pytest.mark.parametrize("folder", recorded_days())
def test_unrealized_pnl_of_the_account_is_that_of_its_positions_until_the_first_short(folder: Path) -> None:
    """The engine's equity values a short as a long, so that it holds for minutes without a short only."""
    of_positions: Counter[datetime] = Counter()
    with_short = set()
    for event in events(folder):
        if isinstance(event, PositionUpdated):
            of_positions[event.updated_at] += event.unrealized_pnl  # type: ignore[assignment] # a Decimal from then on
            with_short |= {event.updated_at} if event.quantity < 0 else set()
        if isinstance(event, PerformanceMinute) and event.minute_at not in with_short:
            assert abs(of_positions[event.minute_at] - event.unrealized_pnl) <= Decimal("0.000005")
    assert with_short


@pytest.mark.parametrize("folder", recorded_days())
def test_recorded_day_is_in_engine_time_and_by_kind_within_a_minute(folder: Path) -> None:
    places = [(at(event), KINDS.index(type(event))) for event in events(folder)]
    assert places == sorted(places)
    assert {time.tzinfo for time, _ in places} == {UTC}


@pytest.mark.parametrize("folder", recorded_days())
def test_signals_and_fills_of_a_minute_keep_the_order_of_their_files(folder: Path) -> None:
    played = list(events(folder))
    signals = sorted(lines(folder, "signals"), key=lambda line: int(line["timestamp_ms"]))
    assert [(e.symbol, e.bar_id) for e in of(SignalGenerated, played)] == [
        (line["symbol"], line["bar_id"]) for line in signals
    ]
    assert [(e.symbol, e.action, e.quantity) for e in of(TradeExecuted, played)] == [
        (line["symbol"], line["action"], line["shares"]) for line in lines(folder, "trades")
    ]


@pytest.mark.parametrize("folder", recorded_days())
def test_every_event_of_a_recorded_day_fits_its_schema(folder: Path) -> None:
    played = list(events(folder))
    for kind in (SignalGenerated, TradeExecuted, PositionUpdated, PerformanceMinute):
        assert to_events(from_events(of(kind, played)), kind.__name__) == of(kind, played)


@pytest.mark.parametrize("folder", recorded_days())
def test_recorded_day_plays_the_same_twice_and_compressed_or_not(folder: Path, tmp_path: Path) -> None:
    plain = tmp_path / folder.name
    plain.mkdir()
    for name in ("signals", "trades", "positions"):
        (plain / f"{name}.jsonl").write_bytes(gzip.decompress((folder / f"{name}.jsonl.gz").read_bytes()))
    assert list(events(folder)) == list(events(plain)) == list(events(plain))


# What a line becomes


def test_fill_carries_what_the_engine_reported(tmp_path: Path) -> None:
    trades = [entry(0, exec_price=1379.9900000000016), leave(1, pnl=-522.4800000000032)]
    bought, sold = of(
        TradeExecuted,
        list(events(write_session(tmp_path / DAY, signals=[signal(0), signal(1)], trades=trades))),
    )
    assert (bought.account, bought.strategy) == (f"paper-{DAY}", "rotation")
    assert (bought.action, bought.side, str(bought.quantity)) == ("ENTRY", "BUY", "100.00000000")
    assert (str(bought.price), bought.realized_pnl) == ("1379.9900000000", None)
    assert (sold.action, sold.side, sold.executed_at) == ("EXIT", "SELL", minute(1))
    assert (str(sold.realized_pnl), str(sold.fees)) == ("-522.480000", "0.000000")


def test_exit_of_a_short_buys_though_its_direction_says_short(tmp_path: Path) -> None:
    trades = [entry(0, direction="SHORT"), leave(0, direction="SHORT")]
    sold, bought = of(TradeExecuted, list(events(write_session(tmp_path / DAY, signals=[signal(0)], trades=trades))))
    assert (sold.side, bought.side) == ("SELL", "BUY")


def test_pnl_of_exactly_zero_stays_a_pnl(tmp_path: Path) -> None:
    trades = [entry(0), leave(0, pnl=0.0)]
    fills = of(TradeExecuted, list(events(write_session(tmp_path / DAY, signals=[signal(0)], trades=trades))))
    assert [fill.realized_pnl for fill in fills] == [None, Decimal(0)]


def test_row_n_of_the_positions_belongs_to_the_nth_time_of_the_signals(tmp_path: Path) -> None:
    signals = [signal(0), signal(2), signal(1), signal(2), signal(5)]
    rows = [book(1, 100_000), book(4, 100_001.5)]
    played = list(events(write_session(tmp_path / DAY, signals=signals, positions=rows)))
    assert [row.minute_at for row in of(PerformanceMinute, played)] == [minute(0), minute(5)]


def test_position_has_the_quantity_of_the_fills_and_is_gone_once(tmp_path: Path) -> None:
    folder = write_session(
        tmp_path / DAY,
        signals=[signal(number) for number in range(4)],
        trades=[
            entry(0, shares=300, direction="SHORT"),
            leave(1, shares=100, pnl=-20.5),
            leave(2, shares=200, pnl=1.25, exec_price=10.125),
        ],
        positions=[
            book(1, 100_075, holding(direction="SHORT", pnl=0.25)),
            book(2, 100_010, holding(direction="SHORT", pnl=-0.0000001)),
            book(3, 99_980.75),
            book(4, 99_980.75),
        ],
    )
    short, less, gone = of(PositionUpdated, list(events(folder)))
    assert (short.quantity, short.average_entry, short.mark) == decimals("-300", "10.5", "10.75")
    assert (short.unrealized_pnl, short.realized_pnl) == decimals("75", "0")
    assert (less.quantity, less.unrealized_pnl, less.realized_pnl) == decimals("-200", "-0.00002", "-20.5")
    assert (gone.quantity, gone.average_entry, gone.unrealized_pnl) == decimals("0", "0", "0")
    assert (gone.mark, gone.realized_pnl) == decimals("10.125", "-19.25")
    assert gone.updated_at == minute(2)


def test_position_that_is_sold_and_bought_again_in_one_minute_is_not_gone(tmp_path: Path) -> None:
    folder = write_session(
        tmp_path / DAY,
        signals=[signal(0), signal(1)],
        trades=[entry(0), leave(1), entry(1, shares=40)],
        positions=[book(1, 100_025, holding()), book(2, 100_085, holding())],
    )
    assert [position.quantity for position in of(PositionUpdated, list(events(folder)))] == [100, 40]


def test_position_closed_behind_the_last_row_is_gone_at_its_exit(tmp_path: Path) -> None:
    folder = write_session(
        tmp_path / DAY,
        signals=[signal(0), signal(1)],
        trades=[entry(0), leave(1)],
        positions=[book(1, 100_025, holding())],
    )
    last = list(events(folder))[-1]
    assert isinstance(last, PositionUpdated)
    assert (last.quantity, last.realized_pnl) == decimals("0", "75")
    assert last.updated_at == minute(1)


def test_session_without_positions_has_signals_and_fills_only(tmp_path: Path) -> None:
    folder = write_session(tmp_path / DAY, signals=[signal(0)], trades=[entry(0), leave(0)])
    assert [type(event) for event in events(folder)] == [SignalGenerated, TradeExecuted, TradeExecuted]


def test_day_comes_from_the_signals_when_the_folder_is_no_date(tmp_path: Path) -> None:
    late = signal(0, timestamp_ms=1736211600000 - 1)  # a millisecond before midnight in New York
    folder = write_session(tmp_path / "of-the-desk", signals=["no JSON", late], positions=[book(1, 1e5)])
    played = list(events(folder, skip_bad=True))
    assert [event.account for event in of(PerformanceMinute, played)] == [f"paper-{DAY}"]


@pytest.mark.parametrize("missing", ["signals", "trades"])
def test_missing_file_is_named_before_anything_is_played(missing: str, tmp_path: Path) -> None:
    folder = write_session(tmp_path / DAY, signals=[signal(0)], trades=[entry(0)])
    (folder / f"{missing}.jsonl").unlink()
    with pytest.raises(NotPlayable, match=rf"{missing}\.jsonl is missing"):
        events(folder)


def test_compressed_file_that_is_cut_off_is_named(tmp_path: Path) -> None:
    folder = write_session(tmp_path / DAY, signals=[signal(0)])
    packed = gzip.compress(b"".join(json.dumps(signal(number)).encode() for number in range(50)))
    (folder / "signals.jsonl").unlink()
    (folder / "signals.jsonl.gz").write_bytes(packed[:-20])
    with pytest.raises(NotPlayable, match=r"signals\.jsonl\.gz cannot be read"):
        events(folder)


# Lines that cannot be used

BAD_SIGNALS = {
    "is not JSON": '{"symbol": "AAA", ',
    "is not a JSON object": "[1, 2]",
    "holds NaN": json.dumps(signal(1, probability=float("nan"))),
    "lacks confidence": json.dumps({k: v for k, v in signal(1).items() if k != "confidence"}),
    "lacks timestamp_ms": json.dumps({k: v for k, v in signal(1).items() if k != "timestamp_ms"}),
    "signal is 3": json.dumps(signal(1, signal=3)),
    "signal is True": json.dumps(signal(1, signal=True)),
    "probability is 1.01": json.dumps(signal(1, probability=1.01)),
    "confidence is -0.5": json.dumps(signal(1, confidence=-0.5)),
    "bar_id is 9223372036854775808": json.dumps(signal(1, bar_id=2**63)),
    "symbol is ''": json.dumps(signal(1, symbol="")),
    "timestamp_ms is 2025-01-07 14:30 UTC, not within": json.dumps(signal(24 * 60)),
    "timestamp_ms is 99999999999999999": json.dumps(signal(1, timestamp_ms=99999999999999999)),
    "timestamp_ms is 0, not": json.dumps(signal(1, timestamp_ms=0)),
    "symbol has 258 bytes, more than 256": json.dumps(signal(1, symbol="é" * 129)),
}
BAD_TRADES = {
    "is not JSON": "trade",
    "is not JSON (": '{"shares": 1e99999999999999999999}',
    "action is 'HOLD'": json.dumps(entry(1, action="HOLD")),
    "action is [], not": json.dumps(entry(1, action=[])),
    "action is {}, not": json.dumps(entry(1, action={})),
    "direction is 'UP'": json.dumps(entry(1, direction="UP")),
    "shares is -1": json.dumps(entry(1, shares=-1)),
    "shares is 0": json.dumps(entry(1, shares=0)),
    "shares is True": json.dumps(entry(1, shares=True)),
    "exec_price is 'Infinity'": json.dumps(entry(1, exec_price=float("inf"))).replace("Infinity", '"Infinity"'),
    "holds Infinity": json.dumps(entry(1, exec_price=float("inf"))),
    "exec_price is 0": json.dumps(entry(1, exec_price=0)),
    "exec_price is 1E+12": json.dumps(entry(1)).replace("10.5", "1e12"),
    "lacks pnl": json.dumps({k: v for k, v in leave(1).items() if k != "pnl"}),
    "lacks reason": json.dumps({k: v for k, v in entry(1).items() if k != "reason"}),
    "exits more AAA than the 100 shares held": json.dumps(leave(1, shares=101)),
    "exits more BBB than the 0 shares held": json.dumps(leave(1, "BBB")),
    "enters AAA against the 100 shares held": json.dumps(entry(1, direction="SHORT")),
}
BAD_ROWS = {
    "is not JSON": "{",
    "lacks current_equity": json.dumps({"bar": 2, "positions": []}),
    "bar is 4, but the signals have 3 minutes": json.dumps(book(4, 1e5)),
    "bar is 0": json.dumps(book(0, 1e5)),
    "positions is not a list": json.dumps(book(2, 1e5) | {"positions": {}}),
    "positions names a symbol twice": json.dumps(book(2, 1e5, holding(), holding())),
    "positions holds BBB, which no fill opened": json.dumps(book(2, 1e5, holding("BBB"))),
    "positions holds AAA, which no fill opened that way": json.dumps(book(2, 1e5, holding(direction="SHORT"))),
    "lacks entry_price": json.dumps(book(2, 1e5, {"symbol": "AAA", "direction": "LONG"})),
    "current_price is -1": json.dumps(book(2, 1e5, holding(current_price=-1))),
}


def session_with(folder: Path, *, file: str, line: str) -> Path:
    """Three good minutes; the line is the third of its file."""
    signals: list[object] = [signal(0), signal(1), signal(2)]
    trades: list[object] = [entry(0), entry(1, "CCC"), leave(2)]
    rows: list[object] = [book(1, 100_000, holding()), book(2, 100_000, holding(), holding("CCC"))]
    {"signals": signals, "trades": trades, "positions": rows}[file].insert(2, line)
    return write_session(folder / DAY, signals=signals, trades=trades, positions=rows)


BAD = [
    pytest.param(file, line, complaint, id=f"{file} {complaint}")
    for file, bad in (("signals", BAD_SIGNALS), ("trades", BAD_TRADES), ("positions", BAD_ROWS))
    for complaint, line in bad.items()
]


@pytest.mark.parametrize(("file", "line", "complaint"), BAD)
def test_unusable_line_stops_the_play_before_it_and_is_named(
    file: str, line: str, complaint: str, tmp_path: Path
) -> None:
    folder = session_with(tmp_path, file=file, line=line)
    played, stopped = play_until_stopped(folder)
    assert f"{folder / file}.jsonl line 3: {complaint.partition(' (')[0]}" in stopped
    assert "\n" not in stopped
    assert of(PerformanceMinute, played)[0].minute_at == minute(0)


@pytest.mark.parametrize(("file", "line", "complaint"), BAD)
def test_unusable_line_is_told_and_left_out_when_asked(file: str, line: str, complaint: str, tmp_path: Path) -> None:
    told: list[str] = []
    whole = list(events(session_with(tmp_path / "a", file=file, line="")))
    played = list(events(session_with(tmp_path / "b", file=file, line=line), skip_bad=True, on_bad=told.append))
    assert played == whole
    assert len(told) == 1
    assert "line 3" in told[0]


@pytest.mark.parametrize(("file", "line", "complaint"), BAD)
def test_what_comes_before_a_stop_is_the_beginning_of_what_skipping_yields(
    file: str, line: str, complaint: str, tmp_path: Path
) -> None:
    folder = session_with(tmp_path, file=file, line=line)
    before, _ = play_until_stopped(folder)
    assert before == list(events(folder, skip_bad=True))[: len(before)]


def test_line_without_a_time_stands_behind_the_minute_of_the_line_before_it(tmp_path: Path) -> None:
    signals = [signal(0), signal(1), "{", signal(2)]
    folder = write_session(tmp_path / DAY, signals=signals, trades=[entry(0), entry(1)])
    played, _ = play_until_stopped(folder)
    assert [(type(event), at(event)) for event in played] == [
        (SignalGenerated, minute(0)),
        (TradeExecuted, minute(0)),
        (SignalGenerated, minute(1)),
    ]


def test_unusable_first_line_without_a_time_comes_before_everything(tmp_path: Path) -> None:
    folder = write_session(tmp_path / DAY, signals=[signal(0)], trades=["{", entry(0)])
    assert play_until_stopped(folder)[0] == []


def test_line_with_a_time_stops_the_play_there_wherever_it_is_in_its_file(tmp_path: Path) -> None:
    signals = [signal(2, signal=9), signal(0), signal(1), signal(2)]
    played, _ = play_until_stopped(write_session(tmp_path / DAY, signals=signals))
    assert [at(event) for event in played] == [minute(0), minute(1)]


def test_position_that_the_engine_dropped_is_gone_though_its_exit_could_not_be_used(tmp_path: Path) -> None:
    folder = write_session(
        tmp_path / DAY,
        signals=[signal(0), signal(1), signal(2)],
        trades=[entry(0), leave(1, shares="all"), entry(2, shares=7)],
        positions=[book(1, 1e5, holding()), book(2, 1e5), book(3, 1e5, holding())],
    )
    positions = of(PositionUpdated, list(events(folder, skip_bad=True)))
    assert [position.quantity for position in positions] == [100, 0, 7]
