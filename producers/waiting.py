"""Events between publish() and the publisher's thread: callers put them in, one at a time; the thread takes them."""

import time
from collections import deque
from dataclasses import dataclass

from schemas.events import Event

# Events that the publisher's thread takes in one go. The caller may wait as long as one takes, for Python runs one
# thread at a time, so it is small until more waits than that keeps up with.
SMALLEST_BATCH = 100
LARGEST_BATCH = 1_000

LOOK_S = 0.005
"""How exactly the time of publish() is known while the thread keeps up; asking the clock at every call costs more."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Events in the order in which they were published; the lists are of one length."""

    events: list[Event]
    sequences: list[int]
    time_ns: int
    """When they were published, Unix time, at most `LOOK_S` late."""

    def only(self, places: list[int]) -> "Batch":
        """Those at ``places``."""
        return Batch([self.events[n] for n in places], [self.sequences[n] for n in places], self.time_ns)


@dataclass(slots=True)
class _Seen:
    """Events that were there, and not there before, when the thread looked."""

    count: int
    time_ns: int


class Waiting:
    """A queue that knows when its events came without asking the clock for each."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._sequences: deque[int] = deque()
        # The thread's own.
        self._seen: deque[_Seen] = deque()
        self._seen_count = 0
        self._looked_s = 0.0

    def __len__(self) -> int:
        # An event is in when its sequence is.
        return len(self._sequences)

    def put(self, event: Event, sequence: int) -> None:
        """Behind all others; callers take turns."""
        self._events.append(event)
        self._sequences.append(sequence)

    def take(self) -> Batch:
        """The next events, none if none wait. Of one thread; takes no lock that a caller could wait for."""
        waiting = len(self)
        self._look(waiting)
        if not self._seen:
            return Batch([], [], 0)
        seen = self._seen[0]
        size = min(seen.count, max(SMALLEST_BATCH, min(LARGEST_BATCH, waiting // 4)))
        batch = Batch(
            [self._events.popleft() for _ in range(size)],
            [self._sequences.popleft() for _ in range(size)],
            seen.time_ns,
        )
        self._seen_count -= size
        seen.count -= size
        if not seen.count:
            self._seen.popleft()
        return batch

    def _look(self, waiting: int) -> None:
        now_s = time.monotonic()
        if waiting > self._seen_count and (not self._seen or now_s - self._looked_s >= LOOK_S):
            self._seen.append(_Seen(waiting - self._seen_count, time.time_ns()))
            self._seen_count = waiting
            self._looked_s = now_s
