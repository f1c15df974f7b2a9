"""The ring at a path as a source: the one that is there now, after those of it that engines have set aside."""

import glob
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import UUID

from producers.sidecar.files import changed_ns
from producers.sidecar.ring import Ring
from producers.sidecar.source import Beat, Portion, Refused
from sentio import log
from sentio.errors import RingUnusable

ASIDE = "????????-????-????-????-????????????"
"""The id of a ring, behind the name from which its engine has set it aside."""

LOST = {
    "dropped": "events are lost: the ring was full, and its engine drops then. Give it more capacity, or see why this "
    "sidecar was behind (Kafka away, not running)",
    "refused": "an engine's events are not in its ring, the header refused them: see the answers in docs/engine.md",
}
"""Counts of a ring that should not rise, and what to do about it."""

FIGURES = ("published", "dropped", "refused", "unread", "capacity")
"""Of `producers.sidecar.ring.Counts`."""

REOPEN_S = 1.0
TELL_S = 1.0


class RingSource:
    """The ring at a path. Its mark moves only when Kafka has everything before it."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.path = path
        self._ring: Ring | None = None
        self._has_taken = False
        self._again_at_s = 0.0
        self._tell_at_s = 0.0
        self._once = log.OncePer()
        # Set aside, read, and not to be removed. By their names: these have ids, and files' numbers are given again.
        self._spent: set[Path] = set()
        self._told: dict[tuple[UUID, str], int] = {}

    @property
    def opened(self) -> Ring | None:
        """The ring that is read at the moment."""
        return self._ring

    def take(self, most: int) -> Portion | None:
        try:
            ring = self.ring()
            if ring is None:
                return None
            first = ring.position
            found = ring.read(most)
        except RingUnusable as failure:
            self._give_up(failure)
            return None
        if ring.position == first:
            if not self._has_taken:  # of a ring that is over nothing may be lost on its way
                self.spent()
            return None
        self._has_taken = True
        refused = [Refused(f"position {each.position}", each.reason) for each in found.refused]
        return Portion(found.messages, refused)

    def acknowledge(self) -> None:
        self._has_taken = False
        if self._ring is not None:
            try:
                self._ring.acknowledge(self._ring.position)
            except RingUnusable as failure:
                self._give_up(failure)

    def beats(self) -> Sequence[Beat]:
        ring = self._ring
        if ring is None or ring.path != self.path:
            return []
        try:
            return [Beat(ring.producer, ring.engine, ring.version, ring.mode, ring.has_producer())]
        except RingUnusable as failure:
            self._give_up(failure)
            return []

    def figures(self) -> Mapping[str, int]:
        if self._ring is not None:
            try:
                counts = self._ring.counts()
                return {name: getattr(counts, name) for name in FIGURES}
            except RingUnusable as failure:
                self._give_up(failure)
        return dict.fromkeys(FIGURES, 0)

    def ring(self) -> Ring | None:
        """The ring to read from, if there is one."""
        if self._ring is None and time.monotonic() >= self._again_at_s:
            try:
                self._ring = self._open()
            except OSError as failure:
                self._say(self.path, failure)
            if self._ring is None:
                self._again_at_s = time.monotonic() + REOPEN_S
        if self._ring is not None and time.monotonic() >= self._tell_at_s:
            self._tell_at_s = time.monotonic() + TELL_S
            self._tell_losses(self._ring)
        return self._ring

    def spent(self) -> None:
        """All of the ring is read: go over to the next, if this was set aside, or to one that could not be opened."""
        if self._ring is None or time.monotonic() < self._again_at_s:
            return
        self._again_at_s = time.monotonic() + REOPEN_S
        left = None
        if self._ring.path != self.path:
            self._remove(self._ring)
        elif (left := self._left()) is None and self._ring.is_in_place():
            return
        self.close()
        self._ring = left
        self._again_at_s = 0.0

    def close(self) -> None:
        if self._ring is not None:
            self._ring.close()
        self._ring = None

    def _give_up(self, failure: RingUnusable) -> None:
        """Look for a ring at the path again."""
        log.get().error("a ring cannot be read any more; the others are", cause=str(failure))
        self.close()

    def _open(self) -> Ring | None:
        """The first that can be read: those set aside, then the one that is there now."""
        return self._open_aside() or self._opened(self.path)

    def _open_aside(self) -> Ring | None:
        """The oldest of those set aside that can be read."""
        aside = self.path.parent.glob(f"{glob.escape(self.path.name)}.{ASIDE}")
        for path in sorted(set(aside) - self._spent, key=changed_ns):
            if ring := self._opened(path, path.name.removeprefix(f"{self.path.name}.")):
                return ring
        return None

    def _left(self) -> Ring | None:
        """One of those set aside that could not be opened before."""
        try:
            return self._open_aside()
        except OSError as failure:
            self._say(self.path, failure)
            return None

    def _opened(self, path: Path, identity: str | None = None) -> Ring | None:
        try:
            path.stat()
            return Ring(path, identity=identity)
        except FileNotFoundError:
            pass  # not made yet, or removed meanwhile
        except (OSError, RingUnusable) as failure:
            self._say(path, failure)
        return None

    def _tell_losses(self, ring: Ring) -> None:
        """All that there were when the ring is first seen, then once a minute if there are more."""
        counts = ring.counts()
        for what, message in LOST.items():
            count, key = getattr(counts, what), (ring.id, what)
            if count > self._told.get(key, 0) and self._once.due(key):
                self._told[key] = count
                log.get().error(message, ring=str(ring.path), capacity=counts.capacity, **{what: count})

    def _remove(self, ring: Ring) -> None:
        log.get().info("a ring that was set aside is read to its end", ring=str(ring.path))
        try:
            ring.remove()
        except (OSError, RingUnusable) as failure:
            self._spent.add(ring.path)
            log.get().error(
                "a ring that is read cannot be removed and stays; remove it once no engine has it open",
                ring=str(ring.path),
                cause=str(failure),
            )

    def _say(self, path: Path, failure: Exception) -> None:
        if self._once.due(path):
            log.get().error("a ring cannot be read; the others are", cause=str(failure))
