"""What publishing through clients/c/sentio.h costs an engine's thread, and reading the ring its reader."""

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import engine_program
from benchmarks.goals import Goal
from benchmarks.harness import Unavailable, without_places
from benchmarks.stage import Stage
from producers.sidecar.ring import Ring

NAME = "ring"
TITLE = "Ring: an engine in C publishes into shared memory"
NOTES = """`benchmarks/engine/publish.c`, with its thread on one core, calls `sentio_publish_trade` or `_signal` a
million times a second, and times every call by itself: `p50_ns` to `max_ns`, less the median of what timing takes
(`timing_ns`). The total and wall are those of a second run without a pause between the calls, and hold its timing too.
`read` has a reader on the other core, `slow` one that looks every 100 ms, `gone` none; `full` is how many calls found
no room, `waits` how often the thread was put to sleep by itself, `interrupted` how often by the machine, in both runs.
The ring is in memory (/dev/shm) and has room for all. `reading` is the reader by itself: a full ring to columns, in
microseconds an event."""
PROFILE = """Half of a trade is its checksum of 248 bytes, a fifth finding the ends of its five texts; a signal has 80
bytes and one text. The largest figure is the machine's: an interrupt, or another process on the core."""
EVENTS = 1_000_000
CAPACITY = 1 << 20
RATE = 1_000_000
SLOW_S = 0.1
KINDS = ("trades", "signals")
READERS = ("read", "slow", "gone")
GOALS = [
    goal
    for kind in KINDS
    for reader in READERS
    for goal in (
        Goal(f"{kind}, {reader}: half of the calls under 60 ns", at_most_us=60.0, part="p50_ns", unit="ns",
             who=f"sentio: {kind}, {reader}"),
        Goal(f"{kind}, {reader}: 99.9 % under 1 µs", at_most_us=1_000.0, part="p999_ns", unit="ns",
             who=f"sentio: {kind}, {reader}"),
    )
] + [Goal(f"{kind}: a million a second", at_most_us=1.0, who=f"sentio: {kind}, read") for kind in KINDS]  # fmt: skip

Figures = dict[str, float]


def rows(stage: Stage, rounds: int) -> list[dict[str, Any]]:
    """A row for every event and reader, and one of reading."""
    found = []
    for kind in KINDS:
        for reader in READERS:
            found.append(_row(f"sentio: {kind}, {reader}", rounds, partial(both, kind, reader)))
            stage.say(f"  {found[-1]['who']}: {found[-1].get('why') or found[-1]['parts']}")
        found.append(_row(f"reading: {kind}", rounds, partial(reading, kind)))
    return found


def both(kind: str, reader: str) -> Figures:
    """One run at a million a second, one as fast as it goes."""
    paced, flat = (published(kind, reader, rate) for rate in (RATE, 0))
    figures = {name: paced[name] for name in ("p50_ns", "p99_ns", "p999_ns", "max_ns", "timing_ns")}
    figures |= {name: paced[name] + flat[name] for name in ("full", "faults", "waits", "interrupted")}
    return figures | {"cpu_us": flat["cpu_ns_per_event"] / 1e3, "wall_us": flat["wall_ns_per_event"] / 1e3}


def published(kind: str, reader: str, rate: int) -> Figures:
    """What the program of benchmarks/engine/ says of a million events."""
    with _ring() as path:
        cores = sorted(os.sched_getaffinity(0))
        command = [engine_program.built(), path, CAPACITY, EVENTS, rate, kind, cores[-1]]
        with subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True) as program:
            try:
                if reader != "gone":
                    _read(path, program, pause_s=SLOW_S if reader == "slow" else 0.0, core=cores[0])
                said, _ = program.communicate(timeout=60)
            finally:
                program.kill()
        if program.returncode:
            raise Unavailable(f"the engine ended with {program.returncode}: {said}")
        figures: Figures = json.loads(said)
        return figures


def reading(kind: str) -> Figures:
    """A full ring to columns."""
    with _ring() as path:
        command = [engine_program.built(), path, CAPACITY, CAPACITY, 0, kind, max(os.sched_getaffinity(0))]
        subprocess.run([str(word) for word in command], stdout=subprocess.DEVNULL, check=True, timeout=60)
        with Ring(path) as ring:
            began_s, cpu_s = time.perf_counter(), time.process_time()
            while ring.read().batches:
                ring.acknowledge(ring.position)
            return {
                "cpu_us": (time.process_time() - cpu_s) / CAPACITY * 1e6,
                "wall_us": (time.perf_counter() - began_s) / CAPACITY * 1e6,
            }


@contextmanager
def _ring() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield Path(folder) / "ring"


def _read(path: Path, program: "subprocess.Popen[str]", *, pause_s: float, core: int) -> None:
    """Everything, until the program has ended."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        while not path.exists() and program.poll() is None:
            time.sleep(0.001)
        with Ring(path) as ring:
            while program.poll() is None or ring.counts().unread:
                found = ring.read()
                ring.acknowledge(ring.position)
                if not found.batches:
                    time.sleep(pause_s or 0.001)
    finally:
        os.sched_setaffinity(0, before)


def _row(who: str, rounds: int, measure: Callable[[], Figures]) -> dict[str, Any]:
    """Medians of the rounds; the largest is the largest of all."""
    try:
        done = [measure() for _ in range(rounds)]
    except (Unavailable, OSError, subprocess.SubprocessError) as failure:
        return {"who": who, "why": without_places(str(failure))}
    figures = {name: (max if name == "max_ns" else statistics.median)(each[name] for each in done) for name in done[0]}
    return {
        "who": who,
        "cpu_us_per_event": round(figures.pop("cpu_us"), 4),
        "wall_us_per_event": round(figures.pop("wall_us"), 4),
        "parts": {name: round(value, 1) for name, value in figures.items()},
    }
