"""All connections of this process: accepts them, pings them, ends those that do not take what they are sent."""

import asyncio
import logging
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from websockets.http11 import Request, Response
from websockets.typing import Origin

from gateway.proxies import Proxies
from gateway.stream import protocol
from gateway.stream.connection import Admitted, Connection, TurnedAway
from gateway.stream.deflate import Offers
from gateway.stream.descriptors import Descriptors
from gateway.stream.product import Products
from gateway.stream.tls import tls
from sentio import log
from sentio.config import StreamSettings
from sentio.errors import SettingError

PING_S = 20.0
SLICE = 100  # connections that are looked at before it is the others' turn
WAITING = 4_096  # connections that the kernel holds for us to accept; its own bound is net.core.somaxconn
UNSENT_BYTES = 1 << 14  # that the kernel holds of one client, besides what is on its way; without it 3 MiB
END_S = 4.5

Answer = Coroutine[Any, Any, tuple[int, str]]
"""Status and text of an HTTP answer."""

Admit = Callable[[Request, Connection], Admitted]
"""Looks at a handshake; raises `Unwelcome` or `TurnedAway`."""


def origins(settings: StreamSettings) -> list[Origin | None] | None:
    """Pages that may connect, and None for clients that are no page; None for all."""
    named = [Origin(part.strip()) for part in settings.stream_origins.split(",") if part.strip()]
    return [None, *named] if named else None


class Sockets:
    """`answer` says which requests are HTTP and no handshake."""

    def __init__(
        self,
        descriptors: Descriptors,
        settings: StreamSettings,
        *,
        answer: Callable[[Request], Answer | None],
    ) -> None:
        self.descriptors = descriptors
        self.backlog_bytes = settings.stream_backlog_bytes
        self.answer = answer
        self.admit: Admit
        self.all: set[Connection] = set()
        self.held: set[Connection] = set()
        """Those with bytes that wait for the socket."""

        self.closing = False
        self.refused: Counter[int] = Counter()
        """Handshakes, by the status that they were answered with."""

        self.closed: Counter[int] = Counter()
        """Connections that the gateway closed, by code."""

        self.products = Products()

        self.proxies = Proxies(settings)
        self.origins = origins(settings)
        self.extensions = [Offers()] if settings.stream_compression else []
        self.silence = logging.getLogger("gateway.websockets")  # scanners and lost phones are no news
        self.silence.setLevel(logging.CRITICAL)
        self._settings = settings
        self._behind_s = settings.stream_behind_s
        self._tls = tls(settings)
        if self._tls and settings.proxy_says == "protocol":
            raise SettingError("SENTIO_PROXY_SAYS=protocol: comes before TLS, which then has to end at the proxy")
        self._once = log.OncePer()
        self._answering: set[asyncio.Task[None]] = set()
        self._nobody = asyncio.Event()
        self._servers: list[asyncio.Server] = []

    async def listen(self, admit: Admit) -> int:
        """Accept from now on whom ``admit`` lets in; returns the port. Raises OSError when it cannot be had."""
        self.admit = admit
        host, port = self._settings.stream_host, self._settings.stream_port
        shared = self._settings.stream_workers > 1
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        bound: list[socket.socket] = []
        for family, _, _, _, address in dict.fromkeys(found):
            port = bound[0].getsockname()[1] if bound else port
            one = socket.create_server((address[0], port), family=family, backlog=WAITING, reuse_port=shared)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)  # connections inherit it
            bound.append(one)
        loop = asyncio.get_running_loop()
        self._servers = [
            await loop.create_server(lambda: Connection(self), sock=one, backlog=WAITING, ssl=self._tls)
            for one in bound
        ]
        return int(bound[0].getsockname()[1])

    async def watch(self) -> None:
        """Ping everyone, and close who is late, for ever."""
        asked_s = time.monotonic()
        while True:
            await asyncio.sleep(min(1.0, self._behind_s / 4))
            now_s = time.monotonic()
            for late in [one for one in self.held if one.held_for_s(now_s) > self._behind_s]:
                self.late(late)
            if now_s - asked_s > PING_S:
                asked_s = now_s
                for number, connection in enumerate(list(self.all), 1):
                    connection.ask()
                    if number % SLICE == 0:
                        await asyncio.sleep(0)

    def is_late(self, behind_since_s: float) -> bool:
        """Whether a client that fell behind then (monotonic) has had its time."""
        return time.monotonic() - behind_since_s > self._behind_s

    def late(self, connection: Connection) -> None:
        """Close a client that is behind for too long."""
        connection.close(protocol.CLOSE_SLOW, f"behind for {self._behind_s:g} s; come back with your cursor")

    def answer_later(self, connection: Connection, answer: Answer) -> None:
        async def respond() -> None:
            connection.reject(*await answer)

        self._later(respond())

    def greet_later(self, connection: Connection, response: Response, admitted: Admitted) -> None:
        """Once the other instances have been asked."""
        others = admitted.others
        assert others

        async def greet() -> None:
            try:
                await others()
            except TurnedAway as refusal:
                connection.turn_away(refusal)
            else:
                connection.greet(response, admitted)
            connection.hear()

        self._later(greet())

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    def left(self, connection: Connection) -> None:
        """Its connection is lost."""
        self.all.discard(connection)
        self.held.discard(connection)
        if self.closing and not self.all:
            self._nobody.set()

    def say(self, what: str, **more: object) -> None:
        """Log what a client or a proxy did wrong, once a minute."""
        if self._once.due(what):
            log.get().warning(what, **more)

    async def drain(self, window_s: float, code: int, reason: str, hurry: asyncio.Event) -> None:
        """Accept no more, and send everyone away, each at a moment of its own within the window, so that they do not
        come back all at once. All at once when ``hurry`` is set.
        """
        self._refuse()
        began_s = time.monotonic()
        leaving = list(self.all)
        random.shuffle(leaving)
        each_s = window_s / max(1, len(leaving))
        for number, connection in enumerate(leaving):
            connection.leaving(number * each_s)
            if number % SLICE == 0:
                await asyncio.sleep(0)
        for number, connection in enumerate(leaving):
            left_s = began_s + number * each_s - time.monotonic()
            if left_s > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(hurry.wait(), left_s)
            if hurry.is_set():
                break
            connection.close(code, reason)
        await self.close(code, reason)

    def _refuse(self) -> None:
        """Free the port: another gateway may take it while clients still leave this one."""
        self.closing = True
        for server in self._servers:
            server.close()

    async def close(self, code: int, reason: str) -> None:
        """Accept no more, tell everyone, and wait a little for them to leave."""
        self._refuse()
        for connection in list(self.all):
            connection.close(code, reason)
        if self.all:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._nobody.wait(), END_S)
        for connection in list(self.all):
            connection.abort()
