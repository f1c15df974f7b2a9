"""A gateway that plays a script: what a real one does rarely, on purpose. Its clients' handshakes and requests are real."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.gateways import DEADLINE_S

TRADE = {
    "event_id": "0199d2f0-0000-7000-8000-000000000000",
    "producer": "engine@1",
    "sequence": 0,
    "account": "paper",
    "strategy": "rotation",
    "symbol": "TQQQ",
    "action": "ENTRY",
    "side": "BUY",
    "quantity": "100",
    "price": "101.25",
    "realized_pnl": None,
    "fees": "0.35",
    "reason": "test",
    "order_id": None,
    "executed_at": "2025-10-10T13:30:00.000000Z",
}


@dataclass
class Guest:
    """A connection of the client under test."""

    socket: ServerConnection

    async def greet(self, heartbeat_s: float = 60.0) -> None:
        await self.say(type="greeting", version=1, heartbeat_s=heartbeat_s)

    async def say(self, **frame: Any) -> None:
        await self.socket.send(json.dumps(frame))

    async def heard(self) -> dict[str, Any]:
        """What the client says next."""
        async with asyncio.timeout(DEADLINE_S):
            said: dict[str, Any] = json.loads(await self.socket.recv())
        return said

    async def subscribed(self) -> dict[str, Any]:
        """Greets, and acknowledges what the client asks for."""
        await self.greet()
        request = await self.heard()
        await self.say(type="ack", id=request["id"], channels=request["channels"])
        return request

    async def update(self, number: int, prev: int | None = None, channel: str = "trades", **fields: Any) -> None:
        before = None if prev is None else f"0:{prev}"
        at, data = "2025-10-10T13:30:00.001Z", {**TRADE, "sequence": number, **fields}
        await self.say(
            type="update", channel=channel, seq=f"0:{number}", prev=before, cursor=f"c{number}", at=at, data=data
        )

    async def snapshot(self, cursor: str = "c0", channel: str = "trades") -> None:
        await self.say(type="snapshot", channel=channel, cursor=cursor, truncated=False, data=[])

    async def close(self, code: int, reason: str = "by the script") -> None:
        await self.socket.close(code, reason)

    async def stay(self) -> None:
        """Until the client leaves."""
        await self.socket.wait_closed()


@dataclass(frozen=True)
class Answer:
    """Instead of a connection."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: str = "not now"


Act = Answer | Callable[[Guest], Awaitable[None]]


@dataclass
class Scripted:
    port: int = 0
    came_s: list[float] = field(default_factory=list)
    """When each handshake came, on the monotonic clock."""

    tokens: list[str] = field(default_factory=list)
    """What each showed."""

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"


@asynccontextmanager
async def scripted(*acts: Act) -> AsyncIterator[Scripted]:
    """Each handshake gets the next act; there must be as many as acts, and what goes wrong in an act is raised."""
    made = Scripted()
    wrong: list[BaseException] = []

    def answer(_: ServerConnection, request: Request) -> Response | None:
        made.came_s.append(time.monotonic())
        made.tokens.append(request.headers.get("Authorization", "").removeprefix("Bearer "))
        act = acts[len(made.came_s) - 1] if len(made.came_s) <= len(acts) else Answer(500, {}, "no act is left")
        if not isinstance(act, Answer):
            return None
        return Response(act.status, "As told", Headers(act.headers), act.body.encode())

    async def play(socket: ServerConnection) -> None:
        act = acts[len(made.came_s) - 1]
        assert not isinstance(act, Answer)
        try:
            await act(Guest(socket))
        except ConnectionClosed:
            pass
        except BaseException as failure:
            wrong.append(failure)
            raise

    async with serve(play, "127.0.0.1", 0, process_request=answer, ping_interval=None, close_timeout=1) as server:
        made.port = server.sockets[0].getsockname()[1]
        yield made
    assert not wrong, wrong
    assert len(made.came_s) == len(acts), f"{len(made.came_s)} handshakes, {len(acts)} were expected"
