"""The main job as a user runs it: `sentio demo`, whole, with every process killed once in the middle."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from signal import SIGINT, SIGKILL
from typing import Any

import pytest

from sentio.cli.demo import engine
from sentio.stack.processes import Record
from tests import rotation
from tests.data import recorded_days, recorded_results, signal, write_session
from tests.pipeline import until

STARTED_S = 120.0
"""Nine processes start beside other tests on two cores."""

MIDDLE = "3000"
"""Speed at which the simulated day takes about eight seconds: time to kill somebody."""


def command(root: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "sentio", "demo", "--json", "--root", str(root), *arguments]


def demo(root: Path, *arguments: str) -> dict[str, Any]:
    """The document of a demo that must be consistent."""
    done = subprocess.run(command(root, *arguments), capture_output=True, text=True, timeout=170, check=False)
    assert done.stdout, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["consistent"], document["problems"]
    assert done.returncode == 0
    return document


def processes(root: Path) -> dict[str, Record]:
    """Every process the demo under ``root`` has running."""
    found = {}
    for file in [*root.glob("*/run/*.json"), *root.glob("*/stack/*/*.json"), *root.glob("*/stack/**/*process*")]:
        try:
            record = Record(**json.loads(file.read_text()))
        except (ValueError, TypeError, OSError):
            continue
        if record.running:
            found[record.name] = record
    return found


def kill_and_await(root: Path, victim: str) -> None:
    """Kill a process of the demo; returns when it is started again."""
    before = processes(root)[victim]
    os.kill(before.pid, SIGKILL)
    until(lambda: processes(root).get(victim, before).pid != before.pid, timeout_s=STARTED_S)


@contextmanager
def running(root: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A demo in the background; at the end nothing of it may be left."""
    with subprocess.Popen(
        command(root, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill() if process.poll() is None else None


def figures(document: dict[str, Any]) -> dict[str, Any]:
    """What must not depend on the course of events."""
    return {name: document[name] for name in ("published", "stored", "delivered", "trades", "aggregates")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The simulated day with nobody killed."""
    return figures(demo(tmp_path_factory.mktemp("undisturbed"), "--seed", "7"))


def plain_figures(folder: Path) -> tuple[int, int, Decimal]:
    """Signals, trades and the sum of pnl of a recorded day, by a loop over its lines."""
    with gzip.open(folder / "signals.jsonl.gz", "rt") as file:
        signals = sum(1 for _ in file)
    with gzip.open(folder / "trades.jsonl.gz", "rt") as file:
        trades = [json.loads(line, parse_float=Decimal) for line in file]
    return signals, len(trades), sum((trade["pnl"] for trade in trades if "pnl" in trade), Decimal(0))


@pytest.mark.parametrize("day", recorded_days())
def test_a_recorded_day_is_stored_aggregated_and_delivered_to_the_cent(day: Path, tmp_path: Path) -> None:
    signals, trades, pnl = plain_figures(day)
    document = demo(tmp_path, "--session", str(day), "--speed", "max")
    for where in ("published", "stored", "delivered"):
        assert document[where]["signals.generated"] == signals
        assert document[where]["trades.executed"] == trades
    assert document["trades"]["count"] == trades
    for said in (document["trades"]["realized_pnl"], document["aggregates"]["day"]["realized_pnl"]):
        assert abs(Decimal(said) - pnl) < Decimal("0.005")
    if day.name == "2025-10-10":
        assert (signals, trades) == (5_472, 72)


def test_the_statistics_of_a_results_file_are_those_the_engine_wrote(tmp_path: Path) -> None:
    path = recorded_results()
    day = demo(tmp_path, "--session", str(path))["aggregates"]["day"]
    engine = json.loads(gzip.decompress(path.read_bytes()))["performance"]
    assert [day["trades"], day["wins"], day["losses"]] == [
        engine[name] for name in ("total_trades", "winning_trades", "losing_trades")
    ]
    names = {"win_rate": "win_rate", "average_win": "avg_win", "average_loss": "avg_loss",
             "profit_factor": "profit_factor", "final_equity": "final_equity"}  # fmt: skip
    assert {ours: round(float(day[ours]), 4) for ours in names} == {
        ours: engine[theirs] for ours, theirs in names.items()
    }


def test_a_simulated_day_is_consistent(undisturbed: dict[str, Any]) -> None:
    assert undisturbed["trades"]["count"] > 0
    assert undisturbed["published"].keys() == undisturbed["delivered"].keys()
    assert undisturbed["published"]["engine.heartbeat"] == 390


@pytest.mark.parametrize("victim", ["play", "store", "aggregates", "stream", "rest", "kafka", "postgres"])
def test_killing_one_process_in_the_middle_changes_no_figure(
    victim: str, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    with running(tmp_path, "--seed", "7", "--speed", MIDDLE) as process:
        until(lambda: received(tmp_path) > 300, timeout_s=STARTED_S)
        kill_and_await(tmp_path, victim)
        output, errors = process.communicate(timeout=150)
    assert output, errors
    document = json.loads(output)
    assert document["consistent"], document["problems"]
    assert figures(document) == undisturbed
    assert processes(tmp_path) == {}


def test_a_demo_killed_in_the_middle_goes_on_at_its_second_start(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    with running(tmp_path, "--seed", "7", "--speed", MIDDLE) as process:
        until(lambda: received(tmp_path) > 300, timeout_s=STARTED_S)
        assert len(processes(tmp_path)) >= 6
        process.send_signal(SIGKILL)
    until(lambda: not processes(tmp_path))
    before = received(tmp_path)
    assert figures(demo(tmp_path, "--seed", "7")) == undisturbed
    assert received(tmp_path) > before


def test_day_of_the_cpp_engine_is_what_it_says_also_when_engine_and_sidecar_are_killed(tmp_path: Path) -> None:
    program = engine.build(tmp_path / "engine-cpp")
    with running(tmp_path, "--engine", "cpp", "--seed", "7", "--speed", "2500") as process:
        until(lambda: received(tmp_path) > 300, timeout_s=STARTED_S)
        for victim in ("engine", "sidecar"):
            kill_and_await(tmp_path, victim)
        output, errors = process.communicate(timeout=150)
    assert output, errors
    document = json.loads(output)
    assert document["consistent"], document["problems"]
    assert processes(tmp_path) == {}

    day = ("--simulate", 7, "--from", "2025-10-10", "--days", 1)
    [alone] = rotation.run(program, "--ring", tmp_path / "ring", *day)[0]["days"]
    says = {name: figure["engine"] for name, figure in document["statistics"].items()}
    assert says == {name: alone[name] for name in says}
    assert {figure["store"] for figure in document["statistics"].values()} == set(says.values())
    published = {"trades.executed": "fills", "signals.generated": "signals", "positions.updated": "positions"}
    assert {topic: document["published"][topic] for topic in published} == {
        topic: alone[name] for topic, name in published.items()
    }


def test_ctrl_c_stops_everything(tmp_path: Path) -> None:
    with running(tmp_path, "--seed", "7", "--speed", MIDDLE) as process:
        until(lambda: received(tmp_path) > 100, timeout_s=STARTED_S)
        process.send_signal(SIGINT)
        process.communicate(timeout=150)
    assert process.returncode == 130
    assert processes(tmp_path) == {}


def test_a_bad_line_is_named_and_stops_the_play_before_it(tmp_path: Path) -> None:
    folder = write_session(tmp_path / "2025-01-06", signals=[signal(1), signal(2), "{not json"])
    done = subprocess.run(
        command(tmp_path / "demo", "--session", str(folder)), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert "signals.jsonl line 3" in done.stderr
    assert processes(tmp_path / "demo") == {}


@pytest.mark.parametrize(
    ("setting", "value"),
    [("SENTIO_LOG_LEVEL", "LOUD"), ("SENTIO_TOPIC_PREFIX", "no spaces"), ("SENTIO_PARTITIONS", "0")],
)
def test_a_wrong_setting_is_one_line_and_exit_2(setting: str, value: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sentio", "run", "store"],
        env={**os.environ, setting: value}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"{setting}={value}" in done.stderr


def received(root: Path) -> int:
    """Frames that the demo's client has on disk."""
    return sum(file.read_text().count("\n") for file in root.glob("*/client.jsonl"))
