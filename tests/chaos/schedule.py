"""What goes wrong, and when: a list made from the seed alone, so that a failure can be played again.

"When" is a number of published events, not a time: a slow machine meets the same faults as a quick one.
"""

from dataclasses import dataclass
from random import Random

ROUND_EVENTS = 200_000
"""Each so many events meet every fault once more."""

GROUPS = ("store", "aggregates")
SERVERS = ("broker", "database")
RING = ("engine", "sidecar")
"""Who writes and who reads the ring."""

_KILLS = {"store": 3, "aggregates": 3, "publisher": 2, "broker": 1, "database": 2, "engine": 2, "sidecar": 2}
_DOWN_SHARE = (0.002, 0.03)
"""How long what was killed or frozen stays away, as a share of a round."""


@dataclass(frozen=True, slots=True, order=True)
class Step:
    """One fault, or its end, once ``at`` events are published."""

    at: int
    verb: str
    """kill, start (what was killed), scale (the store group), freeze, wake, freeze-in-transaction, cut."""

    whom: str
    """A group (some member of it), a server, the publisher, engine or sidecar; for scale the number of members."""

    def __str__(self) -> str:
        return f"{self.at:>9,} {self.verb} {self.whom}"


def plan(seed: int, events: int) -> list[Step]:
    """Every step of a run over about ``events`` events, in order."""
    random = Random(seed)
    rounds = max(1, round(events / ROUND_EVENTS))
    span = events // rounds
    return [step for number in range(rounds) for step in _round(random, number * span, span)]


def _round(random: Random, first: int, span: int) -> list[Step]:
    """1, then 3, then 2 members of the store; everything else at any moment once there is somebody to take over."""

    def moment(low: float, high: float) -> int:
        return first + int(span * random.uniform(low, high))

    steps = [
        Step(first, "scale", "1"),
        Step(moment(0.02, 0.06), "scale", "3"),
        Step(moment(0.55, 0.75), "scale", "2"),
        Step(moment(0.08, 0.9), "cut", "retention"),
    ]
    # While the broker is away, a publisher that dies has nothing but its spool, and a sidecar nothing but the ring.
    away = moment(0.08, 0.87)
    steps += [
        Step(away, "kill", "broker"),
        Step(away + int(span * 0.015), "kill", "publisher"),
        Step(away + int(span * 0.015), "kill", "sidecar"),
        Step(away + int(span * 0.02), "start", "sidecar"),
        Step(away + int(span * 0.025), "start", "broker"),
    ]
    for group in GROUPS:
        steps += [Step(moment(0.08, 0.9), verb, group) for verb in ("freeze", "freeze-in-transaction")]
    for whom in RING:
        at = moment(0.02, 0.9)
        steps += [Step(at, "freeze", whom), Step(at + int(span * random.uniform(*_DOWN_SHARE)), "wake", whom)]
    for whom, times in _KILLS.items():
        for _ in range(times):
            at = moment(0.02, 0.9)
            while whom == "broker" and abs(at - away) < span * 0.04:  # the end of one outage would end the other
                at = moment(0.02, 0.9)
            steps.append(Step(at, "kill", whom))
            # A dead publisher publishes nothing to wait for: it is started at once.
            if whom != "publisher":
                steps.append(Step(at + int(span * random.uniform(*_DOWN_SHARE)), "start", whom))
    return sorted(steps)
