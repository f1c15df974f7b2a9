"""What publishing through clients/c/sentio.h costs an engine's thread, and what comes after it: reader and sidecar."""

import json
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import engine_program, sidecar
from benchmarks.goals import Goal
from benchmarks.harness import Unavailable, without_places
from benchmarks.sidecar import CAPACITY, Figures, cores, draining, kept_to, ring_in_memory
from benchmarks.stage import Stage
from producers.sidecar.ring import Ring

NAME = "ring"
TITLE = "Ring: an engine in C publishes into shared memory"
NOTES = """`benchmarks/engine/publish.c`, with its thread on one core, calls `sentio_publish_trade` or `_signal` a
million times a second, and times every call by itself: `p50_ns` to `max_ns`, less the median of what timing takes
(`timing_ns`). The total and wall are those of a second run without a pause between the calls, and hold its timing too.
Meanwhile `sentio sidecar` drains the ring, with the broker on the other core; the broker is `up`, `slow` (a proxy
delays it by 50 ms each way) or `gone` since the sidecar had sent a first thousand events. `full` is how many calls
found no room, `waits` how often the thread was put to sleep by itself, `interrupted` how often by the machine, in both
runs. The ring is in memory (/dev/shm) and has room for all.

`latency` is from the engine's clock at publish to a consumer that has the event from Kafka, for ten seconds (thirty at
one event a second) after the first eight, and `log_` to the millisecond's end in which Kafka had it in its log. Its
broker is as one is that has run for long: with both of Java's compilers, 45 seconds of a thousand events a second
behind it, a heap of 4 GB and ZGC, which begins when that is full. The engine sleeps between two events where there is
time to. Its total is the sidecar's. `idle` is what the sidecar takes of a core while its ring stays empty. `reading` is
the reader by itself: a full ring to messages, in microseconds an event."""
PROFILE = """A trade is its way into the slot with the checksum of 248 bytes, and its five texts: to find their ends,
to copy them, to see that they are UTF-8; none of these stands out. The largest figures are the machine's: an
interrupt, or another process on the core. On another such machine a trade took 90 to 110 ns beside sidecar and broker,
likely because its two cores shared the units of one; alone it took the same 40 there.

An event waits for the sidecar's next look, a millisecond at most while there is something, two after a second, or,
while Kafka has not acknowledged what came before, for 4 ms at most: so a broker that falls behind gets larger requests,
not more of them. A round takes the sidecar some 35 µs of its own and librdkafka's request. At 1,000 a second each event
is a request. What is slow then is the broker's Java: as our own small broker has it (one compiler, serial collector,
just started) a request takes three times as much, and once a second all stand still for 20 ms, so that 99 % are in the
log within 14 to 22 ms. With both compilers and G1, as Kafka's scripts start it, pauses of 10 to 230 ms remain, in which
one thread copies live objects, likely the linked samples of Kafka's metrics; with ZGC there are none, but the collector
takes a core for a quarter of a second: every ten to twenty with a heap of 1 GB, once a minute with 4. Where the
machine's host gives its cores to others, single rounds at 10,000 a second had 20 to 190 ms. At 100,000 the engine is
always awake, on one of two cores."""
EVENTS = 1_000_000
RATE = 1_000_000
KINDS = ("trades", "signals")
BROKERS = ("up", "slow", "gone")
RATES = (1, 100, 1_000, 10_000, 100_000)
GOALS = [
    goal
    for kind in KINDS
    for broker in BROKERS
    for goal in (
        Goal(f"{kind}, {broker}: half of the calls under 60 ns", at_most_us=60.0, part="p50_ns", unit="ns",
             who=f"sentio: {kind}, {broker}"),
        Goal(f"{kind}, {broker}: 99.9 % under 1 µs", at_most_us=1_000.0, part="p999_ns", unit="ns",
             who=f"sentio: {kind}, {broker}"),
    )
] + [
    Goal(f"{kind}: a million a second", at_most_us=1.0, who=f"sentio: {kind}, up") for kind in KINDS
] + [
    Goal(f"{rate:,} trades a second: 99 % are in Kafka within 5 ms", at_most_us=5.0, part="log_p99_ms", unit="ms",
         who=f"latency: {rate:,} a second") for rate in RATES
] + [Goal("an idle sidecar: under 1 % of a core", at_most_us=1.0, part="percent", unit="%", who="idle")]  # fmt: skip


