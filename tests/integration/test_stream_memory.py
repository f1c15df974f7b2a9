"""What a gateway leaves behind: its garbage collector looks seldom, so nothing may need it."""

import gc

import pytest

from gateway.stream.descriptors import descriptors
from tests.gateways import trade
from tests.stages import stage

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


async def test_connections_and_messages_that_are_gone_leave_no_circles() -> None:
    async with stage(descriptors(), stream_ring=100) as on:
        await on.follow("TradeExecuted")
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for number in range(20):
                async with on.phone() as phone:
                    await phone.say(id=1, op="subscribe", channels=["trades"])
                    await phone.next("snapshot")
                    await phone.nothing_more()
                    await on.publish([trade(10 * number + more) for more in range(10)])
                    await phone.updates(10)
            await on.left()
            gc.collect()
            assert [type(left) for left in gc.garbage if type(left).__module__.startswith("gateway.")] == []
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
