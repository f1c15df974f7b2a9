"""Who may connect: at a pace that can be kept, with a good token, and not too often at the same time."""

import random
import time
from collections import deque

from websockets.http11 import Request

from gateway.access import Access, Grant
from gateway.limits import Bucket, Places, source_of
from gateway.stream.token import token_of
from sentio import log
from sentio.config import StreamSettings

SECOND_S = 1.0
REQUESTS_S = 10.0
LATER_S = 10.0  # after which a user or an address with too many connections may try again


class TurnedAway(Exception):
    """Not now; ``status`` is HTTP's, ``retry_s`` when to come back."""

    def __init__(self, status: int, message: str, retry_s: float) -> None:
        super().__init__(message)
        self.status = status
        self.retry_s = retry_s


class Pace:
    """How many requests one connection may make."""

    __slots__ = ("_bucket", "_count")

    def __init__(self, settings: StreamSettings) -> None:
        self._count = settings.stream_requests
        self._bucket = Bucket(self._count, time.monotonic())

    def wait_s(self) -> float:
        """0 when it may make one more, and it is counted; else the seconds until it may."""
        return self._bucket.wait_s(self._count, REQUESTS_S, time.monotonic()) if self._count else 0.0

    @property
    def text(self) -> str:
        return f"at most {self._count} requests in {REQUESTS_S:g} s"


class Admission:
    """Belongs to the event loop. Raises `SettingError` for keys that cannot be read."""

    def __init__(self, settings: StreamSettings) -> None:
        self.access = Access(settings)
        self._a_second = settings.stream_handshakes
        self._handshakes = Bucket(self._a_second, time.monotonic())
        self._turned_away: deque[float] = deque(maxlen=100_000)
        """When each one that was turned away of late was."""

        self._users = Places(settings.stream_user_connections)
        self._addresses = Places(settings.stream_address_connections)
        self._once = log.OncePer()

    def check(self, address: str) -> None:
        """Raise `TurnedAway` where there are too many handshakes, or connections of this address."""
        self._check_pace()
        if not self._addresses.has_room(source := source_of(address)):
            self._say("address", source)
            raise TurnedAway(429, "too many connections from your address", LATER_S)

    def grant(self, request: Request) -> Grant:
        """What a handshake's token grants; raises `TurnedAway`, or `Unwelcome` for a token that is no good."""
        grant = self.access.grant(token_of(request))
        if grant.user is not None and not self.has_room(grant.user):
            raise TurnedAway(429, f"too many connections of {grant.user}", LATER_S)
        return grant

    def has_room(self, user: str) -> bool:
        """Whether a user may have one more connection."""
        if self._users.has_room(user):
            return True
        self._say("user", user)
        return False

    def enter(self, user: str | None, address: str | None) -> None:
        """A connection is open; `leave` with the same."""
        if user is not None:
            self._users.enter(user)
        if address is not None:
            self._addresses.enter(source_of(address))

    def leave(self, user: str | None, address: str) -> None:
        """It is closed."""
        if user is not None:
            self._users.leave(user)
        self._addresses.leave(source_of(address))

    def _check_pace(self) -> None:
        if not self._a_second:
            return
        now_s = time.monotonic()
        if not self._handshakes.wait_s(self._a_second, SECOND_S, now_s):
            return
        while self._turned_away and now_s - self._turned_away[0] > LATER_S:
            self._turned_away.popleft()
        self._turned_away.append(now_s)
        if self._once.due("pace"):
            log.get().warning(
                "more handshakes than are taken; some are told to come back", setting="SENTIO_STREAM_HANDSHAKES"
            )
        # As long as it takes to let in all who were turned away of late, each at a moment of its own.
        retry_s = random.uniform(1, 2 + len(self._turned_away) / self._a_second)  # noqa: S311 - no secret
        raise TurnedAway(503, "too many handshakes at the moment", retry_s)

    def _say(self, kind: str, who: str) -> None:
        if self._once.due(kind):
            log.get().warning("too many connections", of=who, setting=f"SENTIO_STREAM_{kind.upper()}_CONNECTIONS")
