"""Events that others hand over from threads of their own, in parcels, until the sidecar's thread takes them.

Whoever numbers its events itself (a `source` of its own, lines from 1) may send some of them again: it is told what is
on the log, and what it repeats goes nowhere twice. Nothing is ever acknowledged that did not come to the log.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple
from uuid import UUID

from uuid_utils import uuid7

from producers.sidecar.documents import Read, Unusable, event_of, parse
from producers.sidecar.drain import TURN_S
from producers.sidecar.numbered import Numbered, messages
from producers.sidecar.source import QUIET_S, Beat, Portion, Refused

ROOM = 20_000
"""Events that wait at most: who brings more waits, or is sent away."""

FORGOTTEN_S = 3_600.0

SOURCES = 10_000
"""Sources whose numbers are remembered; of the others, the first number that comes is believed."""


class Line(NamedTuple):
    """What was sent, at its place."""

    number: int
    """From 1, without a gap."""

    said: Read | str | None
    """The event, why it is none, or nothing: an empty line."""


def line_of(number: int, text: bytes) -> Line:
    """A line of JSON, or an empty one."""
    if not text.strip():
        return Line(number, None)
    try:
        return line_of_value(number, parse(text))
    except Unusable as why:
        return Line(number, str(why))


def line_of_value(number: int, value: object) -> Line:
    """What was parsed from JSON."""
    try:
        return Line(number, event_of(value))
    except Unusable as why:
        return Line(number, str(why))


class Jump(ValueError):
    """Lines that would leave out some of their source, or go back behind where it is known from."""

    def __init__(self, source: UUID, number: int, expected: int) -> None:
        self.expected = expected
        """The number that may come next."""
        super().__init__(f"source {source} sends line {number}, and {expected} is next")


@dataclass(slots=True)
class Origin:
    """Where lines come from, and how far they came. Made by `Inbox.origin`."""

    engine: str
    source: UUID
    version: str = ""
    mode: str = ""
    first: int = 1
    """The first line of it that was ever seen here."""

    next: int = 1
    """The line that comes next."""

    open: int = 0
    """Connections that it has now."""

    connects: bool = False
    """It comes by connections; else by requests."""

    came_s: float = -inf
    """When it was first heard of."""

    spoke_s: float = -inf
    """When it sent something last."""

    @property
    def producer(self) -> str:
        return f"{self.engine}@{self.source}"

    @property
    def heard_s(self) -> float:
        return max(self.came_s, self.spoke_s)

    def is_there(self, now_s: float) -> bool:
        """Whether it is connected, or has sent something just now where it does not connect."""
        return self.open > 0 or (not self.connects and now_s - self.spoke_s < QUIET_S)


class _Parcel(NamedTuple):
    origin: Origin
    ahead: int
    """Of the lines' numbers are the events' sequences."""

    where: str
    lines: Sequence[Line]
    done: Callable[[], None]
    size: int
    """Lines that came, repeats too."""


class Inbox:
    """A source that others fill. `put` is for any thread, the rest for the one that drains it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.own = Origin(engine=name.split(":", 1)[0], source=UUID(bytes=uuid7().bytes))
        """Of lines that come without a source: good for this run of the process, and nothing of it is known again."""

        self._origins: OrderedDict[tuple[str, UUID], Origin] = OrderedDict()
        self._changed = threading.Condition()
        self._waiting: deque[_Parcel] = deque()
        self._count = 0
        self._taken: list[_Parcel] = []
        self._repeated = 0
        self._unknown = 0
        self._closed = False

    def origin(self, engine: str, source: UUID, *, version: str = "", mode: str = "") -> Origin:
        """The one that is known by these, or a new one, which begins wherever its first line says."""
        with self._changed:
            origin = self._origins.setdefault(
                (engine, source), Origin(engine, source, first=0, next=0, came_s=time.monotonic())
            )
            origin.version, origin.mode = version, mode
            self._origins.move_to_end((engine, source))
            if len(self._origins) > SOURCES:
                oldest = next(
                    (key for key, each in self._origins.items() if not each.open and each is not origin), None
                )
                if oldest is not None:
                    del self._origins[oldest]
            return origin

    def put(
        self,
        origin: Origin,
        lines: Sequence[Line],
        *,
        where: str,
        done: Callable[[], None],
        wait: bool = True,
    ) -> bool:
        """Hand over lines in the order of their numbers; ``done`` is called once the log has them and all before.

        False when there is no room and it is not to ``wait``, or when the sidecar is stopped. Raises `Jump`.
        """
        with self._changed:
            while self._count >= ROOM and wait and not self._closed:
                self._changed.wait()
            if self._closed or self._count >= ROOM:
                return False
            fresh, ahead = self._beyond(origin, lines)
            origin.spoke_s = time.monotonic()
            self._waiting.append(_Parcel(origin, ahead, where, fresh, done, len(lines)))
            self._count += len(lines)
            self._changed.notify_all()
            return True

    def connected(self, origin: Origin, by: int) -> None:
        """One connection more of an origin, or (-1) one less."""
        with self._changed:
            origin.open += by
            origin.connects = True

    def wait(self, stop: threading.Event, quiet_s: float) -> None:  # noqa: ARG002 # of no matter to who is woken
        """Until something comes; not at all when it is to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or stop.is_set(), TURN_S)

    def take(self, most: int) -> Portion | None:
        """Whole parcels, as many as there are."""
        parcels: list[_Parcel] = []
        with self._changed:
            count = 0
            while self._waiting and count < most:
                parcels.append(self._waiting.popleft())
                count += parcels[-1].size
            self._count -= count
            self._changed.notify_all()
        self._taken += parcels
        return self._portion(parcels) if parcels else None

    def acknowledge(self) -> None:
        taken, self._taken = self._taken, []
        for parcel in taken:
            parcel.done()

    def beats(self) -> Sequence[Beat]:
        """Of the engines that have a source of their own and were here within the hour."""
        now_s = time.monotonic()
        with self._changed:
            return [
                Beat(each.producer, each.engine, each.version, each.mode, each.is_there(now_s), each.heard_s)
                for each in self._origins.values()
                if each.open or now_s - each.spoke_s < FORGOTTEN_S
            ]

    def figures(self) -> Mapping[str, int]:
        return {"waiting": self._count, "repeated": self._repeated, "unknown_fields": self._unknown}

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _beyond(self, origin: Origin, lines: Sequence[Line]) -> tuple[Sequence[Line], int]:
        """Those that did not come before, and how far ahead of their numbers their sequences are."""
        if not lines:
            return lines, 0
        number = lines[0].number
        if origin is self.own:
            ahead = origin.next - number
            origin.next += len(lines)
            return lines, ahead
        if not origin.next:
            origin.first = origin.next = number
        if not origin.first <= number <= origin.next:
            raise Jump(origin.source, number, origin.next)
        fresh = lines[origin.next - number :]
        self._repeated += len(lines) - len(fresh)
        origin.next += len(fresh)
        return fresh, 0

    def _portion(self, parcels: Sequence[_Parcel]) -> Portion:
        events, refused = [], []
        for parcel in parcels:
            for number, said in parcel.lines:
                if isinstance(said, str):
                    refused.append(Refused(f"{parcel.where} line {number}", said))
                elif said is not None:
                    self._unknown += len(said.unknown)
                    origin = parcel.origin
                    events.append(Numbered(origin.producer, origin.source, number + parcel.ahead, said.event))
        return Portion(messages(events), refused)
