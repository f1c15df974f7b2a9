"""One connection: its requests, its subscriptions, and what it is told when a request is wrong or not granted."""

import asyncio
import time
from collections.abc import Callable
from functools import partial

from websockets.http11 import Request as Handshake

from gateway.access import LEEWAY_S, Grant, Unwelcome
from gateway.pusher.session import Apps
from gateway.stream import protocol
from gateway.stream.admission import Admission, Pace
from gateway.stream.channels import Channel
from gateway.stream.connection import Connection, Hearer
from gateway.stream.delivery import delivery
from gateway.stream.native import NATIVE
from gateway.stream.protocol import Refused, Request
from gateway.stream.sockets import Admit
from gateway.stream.subscription import Sources, Subscription
from sentio.config import StreamSettings


def admitting(settings: StreamSettings, sources: Sources) -> Admit:
    """Sessions for those that `Admission` lets in. Raises `SettingError` for keys of no use."""
    admission = Admission(settings)
    apps = Apps(settings, sources, admission)

    def admit(request: Handshake, address: str) -> Callable[[Connection], Hearer]:
        admission.check(address)
        if (pusher := apps.admit(request.path)) is not None:
            return pusher
        grant = admission.grant(request)
        return lambda connection: Session(connection, settings, sources, admission, grant)

    return admit


class Session:
    """What a client says becomes subscriptions, for as long as the connection lives."""

    __slots__ = (
        "_admission", "_bad", "_connection", "_end", "_grant", "_pace", "_settings", "_sources", "_subscriptions",
    )  # fmt: skip

    def __init__(
        self, connection: Connection, settings: StreamSettings, sources: Sources, admission: Admission, grant: Grant
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._sources = sources
        self._subscriptions: dict[str, Subscription] = {}
        self._bad = 0
        self._pace = Pace(settings)
        self._admission = admission
        self._end: asyncio.TimerHandle | None = None
        admission.enter(grant.user, connection.address)
        self._take(grant)
        connection.offer(protocol.greeting(settings.stream_heartbeat_s))

    def said(self, text: str | bytes) -> None:
        """Follow a request, or say why not; too many in a row that cannot be followed end the connection."""
        try:
            wait_s = self._pace.wait_s()
            request = protocol.parse_request(text)
            self._check_pace(request, wait_s)
            self._follow(request)
        except Refused as refusal:
            self._bad += 1
            self._connection.offer(protocol.error(refusal.request_id, refusal.code, str(refusal), **refusal.more))
            if self._bad < protocol.BAD_IN_A_ROW:
                return
            if refusal.code == "too_many_requests":
                self._connection.close(protocol.CLOSE_TOO_MANY_REQUESTS, "too many requests")
            else:
                self._connection.close(protocol.CLOSE_BAD_REQUESTS, f"{self._bad} bad requests in a row")
        else:
            self._bad = 0

    def lost(self) -> None:
        """The connection is closed, by whomever."""
        for subscription in self._subscriptions.values():
            subscription.stop()
        self._subscriptions.clear()
        self._admission.leave(self._grant.user, self._connection.address)
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
            if not self._admission.has_room(grant.user):
                raise Refused("too_many_connections", f"too many connections of {grant.user}", request.id)
            self._admission.enter(grant.user, None)
        self._take(grant)
        self._connection.offer(protocol.authorized(request.id, grant.user, grant.until_s))
        for name, subscription in list(self._subscriptions.items()):
            if not grant.reads(name):
                self._leave(name)
                self._connection.offer(protocol.forbidden(request.id, subscription.channel))

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
