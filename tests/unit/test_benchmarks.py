"""The pure parts of the benchmarks: medians, equality of outputs, the files that are written, processor clocks."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks import clocks, latency, report, results, trades
from benchmarks.goals import Goal
from benchmarks.harness import Differs, Measured, Row, Unavailable, row, run, without_places
from benchmarks.peers import installed
from benchmarks.publish_latency import RATE, SECONDS
from benchmarks.stage import Stage
from schemas import codec


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage("", "", 0, 0, tmp_path, trades.make(20), warm_up=5, rehearsal=False, say=lambda _: None)


@dataclass
class Contestant:
    """Gives the next of its figures with every round, but in one it gives up."""

    who: str
    seconds: list[float]
    diary: list[str]
    output: object = "the same"
    gives_up_in: int | None = None
    called: int = 0

    def run(self, _: Stage) -> Measured:
        self.diary.append(self.who)
        self.called += 1
        if self.called - 1 == self.gives_up_in:
            raise Unavailable("no room in /root/.cache/pip of https://mirror.example/simple for it")
        return Measured(1_000, {"client": self.seconds.pop(0), "broker": 7.0}, wall_s=9.0, output=self.output)


def test_rounds_are_interleaved_and_the_rehearsal_does_not_count(stage: Stage) -> None:
    diary: list[str] = []
    a, b = Contestant("a", [9, 1, 3, 2], diary), Contestant("b", [9, 5, 4, 6], diary)
    rows = run([a, b], stage, stage, rounds=3)
    assert diary == ["a", "b"] * 4
    assert [each.cpu_us_per_event for each in rows] == [2_000, 5_000]


def test_total_leaves_the_broker_out_and_is_the_median_of_totals() -> None:
    rounds = [
        Measured(10, {"client": client, "database": database, "broker": 50.0}, wall_s=client)
        for client, database in ((1.0, 9.0), (2.0, 1.0), (6.0, 2.0))
    ]
    found = row("x", rounds)
    assert found.cpu_us_per_event == 800_000
    assert found.parts == {"client": 200_000, "database": 200_000, "broker": 5_000_000}
    assert found.wall_us_per_event == 200_000


def test_contestants_that_did_not_do_the_same_are_an_error(stage: Stage) -> None:
    diary: list[str] = []
    whole, short = Contestant("whole", [1, 1], diary, output=20), Contestant("short", [1, 1], diary, output=19)
    with pytest.raises(Differs, match="whole gave 20, short gave 19"):
        run([whole, short], stage, stage, rounds=1)
    assert diary == ["whole", "short"]  # nothing was timed


def test_one_that_gives_up_is_out_and_the_others_go_on(stage: Stage) -> None:
    diary: list[str] = []
    weak, strong = Contestant("weak", [1] * 4, diary, gives_up_in=2), Contestant("strong", [1] * 4, diary)
    rows = run([weak, strong], stage, stage, rounds=3)
    assert diary == ["weak", "strong", "weak", "strong", "weak", "strong", "strong"]
    assert rows[0].as_json() == {"who": "weak", "why": "no room in pip of ... for it"}
    assert rows[1].why is None


def test_what_is_said_of_a_failure_names_no_place() -> None:
    assert without_places("a\n  /usr/lib/x/y.py: 3/4 at http://10.0.0.1:80/z and 1/2") == "a y.py: 3/4 at ... and 1/2"


def test_result_has_the_promised_form_and_no_place_of_this_machine(tmp_path: Path) -> None:
    rows = [
        Row("sentio", cpu_us_per_event=1.5, wall_us_per_event=2.5, parts={"client": 1.5}).as_json(),
        Row("peer", why="cannot be had").as_json(),
    ]
    path = results.write(
        "store", results.document(rows, events=10, rounds=3, versions={"kafka": "4.1.0"}), tmp_path / "results"
    )
    written = json.loads(path.read_text())
    assert set(written) == {"machine", "versions", "events", "rounds", "rows"}
    assert set(written["machine"]) == {"processor", "cores", "memory_gb", "kernel"}
    assert written["machine"]["cores"] == os.cpu_count()
    assert written["rows"] == [
        {"who": "sentio", "cpu_us_per_event": 1.5, "wall_us_per_event": 2.5, "parts": {"client": 1.5}},
        {"who": "peer", "why": "cannot be had"},
    ]
    assert str(Path.cwd()) not in path.read_text()
    assert os.uname().nodename not in path.read_text()
    assert results.read_all(tmp_path / "results") == {"store": written}


ROWS: list[dict[str, Any]] = [
    {"who": "limit: copy", "cpu_us_per_event": 4.0, "wall_us_per_event": 5.0, "parts": {"database": 4.0}},
    {
        "who": "sentio",
        "cpu_us_per_event": 5.0,
        "wall_us_per_event": 6.0,
        "parts": {"client": 1.0, "broker": 0.5, "database": 4.0},
    },
    {"who": "Slow sink", "cpu_us_per_event": 50.0, "wall_us_per_event": 60.0, "parts": {"client": 50.0}},
    {"who": "Gone", "why": "no such package"},
]


@pytest.mark.parametrize(
    ("goal", "figure", "reached"),
    [
        (Goal("", at_most_us=5.0), "5.00 µs", True),
        (Goal("", at_most_us=0.9, part="client"), "1.00 µs", False),
        (Goal("", times=1.4, than="limit"), "1.25x (5.00 to 4.00 µs)", True),
        (Goal("", times=1.2, than="limit"), "1.25x (5.00 to 4.00 µs)", False),
        (Goal("", times=1 / 10, than="Slow"), "10.0x below (5.00 to 50.00 µs)", True),
        (Goal("", times=1 / 11, than="Slow"), "10.0x below (5.00 to 50.00 µs)", False),
        (Goal("", times=1 / 2, than="Gone"), "5.00 µs, and no figure of Gone", None),
    ],
)
def test_goal_is_checked_against_the_rows(goal: Goal, figure: str, *, reached: bool | None) -> None:
    assert goal.check(ROWS) == (figure, reached)


def test_latency_of_a_publisher_that_refused_events_is_no_figure() -> None:
    row = {"who": "sentio: up, busy", "cpu_us_per_event": 1.0, "parts": {"p99_us": 0.2, "failed": 3}}
    assert f"3 of {RATE * SECONDS:,} events" in latency.checked(row, "up")["why"]
    assert latency.checked(row, "gone") == row  # nowhere to keep them
    kept = row | {"parts": {"p99_us": 0.2, "failed": 0}}
    assert latency.checked(kept, "up") == kept


class Described:
    def __init__(self) -> None:
        self.TITLE = "Store"
        self.NOTES = "How it was done."
        self.PROFILE = "Nearly all of it in one place."
        self.GOALS = [
            Goal("fast", at_most_us=5.0),
            Goal("faster", at_most_us=4.0),
            Goal("unknown", times=0.5, than="Gone"),
        ]


def test_page_shows_every_row_and_says_what_falls_short(tmp_path: Path) -> None:
    machine = {"processor": "Abacus", "cores": 2, "memory_gb": 8.0, "kernel": "6.1"}
    document = {"machine": machine, "versions": {"kafka": "4.1.0"}, "events": 1_000, "rounds": 3, "rows": ROWS}
    results.write("store", document, tmp_path)
    results.write("of another time", document, tmp_path)
    page = report.write({"store": Described(), "codec": Described()}, tmp_path / "page.md", tmp_path).read_text()
    assert page.count("\n## ") == 1
    assert "median of 3 rounds" in page.replace("\n", " ")
    assert "| | total | database | client | broker | wall |" in page
    assert "| sentio | **5.00** | 4.00 | 1.00 | 0.50 | 6.00 |" in page
    assert "Not measured: Gone: no such package" in page
    assert "| fast | 5.00 µs | yes |" in page
    assert "| faster | 5.00 µs | **falls short** |" in page
    assert "| unknown | 5.00 µs, and no figure of Gone | unknown |" in page
    assert "**Where our time goes.** Nearly all of it in one place." in page
    assert "1,000 events, 3 rounds, Abacus, 2 cores, 8.0 GB, Linux 6.1; kafka 4.1.0." in page


def test_what_costs_nothing_by_the_event_has_no_total(tmp_path: Path) -> None:
    machine = {"processor": "Abacus", "cores": 2, "memory_gb": 8.0, "kernel": "6.1"}
    idle = {"who": "idle", "cpu_us_per_event": None, "wall_us_per_event": None, "parts": {"percent": 0.5}}
    document = {"machine": machine, "versions": {}, "events": 1_000, "rounds": 3, "rows": [*ROWS, idle]}
    results.write("store", document, tmp_path)
    page = report.write({"store": Described()}, tmp_path / "page.md", tmp_path).read_text()
    assert "| idle |  |  |  | 0.50 |  |  |" in page


def test_clock_of_a_tree_counts_children_that_have_ended() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    parent = (
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])\nprint('done', flush=True)\ninput()"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == b"done\n"
        assert clocks.tree(process.pid)() >= 0.3
        assert clocks.tree(process.pid, without=process.pid)() == 0
        process.stdin.write(b"\n")


def test_what_a_benchmark_started_ends_with_it_on_sigterm(stage: Stage) -> None:
    script = """
