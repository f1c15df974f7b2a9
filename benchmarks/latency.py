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
the caller was put to sleep, which the machine does as well. A call that is refused is cheap: where events were lost,
other than to a broker that is gone without a spool, there is no figure."""
PROFILE = """A call waits for the interpreter while the publisher's thread has it: for a batch of 100 events some 0.2
ms, 250 events every 5 ms at this rate, so that about one call in a hundred meets one. That is the 99th percentile of
`bursts`, where 50 calls come at once; with the spool a record more is written in Python for each event."""
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
            found.append(checked(publish_latency.row(case, caller, stage.kafka, stage.root, events, rounds), case))
            stage.say(f"  {found[-1]['who']}: {found[-1].get('why') or found[-1]['parts']}")
    return found


def checked(row: dict[str, Any], case: str) -> dict[str, Any]:
    """The row, or why there is none: events were refused that should not have been."""
    if not (lost := row["parts"]["failed"]) or case == "gone":
        return row
    count = publish_latency.RATE * publish_latency.SECONDS
    return {"who": row["who"], "why": f"{lost:,} of {count:,} events were refused, the queue being full: too slow here"}
