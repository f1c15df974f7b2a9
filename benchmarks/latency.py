"""What publish() costs its caller at 50,000 events a second with the broker up, slow and gone: `publish_latency`."""

import gc
from typing import Any

from benchmarks import publish_latency, trades
from benchmarks.goals import Goal
from benchmarks.stage import Stage

NAME = "latency"
TITLE = "Latency of publish(): what the caller's thread pays"
NOTES = """50,000 events a second for 3 seconds, every call timed by itself and the cost of timing taken off, in
microseconds. `busy` computes until each event is due, so that its thread and the publisher's compete for one
interpreter; `bursts` sleeps a millisecond and publishes what is due. `late` is how long after its due time a call
returned. `slow` is a proxy that delays the broker by 50 ms each way, `gone` one that was closed, `durable` writes every
event to the spool first. The total is the process but what the caller does without publishing; waits are how often
the caller was put to sleep, which the machine does as well."""
GOALS = [
    Goal(f"{case}: 99 % of calls under 5 µs", at_most_us=5.0, part="p99_us", who=f"sentio: {case}, bursts")
    for case in publish_latency.CASES
]


def rows(stage: Stage, rounds: int) -> list[dict[str, Any]]:
    """A row for every case and caller, in JSON's form."""
    events = list(trades.events(publish_latency.POOL))
    gc.collect()
    gc.freeze()
    found = []
    for case in publish_latency.CASES:
        for caller in publish_latency.CALLERS:
            found.append(publish_latency.row(case, caller, stage.kafka, stage.root, events, rounds))
            stage.say(f"  {found[-1]['who']}: p99 {found[-1]['parts']['p99_us']} µs")
    return found
