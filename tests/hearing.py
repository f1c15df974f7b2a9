"""What a test hears on a stream of the Python client."""

import asyncio

from sentio_client import (
    Item,
    Stream,
    Update,
)
from tests.gateways import DEADLINE_S


async def take(stream: Stream, count: int) -> list[Item]:
    async with asyncio.timeout(DEADLINE_S):
        return [await anext(stream) for _ in range(count)]


async def take_updates(stream: Stream, count: int) -> list[Item]:
    """Until so many updates came, with what came between them."""
    found: list[Item] = []
    async with asyncio.timeout(DEADLINE_S):
        while sum(isinstance(item, Update) for item in found) < count:
            found.append(await anext(stream))
    return found


def event_ids(items: list[Item]) -> list[str]:
    return [str(item.event.event_id) for item in items if isinstance(item, Update)]


def names(items: list[Item]) -> list[str]:
    return [type(item).__name__ for item in items]


async def ends(stream: Stream) -> None:
    """Runs until the stream gives up."""
    async with asyncio.timeout(DEADLINE_S), stream:
        async for _ in stream:
            pass
