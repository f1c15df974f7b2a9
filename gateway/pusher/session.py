"""A client of Pusher's on the stream: its handshake, its channels and signatures, and what it is told of them."""

import asyncio
import re
import secrets
from collections.abc import Callable
from functools import partial

from gateway.access import Grant
from gateway.pusher import dialect, words
from gateway.pusher.signature import is_signed
from gateway.stream.admission import Admission, Pace
from gateway.stream.channels import Channel, UnknownChannel, parse
from gateway.stream.connection import Connection, Hearer
from gateway.stream.delivery import Wishes, delivery
from gateway.stream.protocol import BAD_IN_A_ROW, CLOSE_BAD_REQUESTS, MAX_CHANNELS, RETRY_S
from gateway.stream.subscription import Sources, Subscription
from sentio.config import StreamSettings
from sentio.errors import SettingError

NUMBERS = 10**10
NAME = re.compile(r"[A-Za-z0-9_\-=@,.;]{1,164}")
NOT_HERE = ("presence-", "private-encrypted-", "cache-", "private-cache-", "presence-cache-")


class Apps:
    """The apps that are let in: one, or none."""

    def __init__(self, settings: StreamSettings, sources: Sources, admission: Admission) -> None:
        """Without a signature is heard what is heard without a token. Raises `SettingError` for a key and no secret."""
        self._settings = settings
        self._sources = sources
        self._admission = admission
        self._secret = settings.pusher_secret.get_secret_value() if settings.pusher_secret else ""
        if settings.pusher_key and not self._secret:
            raise SettingError("SENTIO_PUSHER_KEY is set and SENTIO_PUSHER_SECRET is not: private channels need it")

    def admit(self, target: str) -> Callable[[Connection], Hearer] | None:
        """To whom a connection with this request target will belong; None when it is none of Pusher's.

        Raises `Refused`; the connection is then for `TurnedAway`.
        """
        key = words.key_of(target)
        if key is None:
            return None
        if key != self._settings.pusher_key:
            raise words.Refused(words.NO_APP, "application does not exist: SENTIO_PUSHER_KEY is not this key")
        return partial(
            Session,
            settings=self._settings,
            sources=self._sources,
            admission=self._admission,
            app_key=key,
            secret=self._secret,
        )


class TurnedAway:
    """Told why, in words that its library understands, and closed."""

    def __init__(self, connection: Connection, refusal: words.Refused) -> None:
        connection.offer(words.error(refusal.code, str(refusal)))
        connection.close(refusal.code, str(refusal))

    def said(self, text: str | bytes) -> None:
        """Too late."""

    def lost(self) -> None:
        """As it should be."""

    def beat(self) -> None:
        """Nothing to say."""

    def leaving(self, in_s: float) -> None:
        """It leaves already."""

    def parting(self, code: int, reason: str) -> tuple[int, str]:
        """It has been told."""
        return code, reason


