"""`sentio watch` as it is started: lines of JSON into a pipe, a table on a terminal."""

import asyncio
import json
import os
import pty
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.stream.descriptors import PythonDescriptors
from tests.gateways import DEADLINE_S, trade
from tests.stages import stage
from tests.tokens import keys_file, secret

pytestmark = pytest.mark.anyio

SENTIO = Path(sys.executable).with_name("sentio")
START_S = 60.0  # Python's imports, on a busy machine


async def watch(*arguments: str, **options: Any) -> asyncio.subprocess.Process:
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
    return await asyncio.create_subprocess_exec(SENTIO, "watch", *arguments, **{**pipes, **options})


async def test_into_a_pipe_each_item_is_a_line_and_count_ends_it(tmp_path: Path) -> None:
    signer = secret()
    (tmp_path / "token").write_text(signer.token("trades") + "\n")
    async with stage(PythonDescriptors(), auth_keys=keys_file(tmp_path, signer)) as running:
        await running.follow("TradeExecuted")
        url = f"ws://127.0.0.1:{running.port}"
        process = await watch("trades", "--url", url, "--token-file", str(tmp_path / "token"), "--count", "3")
        assert process.stdout
        async with asyncio.timeout(START_S):
            first = json.loads(await process.stdout.readline())
        assert (first["type"], first["events"]) == ("snapshot", [])
        await running.publish([trade(1), trade(2)])
        async with asyncio.timeout(DEADLINE_S):
            rest, said = await process.communicate()
        assert [json.loads(line)["event"]["quantity"] for line in rest.splitlines()] == ["2", "3"]
        assert (process.returncode, said) == (0, b"")


async def test_what_is_wrong_is_one_line_and_a_status(tmp_path: Path) -> None:
    async with stage(PythonDescriptors(), auth_keys=keys_file(tmp_path, secret())) as running:
        url = f"ws://127.0.0.1:{running.port}"
        for arguments, status, line in (
            (("tradez",), 2, b"no channel 'tradez'"),
            (("trades", "--url", "here"), 2, b"--url here"),
            (("trades", "--from", "now"), 2, b"--from now"),
            (("trades", "--url", url, "--token-file", str(tmp_path / "none")), 2, b"No such file"),
            (("trades", "--url", url), 1, b"trades is not granted to you (forbidden)"),
        ):
            process = await watch(*arguments)
            async with asyncio.timeout(START_S):
                _, said = await process.communicate()
            assert (process.returncode, said.count(b"\n")) == (status, 1), said
            assert line in said


async def test_on_a_terminal_it_is_a_table_that_changes() -> None:
    async with stage(PythonDescriptors()) as running:
        await running.follow("TradeExecuted")
        ours, theirs = pty.openpty()
        os.set_blocking(ours, False)
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
        url = f"ws://127.0.0.1:{running.port}"
        process = await watch("trades", "--url", url, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        shown = b""

        async with asyncio.timeout(START_S):
            while b"BRK.B" not in shown:
                with suppress(BlockingIOError):
                    shown += os.read(ours, 65_536)
                if b"open 0:" in shown:  # connected; nothing says when it is subscribed, so it gets more than one
                    await running.publish([trade(1, "BRK.B")])
                await asyncio.sleep(0.05)
        assert b"quantity" in shown
        process.terminate()
        async with asyncio.timeout(DEADLINE_S):
            await process.wait()
        os.close(ours)
