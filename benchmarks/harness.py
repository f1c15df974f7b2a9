"""One benchmark from contestants to a result: a rehearsal whose outputs must be equal, interleaved rounds, medians.

What runs is in the benchmark modules (NAME, GOALS, NOTES, PROFILE, contestants), what it runs on in `stage`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

from benchmarks.stage import Stage

APART = ("compiler", "broker")
"""Parts that are shown and not in the total: the broker's work is the same whoever reads or writes, and what a JVM
spends on compiling ends at some time, only later than our rounds do."""


@dataclass(frozen=True)
class Measured:
    """One round of one contestant."""

    events: int
    cpu_s: dict[str, float]
    """Processor seconds by part: "client", "database", "broker", or what a benchmark tells apart."""

    wall_s: float
    output: object = None
    """What came out, to be equal for all who give one: counts and exact sums, say. None: nothing to compare."""


class Contestant(Protocol):
    """Ours is called "sentio", a limit "limit: ..."."""

    @property
    def who(self) -> str: ...

    def run(self, stage: Stage) -> Measured:
        """One round on fresh tables, topics and groups. Raises `Unavailable` when it cannot be had."""


class Unavailable(Exception):
    """Why a peer cannot be had, or was given up."""


class Differs(Exception):
    """Two contestants did not do the same."""


@dataclass(frozen=True)
class Row:
    """Medians of one contestant's rounds, in microseconds per event; or why there are none."""

    who: str
    cpu_us_per_event: float | None = None
    wall_us_per_event: float | None = None
    parts: dict[str, float] | None = None
    why: str | None = None

    def as_json(self) -> dict[str, Any]:
        if self.why is not None:
            return {"who": self.who, "why": self.why}
        return {
            "who": self.who,
            "cpu_us_per_event": self.cpu_us_per_event,
            "wall_us_per_event": self.wall_us_per_event,
            "parts": self.parts,
        }


def run(contestants: Sequence[Contestant], rehearsal: Stage, stage: Stage, *, rounds: int) -> list[Row]:
    """Rehearse, then time ``rounds`` rounds: A B C, A B C, A B C.

    Raises `Differs` when the outputs of a round are not equal. A contestant that is `Unavailable` once is out.
    """
    out: dict[str, str] = {}
    _round(contestants, rehearsal, out)
    timed = [_round(contestants, stage, out) for _ in range(rounds)]
    return [
        Row(each.who, why=out[each.who]) if each.who in out else row(each.who, [done[each.who] for done in timed])
        for each in contestants
    ]


def row(who: str, measured: Sequence[Measured]) -> Row:
    """Median of each figure by itself; the total is that of the rounds' totals, without the broker."""
    totals = [sum(s for part, s in each.cpu_s.items() if part not in APART) / each.events for each in measured]
    return Row(
        who,
        cpu_us_per_event=_us(totals),
        wall_us_per_event=_us([each.wall_s / each.events for each in measured]),
        parts={part: _us([each.cpu_s[part] / each.events for each in measured]) for part in measured[0].cpu_s},
    )


def check_equal(outputs: dict[str, object]) -> None:
    """Raises `Differs`, with the first two that are not equal."""
    first, *others = outputs.items()
    for who, output in others:
        if output != first[1]:
            raise Differs(f"not the same work: {first[0]} gave {_short(first[1])}, {who} gave {_short(output)}")


def without_places(text: str) -> str:
    """What is said in public of a failure: one line without addresses and paths of this machine."""
    return re.sub(r"(?<![\w.])/\S*/", "", re.sub(r"\w+://\S+", "...", " ".join(text.split())))


def _round(contestants: Sequence[Contestant], stage: Stage, out: dict[str, str]) -> dict[str, Measured]:
    done: dict[str, Measured] = {}
    for each in contestants:
        if each.who in out:
            continue
        try:
            done[each.who] = each.run(stage)
        except Unavailable as failure:
            out[each.who] = without_places(str(failure))
            stage.say(f"  {each.who}: {out[each.who]}")
        else:
            stage.say(f"  {each.who}: {row(each.who, [done[each.who]]).cpu_us_per_event} µs")
    if outputs := {who: measured.output for who, measured in done.items() if measured.output is not None}:
        check_equal(outputs)
    return done


def _us(seconds: Sequence[float]) -> float:
    return round(median(seconds) * 1e6, 3)


def _short(output: object) -> str:
    text = str(output)
    return text if len(text) < 500 else f"{text[:500]}..."
