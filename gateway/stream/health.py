"""/livez and /readyz on the port of the stream."""

import asyncio
import time
from concurrent.futures import Executor
from http import HTTPStatus

from websockets.http11 import Request

from gateway.database import Pool, reading
from gateway.stream.fanout import Fanout
from gateway.stream.feed import Feed
from gateway.stream.sockets import Answer
from sentio.errors import Retryable

STUCK_S = 60.0
DATABASE_GOOD_FOR_S = 1.0


class Health:
    """Whether this process does its work."""

    def __init__(self, feed: Feed, fanout: Fanout, connections: Pool, threads: Executor) -> None:
        self._feed = feed
        self._fanout = fanout
        self._connections = connections
        self._threads = threads
        self._asked_s = float("-inf")
        self._database: str | None = None
        """What is wrong with it, when it was last asked."""

    def answer(self, request: Request) -> Answer | None:
        """None for every other path."""
        match request.path.partition("?")[0]:
            case "/livez":
                return self._live()
            case "/readyz":
                return self._ready()
        return None

    async def _live(self) -> tuple[int, str]:
        return _answer(self.stuck())

    async def _ready(self) -> tuple[int, str]:
        return _answer(await self.not_ready())

    async def not_ready(self) -> str | None:
        """Why this process cannot serve at the moment."""
        return self.stuck() or self._not_assigned() or await self._database_gone()

    def stuck(self) -> str | None:
        silent_s = time.monotonic() - self._feed.turned_s
        return f"the feed has not turned for {silent_s:.0f} s" if silent_s > STUCK_S else None

    def _not_assigned(self) -> str | None:
        return None if self._fanout.caught_up.is_set() else "the topics are not followed yet"

    async def _database_gone(self) -> str | None:
        if time.monotonic() - self._asked_s > DATABASE_GOOD_FOR_S:
            self._asked_s = time.monotonic()
            loop = asyncio.get_running_loop()
            self._database = await loop.run_in_executor(self._threads, self._ask_database)
        return self._database

    def _ask_database(self) -> str | None:
        try:
            with reading(self._connections) as connection:
                connection.execute("select 1")
        except Retryable as failure:
            return str(failure)
        return None


def _answer(wrong: str | None) -> tuple[int, str]:
    return HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK, f"{wrong or 'ok'}\n"
