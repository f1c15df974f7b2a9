"""Who may connect: at a pace that can be kept, with a good token, and not too often at the same time."""

import random
import time
from collections import deque
from typing import TYPE_CHECKING

from websockets.http11 import Request

from gateway.access import Access, Grant
from gateway.limits import Bucket, Places, source_of
from gateway.stream.connection import Connection, TurnedAway
from gateway.stream.token import token_of
from sentio import log
from sentio.config import StreamSettings

if TYPE_CHECKING:  # it takes 5 MB, for those who set a Redis
    from gateway.stream.registry import Registry

SECOND_S = 1.0
REQUESTS_S = 10.0
LATER_S = 10.0  # after which a user or an address with too many connections may try again


class Alone(Exception):
    """The other instances cannot be asked at the moment."""


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
    """Belongs to the event loop. Raises `SettingError` for keys that cannot be read.

    What is open here is counted here, always: it is part of what is open anywhere, and all there is when the registry
    cannot be asked.
    """

    def __init__(self, settings: StreamSettings, registry: "Registry | None" = None) -> None:
        self.access = Access(settings)
        self._registry = registry
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
        self._check_address(address)

    def grant(self, request: Request) -> Grant:
        """What a handshake's token grants; raises `TurnedAway`, or `Unwelcome` for a token that is no good."""
        grant = self.access.grant(token_of(request))
        self.check_user(grant.user)
        return grant

    def check_user(self, user: str | None) -> None:
        """Raise `TurnedAway` for a user who may have no other connection here."""
        if user is not None and not self._users.has_room(user):
            raise self._too_many("user", user)

    @property
    def is_shared(self) -> bool:
        """Whether what is open on other instances counts too, at the moment."""
        return self._registry is not None and self._registry.joined

    async def check_all(self, connection: Connection, user: str | None) -> None:
        """Raise `TurnedAway` where there is no room for one more on all instances together.

        What is raised here and not there counts when the others cannot be asked. `enter` or `leave` in the same step.
        """
        assert self._registry
        try:
            full = await self._registry.enter(connection, user)
        except Alone:
            self._check_address(connection.address)
            self.check_user(user)
        else:
            if full:
                raise self._too_many(full, user or "" if full == "user" else source_of(connection.address))

    def enter(self, connection: Connection, user: str | None) -> None:
        """A connection is open; `leave` with the same."""
        self._addresses.enter(source_of(connection.address))
        self.name(connection, user)

    def name(self, connection: Connection, user: str | None) -> None:
        """It is known whose the connection is."""
        if user is not None:
            self._users.enter(user)
        if self._registry:
            self._registry.note(connection, user)

    def leave(self, connection: Connection, user: str | None) -> None:
        """It is closed."""
        if user is not None:
            self._users.leave(user)
        self._addresses.leave(source_of(connection.address))
        self.forget(connection)

    def forget(self, connection: Connection) -> None:
        """It was closed before it was open."""
        if self._registry:
            self._registry.leave(connection)

    def _check_address(self, address: str) -> None:
        if not self._addresses.has_room(source := source_of(address)):
            raise self._too_many("address", source)

    def _too_many(self, kind: str, who: str) -> TurnedAway:
        if self._once.due(kind):
            log.get().warning("too many connections", of=who, setting=f"SENTIO_STREAM_{kind.upper()}_CONNECTIONS")
        return TurnedAway(
            429, f"too many connections {'from your address' if kind == 'address' else f'of {who}'}", LATER_S
        )

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
