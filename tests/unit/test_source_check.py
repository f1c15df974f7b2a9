import ast
import gzip
import json
import sys
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from producers.source import dump, open_source, source_id
from sentio.cli.demo import source_check
from sentio.cli.demo.source_check import Figures, figures
from sentio.errors import NotPlayable
from tests.data import (
    book,
    decimals,
    entry,
    holding,
    leave,
    recorded_days,
    recorded_results,
    signal,
    write_session,
)

DAY = "2025-01-06"


def of_its_events(path: Path | None, written: Path) -> Figures:
    """The figures of what a source's events say, rather than of the source."""
    dump(open_source(path, seed=7, skip_bad=False, on_bad=None).events(), written)
    return figures(written)


def without_noise(of: Figures) -> dict[str, Any]:
    return {name: value for name, value in asdict(of).items() if name != "realized_pnl_unrounded"}


@pytest.mark.parametrize("folder", recorded_days())
def test_figures_of_a_recorded_day_are_those_of_its_events(folder: Path, tmp_path: Path) -> None:
    assert without_noise(figures(folder)) == without_noise(of_its_events(folder, tmp_path / "events.jsonl"))


@pytest.mark.parametrize("folder", recorded_days())
def test_realized_pnl_of_a_recorded_day_leads_to_its_last_equity(folder: Path) -> None:
    of = figures(folder)
    assert of.final_equity == 100_000 + of.realized_pnl == 100_000 + of.gross_profit - of.gross_loss
    assert abs(of.realized_pnl - of.realized_pnl_unrounded) < Decimal("0.000001")
    assert of.round_trips == of.fills / 2
    assert of.round_trips - of.wins - of.losses == (folder.name == "2025-10-08")  # one of exactly zero
    assert of.max_drawdown is not None
    assert 0 < of.max_drawdown < 1
    assert of.bad_lines == 0


def test_figures_of_the_recorded_results_are_those_of_their_events(tmp_path: Path) -> None:
    path = recorded_results()
    assert without_noise(figures(path)) == without_noise(of_its_events(path, tmp_path / "events.jsonl"))


def test_figures_of_the_recorded_results_are_the_engines_own() -> None:
    path = recorded_results()
    with gzip.open(path) as file:
        oracle = json.load(file, parse_float=Decimal)["performance"]
    of = figures(path)
    assert (of.round_trips, of.wins, of.losses) == (
        oracle["total_trades"],
        oracle["winning_trades"],
        oracle["losing_trades"],
    )
    assert of.final_equity == oracle["final_equity"]
    assert round(of.gross_profit / of.gross_loss, 4) == oracle["profit_factor"]


def test_figures_of_the_simulator_are_read_from_its_written_events(tmp_path: Path) -> None:
    of = of_its_events(None, tmp_path / "events.jsonl")
    assert (of.account, of.signals, of.prices, of.performance_minutes) == ("sim-7", 4680, 4680, 390)
    assert of.final_equity == 100_000 + of.realized_pnl
    assert of.round_trips == of.wins + of.losses == of.fills / 2 > 10


def made_up(folder: Path) -> Path:
    return write_session(
        folder,
        signals=[signal(0), signal(1), signal(1), signal(2)],
        trades=[
            entry(0, exec_price=10.00000000005, shares=3),  # ten digits, half even: 10.0000000000
            leave(1, exec_price=9.0, shares=3, pnl=-3.0000005),  # six digits, half even: -3.000000
            entry(1, "BBB", exec_price=0.0000015, shares=1),
            leave(2, "BBB", exec_price=0.5, shares=1, pnl=0.0000001),  # neither a win nor a loss
        ],
        positions=[
            book(1, 100_000, holding()),
            book(2, 75_000, holding("BBB")),
            book(3, 90_000.1234565),
        ],
    )


def test_figures_round_each_fill_once_half_even(tmp_path: Path) -> None:
    of = figures(made_up(tmp_path / DAY))
    assert (of.realized_pnl, of.gross_profit, of.gross_loss) == decimals("-3", "0", "3")
    assert of.realized_pnl_unrounded == Decimal("-3.0000004")
    assert (of.round_trips, of.wins, of.losses) == (2, 0, 1)
    assert (of.volume, of.notional) == decimals("8", "57.500002")
    assert of.final_equity == Decimal("90000.123456")