def rows(stage: Stage, rounds: int) -> list[dict[str, Any]]:
    """A row for every event and broker, for reading, for a sidecar that has nothing to do, and for every rate."""
    cases: dict[str, Callable[[], Figures]] = {}
    for kind in KINDS:
        for broker in BROKERS:
            cases[f"sentio: {kind}, {broker}"] = partial(both, stage, kind, broker)
        cases[f"reading: {kind}"] = partial(reading, kind)
    cases["idle"] = partial(sidecar.idle, stage)
    found = _rows(stage, rounds, cases)
    with sidecar.long_running(stage) as running:
        return found + _rows(
            stage, rounds, {f"latency: {rate:,} a second": partial(sidecar.latency, running, rate) for rate in RATES}
        )


def both(stage: Stage, kind: str, broker: str) -> Figures:
    """One run at a million a second, one as fast as it goes."""
    runs = []
    for rate in (RATE, 0):
        with (
            ring_in_memory() as path,
            draining(stage, path, kind, broker) as drain,
            kept_to(cores()[0], drain.pid, stage.broker_pid),
        ):
            runs.append(published(path, kind, rate))
    paced, flat = runs
    figures = {name: paced[name] for name in ("p50_ns", "p99_ns", "p999_ns", "max_ns", "timing_ns")}
    figures |= {name: paced[name] + flat[name] for name in ("full", "faults", "waits", "interrupted")}
    return figures | {"cpu_us": flat["cpu_ns_per_event"] / 1e3, "wall_us": flat["wall_ns_per_event"] / 1e3}


def published(path: Path, kind: str, rate: int) -> Figures:
    """What the program of benchmarks/engine/ says of a million events."""
    _, core = cores()
    command = engine_program.command(path, CAPACITY, EVENTS, rate, kind, core)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=60)
    if done.returncode:
        raise Unavailable(f"the engine ended with {done.returncode}: {done.stdout}")
    figures: Figures = json.loads(done.stdout)
    return figures


def reading(kind: str) -> Figures:
    """A full ring to messages."""
    _, core = cores()
    with ring_in_memory() as path:
        command = engine_program.command(path, CAPACITY, CAPACITY, 0, kind, core)
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=60)
        with Ring(path) as ring:
            began_s, cpu_s = time.perf_counter(), time.process_time()
            while ring.read().messages:
                ring.acknowledge(ring.position)
            return {
                "cpu_us": (time.process_time() - cpu_s) / CAPACITY * 1e6,
                "wall_us": (time.perf_counter() - began_s) / CAPACITY * 1e6,
            }


def _rows(stage: Stage, rounds: int, cases: Mapping[str, Callable[[], Figures]]) -> list[dict[str, Any]]:
    found = []
    for who, measure in cases.items():
        found.append(_row(who, rounds, measure))
        stage.say(f"  {who}: {found[-1].get('why') or found[-1]}")
    return found


def _row(who: str, rounds: int, measure: Callable[[], Figures]) -> dict[str, Any]:
    """Medians of the rounds; the largest is the largest of all."""
    try:
        done = [measure() for _ in range(rounds)]
    except (Unavailable, OSError, subprocess.SubprocessError) as failure:
        return {"who": who, "why": without_places(str(failure))}
    figures = {
        name: (max if name.startswith("max_") else statistics.median)(each[name] for each in done) for name in done[0]
    }
    return {
        "who": who,
        "cpu_us_per_event": round(figures.pop("cpu_us"), 4) if "cpu_us" in figures else None,
        "wall_us_per_event": round(figures.pop("wall_us"), 4) if "wall_us" in figures else None,
        "parts": {name: round(value, 3 if name.endswith("_ms") else 1) for name, value in figures.items()},
    }
