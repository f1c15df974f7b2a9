"""The work of `sentio watch`: a stream as live tables on a terminal, as lines of JSON anywhere else."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from ssl import SSLError
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.live import Live
from websockets.exceptions import InvalidURI

from sentio.asked import duration_ms, iso
from sentio.cli.screen import Screen
from sentio.config import StreamSettings, load
from sentio.errors import Fatal, SettingError
from sentio_client import Item, Status, Stream, StreamError
from sentio_client.tokens import Token

REDRAW_S = 0.25
TOKEN = "SENTIO_TOKEN"  # noqa: S105 - the name of a variable


class Watch:
    """One run of the command; see `sentio watch --help` for the arguments."""

    def __init__(
        self, channels: Sequence[str], *, url: str | None, token_file: Path | None, since: str | None, count: int | None
    ) -> None:
        self._url = url or _own_gateway(load(StreamSettings))
        self._channels = channels
        self._count = count
        start = None if since is None else datetime.now(UTC) - timedelta(milliseconds=duration_ms("--from", since))
        try:
            self._stream = Stream(self._url, channels, token=_token(token_file), since=start)
        except ValueError as failure:
            raise SettingError(f"watch: {failure}") from failure

    def run(self) -> None:
        """Until Ctrl-C, ``--count`` items, or an end that the gateway wants."""
        console = Console()
        try:
            asyncio.run(self._draw(console) if console.is_terminal else self._print())
        except InvalidURI as failure:
            raise SettingError(f"--url {self._url}: it is such as ws://127.0.0.1:8765") from failure
        except (StreamError, SSLError) as failure:
            raise Fatal(f"{self._url}: {failure}") from failure

    async def _print(self) -> None:
        left = self._count
        beside = asyncio.create_task(self._report())
        try:
            async with self._stream as stream:
                while left is None or left > 0:
                    print(json.dumps(as_document(await anext(stream))), flush=True)
                    left = None if left is None else left - 1
        finally:
            beside.cancel()

    async def _report(self) -> None:
        """Says on stderr why nothing comes."""
        said: Status | None = None
        while True:
            status = self._stream.status
            if status.state == "waiting" and status != said:
                said = status
                print(f"sentio: {self._url}: {status.detail}; again in {status.retry_in_s:.1f} s", file=sys.stderr)
            await asyncio.sleep(REDRAW_S / 5)

    async def _draw(self, console: Console) -> None:
        screen = Screen(self._url, self._channels)
        # Read in a task of its own, so that what is shown goes on while nothing comes.
        reading = asyncio.create_task(self._read(screen))
        with Live(console=console, screen=self._count is None, auto_refresh=False) as live:
            while not reading.done():
                live.update(screen.render(self._stream.status, console.height), refresh=True)
                with suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(reading), REDRAW_S)
            live.update(screen.render(self._stream.status, console.height), refresh=True)
        await reading

    async def _read(self, screen: Screen) -> None:
        left = self._count
        async with self._stream as stream:
            while left is None or left > 0:
                screen.take(await anext(stream))
                left = None if left is None else left - 1


def as_document(item: Item) -> dict[str, Any]:
    """An item as JSON holds it."""
    return {"type": type(item).__name__.lower(), **_plain(item)}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    match value:
        case Decimal():
            return f"{value:f}"
        case datetime():
            return iso(value)
        case UUID():
            return str(value)
        case tuple():
            return [_plain(one) for one in value]
    return value


def _own_gateway(settings: StreamSettings) -> str:
    """The one that `sentio run stream` starts with the settings of this shell."""
    scheme = "wss" if settings.stream_tls_certificate else "ws"
    host = "127.0.0.1" if settings.stream_host in ("0.0.0.0", "::") else settings.stream_host  # noqa: S104 - compared with, not bound to
    return f"{scheme}://{host}:{settings.stream_port}"


def _token(file: Path | None, environment: Mapping[str, str] = os.environ) -> Token | None:
    if file is None:
        return environment.get(TOKEN)
    path = file

    async def read() -> str:
        """Again for every connection, so that the file may be renewed."""
        try:
            return path.read_text().strip()
        except OSError as failure:
            raise SettingError(f"--token-file {path}: {failure.strerror}") from failure

    return read
