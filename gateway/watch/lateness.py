"""What of the log a probe should have heard by now, by partition: a channel may stand still in one of them alone."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from gateway.watch.probe import Heard
from sentio.kafka import Place


class Said(NamedTuple):
    """The newest event of a partition."""

    next_offset: int
    at: datetime
    """When it was published."""


class Lateness:
    """Of one probe. It is late where the log has more of a partition and nothing of that comes."""

    def __init__(self) -> None:
        # By partition, how far the probe had heard it when it was first seen to be behind, and when that was.
        self._behind: dict[Place, tuple[int, float]] = {}

    def look(self, said: Mapping[Place, Said], heard: Heard, now_s: float) -> dict[Place, float]:
        """For how many seconds nothing came, by partition of which there is more. None of one that is not connected."""
        behind: dict[Place, tuple[int, float]] = {}
        if heard.state == "open":
            for place, newest in said.items():
                next_offset = heard.offsets.get(place, 0)
                # Who came later has not heard what was before.
                if next_offset < newest.next_offset and newest.at >= heard.since:
                    before = self._behind.get(place)
                    behind[place] = before if before and before[0] == next_offset else (next_offset, now_s)
        self._behind = behind
        return {place: now_s - since_s for place, (_, since_s) in behind.items()}
