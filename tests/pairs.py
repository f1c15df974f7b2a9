"""Two gateways on one Redis, for tests of what they share."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from redis import Redis

from gateway.stream.descriptors import PythonDescriptors
from sentio.stack.redis import RedisServer
from tests.gateways import DEADLINE_S
from tests.stages import Stage, stage
from tests.tokens import edwards, keys_file

SIGNER = edwards("now")


class Pair:
    """Two gateways, and what Redis knows of them."""

    def __init__(self, first: Stage, second: Stage, server: RedisServer) -> None:
        self.both = (first, second)
        self.server = server

    async def joined(self, *, is_so: bool = True) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while any(one.registry.joined != is_so for one in self.both if one.registry):  # noqa: ASYNC110 - it has no event for it
                await asyncio.sleep(0.005)

    def known(self) -> dict[str, int]:
        """Places that are taken, on all instances together."""
        found: dict[str, int] = {}
        with Redis.from_url(self.server.address, decode_responses=True) as redis:
            for key in redis.scan_iter("sentio:gateway:places:*"):
                for place, taken in redis.hgetall(key).items():
                    found[place] = found.get(place, 0) + int(taken)
        return found

    async def knows(self, wanted: dict[str, int]) -> None:
        ends_s = time.monotonic() + DEADLINE_S
        while (known := self.known()) != wanted:
            assert time.monotonic() < ends_s, known
            await asyncio.sleep(0.005)


@asynccontextmanager
async def pair(server: RedisServer, folder: Path, **options: Any) -> AsyncIterator[Pair]:
    known = {
        "redis": SecretStr(server.address),
        "auth_keys": keys_file(folder, SIGNER),
        "auth_anonymous": "trades",
        "proxies": "127.0.0.0/8",
    }
    async with (
        stage(PythonDescriptors(), **(known | options)) as first,
        stage(PythonDescriptors(), **(known | options)) as second,
    ):
        made = Pair(first, second, server)
        await made.joined()
        yield made


def path_of(user: str) -> str:
    return f"/?token={SIGNER.token('trades', sub=user)}"


def whose(address: str) -> dict[str, Any]:
    return {"additional_headers": {"X-Forwarded-For": address}}
