"""One connection: its requests, its subscriptions, and what it is told when a request is wrong."""

import asyncio
from contextlib import suppress

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from gateway.stream import protocol
from gateway.stream.catchup import History
from gateway.stream.client import Client
from gateway.stream.fanout import Fanout
from gateway.stream.protocol import Refused, Request
from gateway.stream.snapshot import Snapshots
from gateway.stream.subscription import Subscription
from sentio.config import StreamSettings

ANSWER_S = 3.0


class Session:
    """`run` it for as long as the connection lives."""

    def __init__(
        self,
        socket: ServerConnection,
        settings: StreamSettings,
        *,
        fanout: Fanout,
        history: History,
        snapshots: Snapshots,
    ) -> None:
        self._socket = socket
        self._client = Client(socket, limit=settings.stream_queue)
        self._heartbeat_s = settings.stream_heartbeat_s
        self._fanout = fanout
        self._history = history
        self._snapshots = snapshots
        self._subscriptions: dict[str, Subscription] = {}

    async def run(self) -> None:
        """Returns when the connection is closed, by whomever."""
        self._client.offer([protocol.greeting(self._heartbeat_s)])
        sender = asyncio.create_task(self._client.send())
        try:
            with suppress(ConnectionClosed):
                await self._receive()
        finally:
            for subscription in self._subscriptions.values():
                subscription.stop()
            self._subscriptions.clear()
            sender.cancel()
            await self._client.closed()

    def beat(self) -> None:
        cursors = {name: one.cursor for name, one in self._subscriptions.items()}
        self._client.offer([protocol.heartbeat({name: cursor for name, cursor in cursors.items() if cursor})])

    async def _receive(self) -> None:
        bad = 0
        async for text in self._socket:
            try:
                self._follow(protocol.parse_request(text))
            except Refused as refusal:
                bad += 1
                self._client.offer([protocol.error(refusal.request_id, refusal.code, str(refusal))])
                if bad >= protocol.BAD_IN_A_ROW:
                    with suppress(TimeoutError):  # who does not read need not know what was wrong
                        async with asyncio.timeout(ANSWER_S):
                            await self._client.drained()
                    self._client.close(protocol.CLOSE_BAD_REQUESTS, f"{bad} bad requests in a row")
                    return
            else:
                bad = 0

    def _follow(self, request: Request) -> None:
        match request.op:
            case "ping":
                self._client.offer([protocol.pong(request.id)])
            case "unsubscribe":
                for channel in request.channels:
                    self._leave(channel.name)
                self._client.offer([protocol.ack(request.id, request.channels)])
            case "subscribe":
                self._subscribe(request)

    def _subscribe(self, request: Request) -> None:
        """A channel that is subscribed already begins anew."""
        named = {channel.name for channel in request.channels}
        if len(named | self._subscriptions.keys()) > protocol.MAX_CHANNELS:
            raise Refused("too_many_channels", f"at most {protocol.MAX_CHANNELS} channels a connection", request.id)
        self._client.offer([protocol.ack(request.id, request.channels)])
        for channel in request.channels:
            self._leave(channel.name)
            subscription = self._subscriptions[channel.name] = Subscription(
                channel,
                self._client,
                request.id,
                fanout=self._fanout,
                history=self._history,
                snapshots=self._snapshots,
            )
            subscription.start(request.cursors.get(channel.name))

    def _leave(self, name: str) -> None:
        subscription = self._subscriptions.pop(name, None)
        if subscription:
            subscription.stop()
