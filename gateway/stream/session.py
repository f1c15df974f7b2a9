"""One connection: its requests, its subscriptions, and what it is told when a request is wrong or not granted."""

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from websockets.http11 import Request as Handshake

from gateway.access import LEEWAY_S, Grant, Unwelcome
from gateway.pusher import session as pusher
from gateway.pusher import words
from gateway.stream import protocol
from gateway.stream.admission import Admission, Pace
from gateway.stream.channels import Channel
from gateway.stream.connection import Admitted, Connection, TurnedAway
from gateway.stream.delivery import delivery
from gateway.stream.native import NATIVE
from gateway.stream.protocol import Refused, Request
from gateway.stream.sockets import Admit
from gateway.stream.subscription import Sources, Subscription
from sentio.config import StreamSettings

if TYPE_CHECKING:
    from gateway.stream.registry import Registry


def admitting(settings: StreamSettings, sources: Sources, registry: "Registry | None" = None) -> Admit:
    """Sessions for those that `Admission` lets in. Raises `SettingError` for keys of no use."""
    admission = Admission(settings, registry)
    apps = pusher.Apps(settings, sources, admission)

    def admit(request: Handshake, connection: Connection) -> Admitted:
        admission.check(connection.address)
        user = None
        try:
            greet = apps.admit(request.path)
        except words.Refused as refusal:
            return Admitted(partial(pusher.TurnedAway, refusal=refusal))
        if greet is None:
            grant = admission.grant(request)
            user = grant.user
            greet = partial(Session, settings=settings, sources=sources, admission=admission, grant=grant)
        if not admission.is_shared:
            return Admitted(greet)
        return Admitted(greet, partial(admission.check_all, connection, user), partial(admission.forget, connection))

    return admit


