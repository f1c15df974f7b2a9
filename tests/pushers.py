"""Pusher's clients, unchanged, as programs of their own that write what they hear: `make test` installs them."""

import asyncio
import json
import shutil
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.gateways import DEADLINE_S

HERE = Path(__file__).parent / "pusher"
PYTHON = Path(__file__).parents[1] / ".sentio/pysher/bin/python"

KEY, SECRET = "phase-one", "0123456789abcdef0123"
Library = Literal["pusher-js", "pysher"]


@dataclass
class App:
    """One client, and what it wrote."""

    process: Process
    heard: list[dict[str, Any]] = field(default_factory=list)

    async def listen(self) -> dict[str, Any]:
        assert self.process.stdout
        async with asyncio.timeout(DEADLINE_S):
            line = await self.process.stdout.readline()
        assert line, f"the client ended after {self.heard}"
        said: dict[str, Any] = json.loads(line)
        self.heard.append(said)
        return said

    async def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next of these; others before it are kept in ``heard``."""
        while not wanted(said := await self.listen()):
            pass
        return said

    async def next(self, event: str) -> dict[str, Any]:
        """The data of the next event of this name."""
        data: dict[str, Any] = (await self.until(lambda said: said.get("event") == event))["data"]
        return data

    async def events(self, event: str, count: int) -> list[dict[str, Any]]:
        return [await self.next(event) for _ in range(count)]


@asynccontextmanager
async def app(
    library: Library,
    port: int,
    *channels: str,
    key: str = KEY,
    secret: str = SECRET,
    events: Sequence[str] = ("TradeExecuted",),
    trigger: str | None = None,
) -> AsyncIterator[App]:
    wanted = {
        "port": port, "key": key, "secret": secret, "channels": channels, "events": events, "trigger": trigger,
    }  # fmt: skip
    node = shutil.which("node")
    assert node
    assert all(path.exists() for path in (HERE / "node_modules", PYTHON)), "`make test` installs Pusher's clients"
    program = [node, str(HERE / "listen.mjs")] if library == "pusher-js" else [str(PYTHON), str(HERE / "listen.py")]
    process = await asyncio.create_subprocess_exec(*program, json.dumps(wanted), stdout=PIPE, limit=1 << 24)
    try:
        yield App(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
