"""Says what is refused: some of it in full, the rest as a number, so that a flood of it floods no log."""

import time
from collections.abc import Sequence

from producers.sidecar.source import Refused
from sentio import log

SAID_EACH_MINUTE = 10
"""Refusals of a source that are said one by one."""

MINUTE_S = 60.0


class Refusals:
    """Of several sources, each with a flood of its own."""

    def __init__(self) -> None:
        self._minute_s: dict[str, float] = {}
        self._said: dict[str, int] = {}
        self._unsaid: dict[str, int] = {}

    def say(self, source: str, refused: Sequence[Refused]) -> None:
        """To be called without any, too, now and then: what was not said is said when its minute is over."""
        if time.monotonic() - self._minute_s.get(source, float("-inf")) >= MINUTE_S:
            if unsaid := self._unsaid.pop(source, 0):
                log.get().error("more events could not be used, each for its reason", source=source, refused=unsaid)
            if not refused:
                return
            self._minute_s[source], self._said[source] = time.monotonic(), 0
        room = SAID_EACH_MINUTE - self._said.get(source, 0)
        for each in refused[:room]:
            log.get().error("an event cannot be used", source=source, place=each.place, reason=each.reason)
        self._said[source] = self._said.get(source, 0) + min(room, len(refused))
        self._unsaid[source] = self._unsaid.get(source, 0) + max(0, len(refused) - room)