import sys
from pathlib import Path
from benchmarks import programs, trades
from benchmarks.stage import Stage

programs.end_in_order()
stage = Stage("", "", 0, 0, Path(sys.argv[1]), trades.make(1), 0, rehearsal=False, say=print)
with programs.started(stage, "peer", [sys.executable, "-c", "import signal; signal.pause()"]) as program:
    print(program.pid, flush=True)
    input()
"""
    command = [sys.executable, "-c", script, str(stage.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as benchmark:
        assert benchmark.stdout
        peer = int(benchmark.stdout.readline())
        assert Path(f"/proc/{peer}").exists()
        benchmark.terminate()
        assert benchmark.wait(20) == 1
    assert not Path(f"/proc/{peer}").exists()


def test_trades_are_the_same_in_every_run_and_decode_to_their_columns() -> None:
    first, second = trades.make(700), trades.make(700)
    assert first.values == second.values
    decoded = codec.decode(trades.EVENT, first.values)
    assert decoded.records == first.records
    assert len(set(first.records["event_id"].to_pylist())) == 700
    assert first.records["event_id"].to_pylist() == sorted(first.records["event_id"].to_pylist())


def test_last_of_each_partition_is_what_a_reader_in_order_sees_last() -> None:
    data = trades.make(200)
    for end in (1, 50, 200):
        of = [data.partition(index, 4) for index in range(end)]
        assert data.last_of_each_partition(end, 4) == [i for i in range(end) if of[i] not in of[i + 1 :]]


def test_pinned_versions_are_read_from_requirements_and_poms() -> None:
    assert set(installed.pinned("requirements-quix.txt")) == {"quixstreams"}
    assert installed.pinned("connect-pom.xml")["debezium-connector-jdbc"].endswith(".Final")
    assert "bench-connect" not in installed.pinned("connect-pom.xml")
