"""One client's outgoing frames: a bounded queue, a task that sends, and a close for whoever is too slow."""

import asyncio
from collections import deque
from collections.abc import Iterable

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from gateway.stream.protocol import CLOSE_SLOW

AT_ONCE = 64  # frames a write: few enough that a slow socket is noticed, many enough to spare system calls


class Client:
    """Frames go out in the order offered."""

    def __init__(self, socket: ServerConnection, *, limit: int) -> None:
        self._socket = socket
        self._limit = limit
        self._queue: deque[bytes] = deque()
        self._offered = asyncio.Event()
        self._sent = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None

    @property
    def slice(self) -> int:
        """Most frames to offer after one `room`."""
        return max(1, min(1_000, self._limit // 4))

    def offer(self, frames: Iterable[bytes]) -> None:
        """Queue frames; a client with more than its limit waiting is closed."""
        if self._closing:
            return
        self._queue.extend(frames)
        self._offered.set()
        if len(self._queue) > self._limit:
            self.close(CLOSE_SLOW, f"more than {self._limit} messages behind; come back with your cursor")

    async def room(self) -> None:
        """Wait until the client took most of what it was offered: history must not push it over its limit."""
        while len(self._queue) > self._limit // 4:
            self._sent.clear()
            await self._sent.wait()

    async def drained(self) -> None:
        """Wait until all that was offered is sent."""
        while self._queue:
            self._sent.clear()
            await self._sent.wait()

    def close(self, code: int, reason: str) -> None:
        """Close without what is still queued."""
        if not self._closing:
            self._queue.clear()
            self._closing = asyncio.create_task(self._socket.close(code, reason))

    async def send(self) -> None:
        """Send what is offered, until the connection is closed."""
        try:
            while True:
                await self._offered.wait()
                self._offered.clear()
                while self._queue:
                    # Several frames in one write; leaving waits while the socket's buffer is full.
                    async with self._socket.send_context():
                        for _ in range(min(AT_ONCE, len(self._queue))):
                            self._socket.protocol.send_text(self._queue.popleft())
                    self._sent.set()
        except ConnectionClosed:
            pass

    async def closed(self) -> None:
        """Wait until a close that was begun is over."""
        if self._closing:
            await asyncio.wait([self._closing])