class Session:
    """What a client says becomes subscriptions, for as long as the connection lives."""

    __slots__ = (
        "_admission", "_asking", "_bad", "_connection", "_end", "_grant", "_is_lost", "_pace", "_settings", "_sources",
        "_subscriptions", "_unheard",
    )  # fmt: skip

    def __init__(
        self, connection: Connection, *, settings: StreamSettings, sources: Sources, admission: Admission, grant: Grant
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._sources = sources
        self._subscriptions: dict[str, Subscription] = {}
        self._bad = 0
        self._pace = Pace(settings)
        self._admission = admission
        self._end: asyncio.TimerHandle | None = None
        self._unheard: list[str | bytes] | None = None
        """What was said while the other instances are asked about an `auth`."""

        self._asking: asyncio.Task[None] | None = None
        self._is_lost = False
        admission.enter(connection, grant.user)
        self._take(grant)
        connection.offer(protocol.greeting(settings.stream_heartbeat_s))

    def said(self, text: str | bytes) -> None:
        """Follow a request, or say why not; too many in a row that cannot be followed end the connection."""
        if self._unheard is not None:
            self._unheard.append(text)
            return
        try:
            wait_s = self._pace.wait_s()
            request = protocol.parse_request(text)
            self._check_pace(request, wait_s)
            self._follow(request)
        except Refused as refusal:
            self._refuse(refusal)
        else:
            if self._unheard is None:
                self._bad = 0

    def lost(self) -> None:
        """The connection is closed, by whomever."""
        for subscription in self._subscriptions.values():
            subscription.stop()
        self._subscriptions.clear()
        self._is_lost = True
        self._admission.leave(self._connection, self._grant.user)
        if self._end:
            self._end.cancel()

    def leaving(self, in_s: float) -> None:
        """The gateway will close the connection."""
        if not self._connection.is_held:
            self._connection.offer(protocol.draining(in_s))

    def beat(self) -> None:
        """Say where each live channel stands; nothing may wait for company. Who is held hears something soon anyway."""
        if self._connection.is_held:
            return
        cursors = {name: one.cursor for name, one in self._subscriptions.items()}
        self._connection.offer(protocol.heartbeat({name: cursor for name, cursor in cursors.items() if cursor}))

    def parting(self, code: int, reason: str) -> tuple[int, str]:
        """Ours are those of the gateway."""
        return code, reason

    def _refuse(self, refusal: Refused) -> None:
        self._bad += 1
        self._connection.offer(protocol.error(refusal.request_id, refusal.code, str(refusal), **refusal.more))
        if self._bad < protocol.BAD_IN_A_ROW:
            return
        if refusal.code == "too_many_requests":
            self._connection.close(protocol.CLOSE_TOO_MANY_REQUESTS, "too many requests")
        else:
            self._connection.close(protocol.CLOSE_BAD_REQUESTS, f"{self._bad} bad requests in a row")

    def _check_pace(self, request: Request, wait_s: float) -> None:
        if wait_s:
            raise Refused("too_many_requests", self._pace.text, request.id, retry_s=round(wait_s, 3))

    def _follow(self, request: Request) -> None:
        match request.op:
            case "ping":
                self._sources.fanout.send_all()  # a pong comes behind all that was due
                self._connection.offer(protocol.pong(request.id))
            case "unsubscribe":
                for channel in request.channels:
                    self._leave(channel.name)
                self._connection.offer(protocol.ack(request.id, request.channels))
            case "subscribe":
                self._subscribe(request)
            case "auth":
                self._authorize(request)

    def _subscribe(self, request: Request) -> None:
        """A channel that is subscribed already begins anew."""
        named = {channel.name for channel in request.channels}
        if len(named | self._subscriptions.keys()) > protocol.MAX_CHANNELS:
            raise Refused("too_many_channels", f"at most {protocol.MAX_CHANNELS} channels a connection", request.id)
        for channel in request.channels:
            if not self._grant.reads(channel.name):
                raise Refused("forbidden", f"{channel.name} is not granted to you", request.id)
        self._connection.offer(protocol.ack(request.id, request.channels))
        for channel in request.channels:
            self._leave(channel.name)
            subscription = self._subscriptions[channel.name] = Subscription(
                channel,
                delivery(channel, request.wishes, self._connection.codec, NATIVE, self._settings),
                self._connection,
                self._sources,
                unavailable=partial(self._say_unavailable, request.id),
            )
            subscription.start(request.cursors.get(channel.name, request.since))

    def _say_unavailable(self, request_id: protocol.Id, channel: Channel, message: str) -> None:
        self._connection.offer(protocol.unavailable(request_id, channel, message))

    def _authorize(self, request: Request) -> None:
        """A newer token of the same user, or the first one of whoever came without."""
        try:
            grant = self._admission.access.grant(request.token)
        except Unwelcome as refusal:
            raise Refused("unauthorized", str(refusal), request.id) from refusal
        if self._grant.user not in (None, grant.user):
            raise Refused("unauthorized", f"this connection is {self._grant.user}'s", request.id)
        if self._grant.user is None and grant.user is not None:
            self._check_room(grant, request.id)
        else:
            self._change(grant, request.id)

    def _check_room(self, grant: Grant, request_id: protocol.Id) -> None:
        """Who comes to be a user takes one of the user's places."""
        try:
            self._admission.check_user(grant.user)
        except TurnedAway as refusal:
            raise Refused("too_many_connections", str(refusal), request_id) from refusal
        if self._admission.is_shared:
            self._unheard = []
            self._connection.deafen()
            self._asking = asyncio.create_task(self._ask_others(grant, request_id))
        else:
            self._name(grant, request_id)

    async def _ask_others(self, grant: Grant, request_id: protocol.Id) -> None:
        """What is said meanwhile is followed afterwards."""
        try:
            await self._admission.check_all(self._connection, grant.user)
        except TurnedAway as refusal:
            self._refuse(Refused("too_many_connections", str(refusal), request_id))
        else:
            if self._is_lost:
                self._admission.forget(self._connection)
                return
            self._name(grant, request_id)
        unheard, self._unheard = self._unheard or [], None
        for text in unheard:
            self.said(text)
        if self._unheard is None:
            self._connection.hear()

    def _name(self, grant: Grant, request_id: protocol.Id) -> None:
        self._bad = 0
        self._admission.name(self._connection, grant.user)
        self._change(grant, request_id)

    def _change(self, grant: Grant, request_id: protocol.Id) -> None:
        self._take(grant)
        self._connection.offer(protocol.authorized(request_id, grant.user, grant.until_s))
        for name, subscription in list(self._subscriptions.items()):
            if not grant.reads(name):
                self._leave(name)
                self._connection.offer(protocol.forbidden(request_id, subscription.channel))

    def _take(self, grant: Grant) -> None:
        self._grant = grant
        if self._end:
            self._end.cancel()
            self._end = None
        if grant.until_s is not None:
            left_s = max(0.0, grant.until_s + LEEWAY_S - time.time())
            self._end = asyncio.get_running_loop().call_later(left_s, self._expire)

    def _expire(self) -> None:
        self._connection.close(protocol.CLOSE_EXPIRED, "the token is no longer good; come back with a new one")

    def _leave(self, name: str) -> None:
        subscription = self._subscriptions.pop(name, None)
        if subscription:
            subscription.stop()
