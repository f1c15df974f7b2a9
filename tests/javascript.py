"""The JavaScript client for tests: built, and run in Node or Chromium by clients/js/test."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.gateways import DEADLINE_S

FOLDER = Path(__file__).parents[1] / "clients/js"
START_S = 30.0  # Chromium on a busy machine
Place = Literal["node", "chromium"]


def needs(*programs: str) -> None:
    """Skip where one is not installed, unless `SENTIO_TEST_CLIENTS=required`."""
    missing = [name for name in programs if shutil.which(name) is None]
    if not (FOLDER / "node_modules/typescript").exists():
        missing.append("clients/js/node_modules ('make setup' with npm)")
    if missing and os.environ.get("SENTIO_TEST_CLIENTS") == "required":
        pytest.fail(f"missing: {', '.join(missing)}")
    if missing:
        pytest.skip(f"missing: {', '.join(missing)}")


def build() -> None:
    """Compile src/ to dist/."""
    done = subprocess.run(
        ["node", "node_modules/typescript/bin/tsc"],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


class Follower:
    """A running client; what it says is in ``items``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.items: list[dict[str, Any]] = []
        self._process = process

    async def next(self) -> dict[str, Any]:
        assert self._process.stdout
        async with asyncio.timeout(DEADLINE_S if self.items else START_S):
            line = await self._process.stdout.readline()
        assert line, "the client ended without a word"
        item: dict[str, Any] = json.loads(line)
        self.items.append(item)
        return item

    async def until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while not condition(item := await self.next()):
            pass
        return item

    async def updates(self, count: int) -> None:
        """Until so many more came."""
        for _ in range(count):
            await self.until(lambda item: item["type"] == "update")

    async def tell(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n".encode())

    async def close(self) -> None:
        """It ends in order, as an application does."""
        await self.tell("close")
        assert (await self.until(lambda item: item["type"] == "end")) == {"type": "end"}
        async with asyncio.timeout(DEADLINE_S):
            assert await self._process.wait() == 0

    @property
    def event_ids(self) -> list[str]:
        return [item["event"]["event_id"] for item in self.items if item["type"] == "update"]

    @property
    def types(self) -> list[str]:
        return [item["type"] for item in self.items]


@asynccontextmanager
async def following(place: Place, url: str, *channels: str, **spec: Any) -> AsyncIterator[Follower]:
    script = "browser.js" if place == "chromium" else "node.js"
    words = json.dumps({"url": url, "channels": channels, "chromium": shutil.which("chromium"), **spec})
    process = await asyncio.create_subprocess_exec(
        "node",
        f"test/{script}",
        words,
        cwd=FOLDER,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    try:
        yield Follower(process)
    finally:
        if process.returncode is None:
            process.terminate()  # playwright ends its browser with it
        async with asyncio.timeout(DEADLINE_S):
            await process.communicate()