def test_figures_count_positions_held_and_gone_and_draw_down_from_the_peak(tmp_path: Path) -> None:
    of = figures(made_up(tmp_path / DAY))
    assert (of.signals, of.prices, of.positions, of.performance_minutes) == (4, 0, 4, 3)
    assert of.max_drawdown == Decimal("0.25")
    assert of.account == f"paper-{DAY}"


def test_figures_of_a_session_without_positions_do_not_tell_its_equity(tmp_path: Path) -> None:
    of = figures(write_session(tmp_path / "unnamed", signals=[signal(0)], trades=[entry(0), leave(0)]))
    assert (of.positions, of.performance_minutes, of.final_equity, of.max_drawdown) == (None,) * 4
    assert of.account == f"paper-{DAY}"


def test_figures_leave_out_the_lines_that_cannot_be_read(tmp_path: Path) -> None:
    whole = figures(made_up(tmp_path / "a" / DAY))
    folder = made_up(tmp_path / "b" / DAY)
    for name in ("signals", "trades", "positions"):
        with (folder / f"{name}.jsonl").open("a") as file:
            file.write('{"symbol": "AAA"\n{"symbol": "AAA"}\n')
    with (folder / "trades.jsonl").open("a") as file:
        file.write(json.dumps(entry(1, shares=-1)) + "\n")
    assert asdict(figures(folder)) == asdict(whole) | {"bad_lines": 7}


def test_source_check_shares_no_code_with_what_it_checks() -> None:
    tree = ast.parse(Path(source_check.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


# The sources that are checked


def test_source_id_is_of_the_content_compressed_or_not(tmp_path: Path) -> None:
    folder = made_up(tmp_path / "a" / DAY)
    plain = source_id(folder)
    for path in folder.glob("*.jsonl"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert source_id(folder) == plain == source_id(made_up(tmp_path / "b" / DAY))
    assert len(plain) == 12


@pytest.mark.parametrize("name", ["signals", "trades", "positions"])
def test_source_id_changes_with_every_file_that_is_played(name: str, tmp_path: Path) -> None:
    folder = made_up(tmp_path / DAY)
    before = source_id(folder)
    with (folder / f"{name}.jsonl").open("a") as file:
        file.write("\n")
    assert source_id(folder) != before


def test_source_is_named_by_its_form_and_day(tmp_path: Path) -> None:
    source = open_source(made_up(tmp_path / DAY), seed=7, skip_bad=False, on_bad=None)
    assert source.name == f"session-{DAY}"
    assert list(source.events()) == list(source.events()) != []
    one, other = (open_source(None, seed=seed, skip_bad=False, on_bad=None) for seed in (7, 8))
    assert (one.name, other.name) == ("simulated-7", "simulated-8")
    assert one.id != other.id


def test_recorded_results_are_opened_as_such() -> None:
    assert open_source(recorded_results(), seed=7, skip_bad=False, on_bad=None).name == "results-2025-10-10"


def test_source_that_skips_tells_what_it_skips_and_keeps_its_id(tmp_path: Path) -> None:
    folder = write_session(tmp_path / DAY, signals=["{", signal(0)])
    told: list[str] = []
    source = open_source(folder, seed=7, skip_bad=True, on_bad=told.append)
    assert len(list(source.events())) == len(told) == 1
    strict = open_source(folder, seed=7, skip_bad=False, on_bad=None)
    assert strict.id == source.id
    with pytest.raises(NotPlayable, match=r"signals\.jsonl line 1"):
        list(strict.events())


@pytest.mark.parametrize("name", ["missing", "empty", "table.csv", "list.json", "other.json"])
def test_path_that_is_no_source_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(NotPlayable) as refused:
        open_source(tmp_path / name, seed=7, skip_bad=False, on_bad=None)
    assert str(tmp_path / name) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_written_events_have_decimals_as_text_and_times_in_iso(tmp_path: Path) -> None:
    written = tmp_path / "events.jsonl"
    source = open_source(made_up(tmp_path / DAY), seed=7, skip_bad=False, on_bad=None)
    assert dump(source.events(), written) == len(written.read_text().splitlines())
    first, fill = (json.loads(line) for line in written.read_text().splitlines()[:2])
    assert (first["type"], first["probability"], first["generated_at"]) == (
        "SignalGenerated",
        0.75,
        "2025-01-06T14:30:00+00:00",
    )
    assert (fill["type"], fill["quantity"], fill["realized_pnl"]) == ("TradeExecuted", "3.00000000", None)
    assert not {"event_id", "producer", "sequence"} & set(first)
