"""In which order and how fast: partitions merged by event time at a speed, and a cap of records a second.

Gives what is to be written, and between it the seconds that have to pass; it is the caller who waits.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from consumers.replay.job import Spans
from consumers.replay.selection import Chosen, Selection
from consumers.replay.source import Source
from sentio import log
from sentio.errors import SettingError
from sentio.kafka import Place

Steps = Iterator[Chosen | float]
"""What is to be written next, or seconds to wait before."""

QUANTUM_S = 0.02
"""Events of a partition within it, in their own time, are written together."""

FULL = 20_000
"""Messages read of a partition that wait for those of others, and then no more of it are read for now."""

RUN = 500
"""Most of them."""

GAP_S = 3600.0
"""Between two events, in their own time; of a longer gap no more is waited for: a wrong clock stalls nobody."""

STRETCHES = 8
"""Times from which events go on that are remembered, when some are far from others."""


def speed_of(text: str) -> float | None:
    """How many seconds of the events pass in one: 1 of 1x, 60 of 60x, None of max; raises `SettingError`."""
    if text == "max":
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)x?", text)
    if match is None or float(match[1]) <= 0:
        raise SettingError(f"--speed {text}: 1x, 60x or another number above zero, or max")
    return float(match[1])


def steps(source: Source, spans: Spans, selection: Selection, *, speed: float | None, rate: float | None) -> Steps:
    """All of the spans, at the speed and the rate."""
    found = _as_found(source, spans, selection) if speed is None else _at_speed(source, spans, selection, speed)
    return found if rate is None else _at_rate(found, rate)


def _as_found(source: Source, spans: Spans, selection: Selection) -> Steps:
    for found in source.read(spans):
        for part in found.parts:
            yield selection.choose(part)
        if not found.parts:
            yield 0.0  # whoever writes may look about


def _at_rate(steps: Steps, rate: float, clock: Callable[[], float] = time.monotonic) -> Steps:
    due_s = clock()
    for step in steps:
        if not isinstance(step, Chosen):
            yield step
            continue
        for each in step.slices(max(1, int(rate * QUANTUM_S))):
            if (wait_s := due_s - clock()) > 0:
                yield wait_s
            yield each
            # What a slow target did not use is not made up for.
            due_s = max(due_s, clock() - QUANTUM_S) + len(each.indexes) / rate


@dataclass(slots=True)
class _Lane:
    """What was read of one partition and waits for its time."""

    waiting: deque[tuple[int, Chosen]] = field(default_factory=deque)
    """With the time of its first message, µs; -1 of what has none, and goes at once."""

    size: int = 0
    """Messages that were read for it."""

    is_held: bool = False

    def add(self, chosen: Chosen) -> None:
        self.size += chosen.read
        times = chosen.times_us()
        first = 0
        # Cut where another quantum begins: what is in one piece is written at one time.
        for at in range(1, len(times) + 1):
            if at == len(times) or at - first == RUN or abs(times[at] - times[first]) > QUANTUM_S * 1e6:
                self.waiting.append((times[first], chosen.between(first, at)))
                first = at
        if not times:
            has_another = self.waiting and not self.waiting[-1][1].indexes
            self.waiting.append((-1, chosen.behind(self.waiting.pop()[1] if has_another else None)))

    def take(self) -> Chosen:
        chosen = self.waiting.popleft()[1]
        self.size -= chosen.read
        return chosen


def _at_speed(source: Source, spans: Spans, selection: Selection, speed: float) -> Steps:
    """In the order of event times, as far as partitions are in it. The first event is due at once."""
    lanes = {place: _Lane() for place in spans}
    pace = _Pace(speed)
    open_places = set(spans)
    for found in source.read(spans):
        for part in found.parts:
            for place, chosen in selection.choose(part).by_partition():
                lanes[place].add(chosen)
        open_places -= found.finished
        # The earliest is known once there is something of every partition that may have more.
        while all(lanes[place].waiting for place in open_places) and any(lane.waiting for lane in lanes.values()):
            place, lane = _earliest(lanes)
            yield from pace.until(lane.waiting[0][0])
            yield lane.take()
            if lane.is_held and lane.size < FULL // 2:
                lane.is_held = False
                source.go_on(place)
        for place in open_places:
            if lanes[place].size >= FULL and not lanes[place].is_held:
                lanes[place].is_held = True
                source.hold(place)
        yield 0.0


def _earliest(lanes: dict[Place, _Lane]) -> tuple[Place, _Lane]:
    return min(((place, lane) for place, lane in lanes.items() if lane.waiting), key=lambda each: each[1].waiting[0][0])


@dataclass(slots=True)
class _Stretch:
    """Events without a gap between them."""

    first_us: int
    due_s: float
    """When the first is due."""

    newest_us: int


class _Pace:
    """When an event is due: as long after the first as it happened after it, divided by the speed.

    Behind a gap it begins anew, and goes on as before with those that belong before the gap: one event may be far off.
    """

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._stretches: list[_Stretch] = []
        """The one of the last event first."""

        self._once = log.OncePer()

    def until(self, time_us: int) -> Iterator[float]:
        if time_us < 0:
            return
        stretch = self._stretch_of(time_us)
        self._stretches = [stretch, *(one for one in self._stretches if one is not stretch)][:STRETCHES]
        stretch.newest_us = max(stretch.newest_us, time_us)
        wait_s = stretch.due_s + (time_us - stretch.first_us) / 1e6 / self._speed - time.monotonic()
        if wait_s > 0:
            yield wait_s

    def _stretch_of(self, time_us: int) -> _Stretch:
        for stretch in self._stretches:
            if abs(time_us - stretch.newest_us) <= GAP_S * 1e6:
                return stretch
        wait_s = 0.0
        if self._stretches and time_us > (last_us := self._stretches[0].newest_us):
            wait_s = GAP_S / self._speed
            for stretch in self._stretches:
                stretch.due_s += wait_s  # those that come later are as far apart as they were
            if self._once.due("gap"):
                last, at = (datetime.fromtimestamp(us / 1e6, UTC).isoformat()[:19] + "Z" for us in (last_us, time_us))
                log.get().info(
                    "a gap is not waited for as long as it was", last=last, next=at, seconds=round(wait_s, 3)
                )
        return _Stretch(time_us, time.monotonic() + wait_s, time_us)
