"""What `publish` costs its caller at 50,000 events a second, whatever the broker does: `python -m
benchmarks.publish_latency`.

Each call is timed by itself; the cost of timing, measured on a call that does nothing, is taken off. ``busy`` is a
caller that computes all the time (the worst one: its thread and the publisher's share one interpreter), ``bursts`` one
that sleeps a millisecond and publishes what is due. ``late`` is how long after its due time a call returned, which
holds what the interpreter took from the caller between the calls. Processor time is that of the whole process less an
idle caller's; of a busy one it says little, for what the publisher takes the caller does not spend.
"""

import argparse
import gc
import json
import platform
import resource
import statistics
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from confluent_kafka import libversion

from benchmarks import results
from producers.publisher import EventPublisher
from schemas.events import Event
from sentio import topics
from sentio.config import PublisherSettings, load
from sentio.stack.kafka import KafkaServer
from sentio.testing.proxy import slowed
from tests.samples import trade

NAME = "publish_latency"

RATE = 50_000
SECONDS = 2
BURST_S = 0.001
DELAY_MS = 50
POOL = 10_000
CASES = ("up", "slow", "gone", "gone, with a spool", "durable")
CALLERS = ("busy", "bursts")

Publish = Callable[[Event], None]


@dataclass(frozen=True)
class Calls:
    """Nanoseconds of each call, and of its return after its due time."""

    cost_ns: "array[int]"
    late_ns: "array[int]"
    waits: int
    """How often the caller's thread was put to sleep other than by itself."""

    cpu_s: float
    """Processor time of the process."""


def busy(publish: Publish, events: Sequence[Event], count: int) -> Calls:
    """Compute until each event is due."""
    cost, late = array("q", bytes(8 * count)), array("q", bytes(8 * count))
    clock = time.perf_counter_ns
    step_ns = 1_000_000_000 // RATE
    pool = len(events)
    waits, cpu_s = _waits(), time.process_time()
    due = clock()
    for number in range(count):
        due += step_ns
        event = events[number % pool]
        while clock() < due:
            pass
        before = clock()
        publish(event)
        after = clock()
        cost[number] = after - before
        late[number] = after - due
    return Calls(cost, late, _waits() - waits, time.process_time() - cpu_s)


def bursts(publish: Publish, events: Sequence[Event], count: int) -> Calls:
    """Sleep, then publish all that is due."""
    cost, late = array("q", bytes(8 * count)), array("q", bytes(8 * count))
    clock = time.perf_counter_ns
    size = int(RATE * BURST_S)
    pool = len(events)
    sleeps = 0
    waits, cpu_s = _waits(), time.process_time()
    due = clock()
    for first in range(0, count - size + 1, size):
        due += int(BURST_S * 1e9)
        if (left := due - clock()) > 0:
            time.sleep(left / 1e9)
            sleeps += 1
        for number in range(first, first + size):
            event = events[number % pool]
            before = clock()
            publish(event)
            after = clock()
            cost[number] = after - before
            late[number] = after - due
    return Calls(cost, late, _waits() - waits - sleeps, time.process_time() - cpu_s)


def _nothing(event: Event) -> None:
    """What timing itself costs."""


def _waits() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def quantiles(ns: Sequence[int], base_ns: float = 0.0) -> dict[str, float]:
    ordered = sorted(ns)
    places = {"p50_us": 0.5, "p99_us": 0.99, "p999_us": 0.999}
    found = {name: ordered[int(place * len(ordered))] for name, place in places.items()} | {"max_us": ordered[-1]}
    return {name: round(max(0.0, value - base_ns) / 1_000, 2) for name, value in found.items()}


@contextmanager
def publisher(case: str, address: str, folder: Path) -> Iterator[EventPublisher]:
    """A publisher that has sent events, and whose broker is gone since in the cases of that name."""
    gone = case.startswith("gone")
    settings = load(PublisherSettings, kafka=address, topic_prefix=f"latency{time.monotonic_ns()}", partitions=4)
    topics.apply(settings, [change for change in topics.plan(settings) if change.lines])
    with ExitStack() as proxy:
        changes: dict[str, Any] = {}
        if case == "slow" or gone:
            changes["kafka"] = proxy.enter_context(slowed(address, delay_ms=0 if gone else DELAY_MS))
        if case in {"gone, with a spool", "durable"}:
            changes["spool"] = folder / settings.topic_prefix
        made = EventPublisher(settings.model_copy(update=changes), name="bench", durable=case == "durable")
        try:
            bursts(made.publish, [trade()], RATE // 5)
            made.flush(30)
            if gone:
                proxy.close()
            yield made
        finally:
            made.close(timeout_s=0 if gone else 30)


def row(case: str, caller: str, address: str, folder: Path, events: Sequence[Event], rounds: int) -> dict[str, Any]:
    """Medians of the rounds; the largest is the largest of all."""
    run = {"busy": busy, "bursts": bursts}[caller]
    count = RATE * SECONDS
    idle = run(_nothing, events, count)
    base_ns = statistics.median(idle.cost_ns)
    done = []
    for _ in range(rounds):
        with publisher(case, address, folder) as made:
            gc.collect()
            began_s = time.perf_counter()
            cpu_s = time.process_time()
            calls = run(made.publish, events, count)
            made.flush(0 if case.startswith("gone") else 30)
            cpu_us = (time.process_time() - cpu_s - idle.cpu_s) / count * 1e6
            wall_us = (time.perf_counter() - began_s) / count * 1e6
            counters = made.counters()
        done.append((calls, cpu_us, wall_us, counters))
    parts: dict[str, float] = {}
    for name, picked, base in (("", "cost_ns", base_ns), ("late_", "late_ns", 0.0)):
        each = [quantiles(getattr(calls, picked), base) for calls, *_ in done]
        parts |= {name + key: (max if key == "max_us" else statistics.median)(q[key] for q in each) for key in each[0]}
    return {
        "who": f"sentio: {case}, {caller}",
        "cpu_us_per_event": round(statistics.median(cpu for _, cpu, _, _ in done), 2),
        "wall_us_per_event": round(statistics.median(wall for _, _, wall, _ in done), 2),
        "parts": parts
        | {
            "waits_per_million": round(statistics.median(c.waits for c, *_ in done) / count * 1e6),
            "failed": max(counters.failed for *_, counters in done),
        },
    }


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--kafka", help="a broker that runs; else one is started")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--case", nargs="*", default=CASES)
    arguments.add_argument("--caller", nargs="*", default=CALLERS)
    chosen = arguments.parse_args()
    events = [trade(number, pnl="1.25" if number % 2 else None) for number in range(POOL)]
    gc.collect()
    gc.freeze()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        server = KafkaServer(Path(folder) / "kafka", dies_with_parent=True)
        try:
            address = chosen.kafka or server.start()
            for case in chosen.case:
                for caller in chosen.caller:
                    rows.append(row(case, caller, address, Path(folder), events, chosen.rounds))
                    print(json.dumps(rows[-1]), flush=True)
        finally:
            server.remove()
    versions = {"python": platform.python_version(), "librdkafka": libversion()[0]} | {
        package: version(package) for package in ("confluent-kafka", "pyarrow", "uuid-utils")
    }
    run = {"machine": results.machine(), "versions": versions, "events": RATE * SECONDS, "rounds": chosen.rounds}
    results.write(NAME, run | {"rows": rows})


if __name__ == "__main__":
    main()
