"""How long to wait before connecting again. No I/O."""

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

SHORTEST_S = 0.5
LONGEST_S = 30.0
SOON_S = 0.25
GOOD_S = 10.0
"""A connection that lived this long was a good one."""


class Backoff:
    """Pauses that grow and vary: anything up to a bound that doubles, so that clients come back spread out."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance or random.Random()  # noqa: S311 - spreads clients, keeps no secret
        self._failures = 0

    def lived(self, seconds: float) -> None:
        """A connection ended after so long."""
        if seconds >= GOOD_S:
            self._failures = 0

    def pause_s(self, *, soon: bool = False, at_least_s: float = 0.0) -> float:
        """The next pause; ``soon`` where the gateway asked to come back, unless it does so again and again."""
        self._failures += 1
        bound_s = min(LONGEST_S, SHORTEST_S * 2.0 ** min(self._failures - 1, 16))
        if soon and self._failures == 1:
            bound_s = SOON_S
        # What the gateway asks for it asks of all: come as much later again, but never sooner.
        return at_least_s + self._chance.uniform(0, max(bound_s, at_least_s))


def retry_after_s(text: str | None) -> float:
    """What ``Retry-After`` asks for, in seconds or as a date; 0 where it says nothing that can be read."""
    if not text:
        return 0.0
    try:
        return max(0.0, float(int(text)))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0
