"""How an outage is waited out: trying again ever less often, up to a bound, and saying so once a minute."""

import random
import time
from collections.abc import Callable

from sentio import log
from sentio.errors import Retryable

FIRST_S = 0.1
MOST_S = 5.0
LOOK_S = 0.2
"""How long nobody looks whether the wait is over, at most."""


class Backoff:
    """Seconds to wait before each next try, with jitter."""

    def __init__(self) -> None:
        self._delay_s = FIRST_S

    def next_s(self) -> float:
        found_s = self._delay_s * random.uniform(0.5, 1.5)  # noqa: S311 - jitter
        self._delay_s = min(self._delay_s * 2, MOST_S)
        return found_s


def pause(seconds: float, is_over: Callable[[], bool]) -> bool:
    """Wait so long, or until it is over; whether it is."""
    until_s = time.monotonic() + seconds
    while not (over := is_over()) and (left_s := until_s - time.monotonic()) > 0:
        time.sleep(min(left_s, LOOK_S))
    return over


def until_done(what: str, action: Callable[[], None], *, is_over: Callable[[], bool], once: log.OncePer) -> bool:
    """Do it until it raises no `Retryable`; False when it is over before. ``once`` says when a line is due."""
    backoff = Backoff()
    while True:
        try:
            action()
        except Retryable as failure:
            if once.due(what):
                log.get().warning("waiting, will try again", what=what, cause=str(failure))
        else:
            return True
        if pause(backoff.next_s(), is_over):
            return False