class NotSubscribed(Exception):
    """Why a channel cannot be heard."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        """As HTTP has them."""


class Session:
    """What a client says becomes subscriptions, for as long as the connection lives."""

    __slots__ = (
        "_admission", "_anonymous", "_app_key", "_bad", "_connection", "_pace", "_retries", "_secret", "_settings",
        "_socket_id", "_sources", "_subscriptions",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        *,
        settings: StreamSettings,
        sources: Sources,
        admission: Admission,
        app_key: str,
        secret: str,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._sources = sources
        self._admission = admission
        self._anonymous = admission.access.anonymous
        self._pace = Pace(settings)
        self._app_key = app_key
        self._secret = secret
        # Two numbers, as servers that sign insist; nobody else's, on any gateway, for a signature is good for one only.
        self._socket_id = f"{secrets.randbelow(NUMBERS)}.{secrets.randbelow(NUMBERS)}"
        self._subscriptions: dict[str, Subscription] = {}
        self._retries: dict[str, asyncio.TimerHandle] = {}
        self._bad = 0
        admission.enter(connection, None)
        connection.offer(words.connection_established(self._socket_id))

    def said(self, text: str | bytes) -> None:
        """Do as asked, or say why not; too many frames in a row that are none of Pusher's end the connection."""
        try:
            self._check_pace()
            self._follow(words.parse(text))
        except words.Malformed as failure:
            self._bad += 1
            self._connection.offer(words.error(None, str(failure)))
            if self._bad >= BAD_IN_A_ROW:
                self._connection.close(CLOSE_BAD_REQUESTS, f"{self._bad} bad messages in a row")
        else:
            self._bad = 0

    def lost(self) -> None:
        """The connection is closed, by whomever."""
        for name in list(self._subscriptions):
            self._leave(name)
        self._admission.leave(self._connection, None)

    def beat(self) -> None:
        """A Pusher client pings when it hears nothing; the gateway asks with pings of WebSocket."""

    def leaving(self, in_s: float) -> None:
        """No word of Pusher's for it: the close frame sends it back at once."""

    def parting(self, code: int, reason: str) -> tuple[int, str]:
        """One that shall not come back is told by an event too: pysher knows no codes of closing."""
        code = words.close_code(code)
        if code == words.UNAUTHORIZED:
            self._connection.offer(words.error(code, reason))
        return code, reason

    def _check_pace(self) -> None:
        if self._pace.wait_s():
            raise words.Malformed(self._pace.text)

    def _follow(self, said: words.Said) -> None:
        match said:
            case words.Ping():
                self._sources.fanout.send_all()  # a pong comes behind all that was due
                self._connection.offer(words.pong())
            case words.Pong():
                pass
            case words.Subscribe():
                self._subscribe(said)
            case words.Unsubscribe():
                self._leave(said.channel)
            case words.ClientEvent():
                self._connection.offer(
                    words.error(words.NO_CLIENT_EVENTS, "client events are not taken: what is heard here is only read")
                )

    def _subscribe(self, said: words.Subscribe) -> None:
        """A channel that is subscribed already begins anew."""
        try:
            channel, in_words = self._channel(said)
        except NotSubscribed as refusal:
            self._connection.offer(words.subscription_error(said.channel, refusal.status, str(refusal)))
            return
        self._leave(said.channel)
        self._connection.offer(words.subscription_succeeded(said.channel))
        self._begin(said.channel, channel, in_words)

    def _channel(self, said: words.Subscribe) -> tuple[Channel, dialect.Events]:
        """What is to be heard, and how it is told; raises `NotSubscribed`."""
        if len(self._subscriptions.keys() | {said.channel}) > MAX_CHANNELS:
            raise NotSubscribed(429, f"at most {MAX_CHANNELS} channels a connection")
        if said.channel.startswith(NOT_HERE):
            raise NotSubscribed(501, "presence, encrypted and cache channels are not served; take private- or none")
        if not NAME.fullmatch(said.channel):
            raise NotSubscribed(404, "a channel has up to 164 letters, digits and _-=@,.;")
        is_private = said.channel.startswith(dialect.PRIVATE_PREFIX)
        try:
            channel = parse(said.channel.removeprefix(dialect.PRIVATE_PREFIX))
        except UnknownChannel as failure:
            raise NotSubscribed(404, str(failure)) from failure
        if not is_private:
            if not self._anonymous.reads(channel.name):
                raise NotSubscribed(403, f"{channel.name} is not public: subscribe private-{channel.name}, signed")
            return channel, dialect.PUBLIC
        if not is_signed(
            said.auth or "",
            key=self._app_key,
            secret=self._secret,
            socket_id=self._socket_id,
            channel=said.channel,
            channel_data=said.channel_data,
        ):
            raise NotSubscribed(401, f"not signed for {self._socket_id} and {said.channel} with this app's secret")
        # An app's server signs for its users, and knows of no owner.
        if not Grant(None, ("*",), owners=self._anonymous.owners).reads(channel.name):
            raise NotSubscribed(403, f"{channel.name} is the owner's, who takes a token and the stream's own protocol")
        return channel, dialect.PRIVATE

    def _begin(self, name: str, channel: Channel, in_words: dialect.Events) -> None:
        self._retries.pop(name, None)

        def again(*_: object) -> None:
            # Nobody's library asks twice for what it was promised.
            timer = asyncio.get_running_loop().call_later(RETRY_S, self._begin, name, channel, in_words)
            self._retries[name] = timer

        subscription = self._subscriptions[name] = Subscription(
            channel,
            delivery(channel, Wishes(), self._connection.codec, in_words, self._settings),
            self._connection,
            self._sources,
            unavailable=again,
        )
        subscription.start(None)

    def _leave(self, name: str) -> None:
        if timer := self._retries.pop(name, None):
            timer.cancel()
        if subscription := self._subscriptions.pop(name, None):
            subscription.stop()
