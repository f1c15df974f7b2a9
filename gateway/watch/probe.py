"""A client of one gateway, as any other: what clients are shown, and how long it takes to them."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.watch.book import Book, Figures, beginning, day_of, start_of
from gateway.watch.latency import Latency
from schemas.topics import topics
from sentio import log
from sentio.errors import SettingError
from sentio.kafka import Place
from sentio_client import Event, Gap, Item, Stream, StreamError, Update

AGAIN_S = 10.0
"""After an end that coming back would not mend: somebody may mend it."""

GAP_S = 1.0
"""After a gap: a gateway that has one for every client is not asked again and again without a pause."""

_TOPICS = {topic.channel: topic for topic in topics().values()}
CHANNELS = ("trades", "positions", "performance")


@dataclass(frozen=True, slots=True)
class Heard:
    """What a probe knows at one moment."""

    figures: Mapping[str, Figures]
    since: datetime
    """What was published before was not heard."""

    offsets: Mapping[Place, int]
    """Next offset of each partition that something was heard of."""

    state: str
    detail: str
    silent_s: float
    """For how long nothing was heard."""

    p50_ms: float | None
    p99_ms: float | None
    partial: AbstractSet[str] = frozenset()
    """Accounts of whose day it does not know everything."""


class Probe:
    """Listens from a thread of its own between `start` and `stop`."""

    def __init__(self, url: str, *, prefix: str, token_file: Path | None, since: datetime) -> None:
        self.url = url
        self._prefix = prefix
        self._token = _reader_of(token_file) if token_file else None
        self._since = since
        self._lock = threading.Lock()
        self._book = Book()
        self._offsets: dict[Place, int] = {}
        self._latency = Latency()
        self._heard_s = time.monotonic()
        self._status: Callable[[], tuple[str, str]] = lambda: ("new", "")
        self._live_at = datetime.now(UTC)
        """What was published before came from the log: it tells nothing about delivery."""

        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name=f"probe-{url}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        def cancel() -> None:
            if self._task is not None:
                self._task.cancel()

        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(cancel)
            self._thread.join(5)

    def heard(self) -> Heard:
        state, detail = self._status()
        now_s = time.monotonic()
        with self._lock:
            p50_ms, p99_ms = self._latency.percentiles_ms(now_s) or (None, None)
            return Heard(
                {name: account.figures() for name, account in self._book.accounts.items()},
                self._since,
                dict(self._offsets),
                state,
                detail,
                now_s - self._heard_s,
                p50_ms,
                p99_ms,
                self._book.partial,
            )

    def minute(self) -> list[int]:
        """Counts of the minute by row of the heat map; they begin anew."""
        with self._lock:
            return self._latency.next_minute()

    def _run(self) -> None:
        async def main() -> None:
            self._task = asyncio.current_task()
            while True:
                try:
                    await self._listen()
                except _Gapped as gap:
                    self._shorten()
                    log.get().warning("the probe did not hear all", gateway=self.url, cause=str(gap))
                    await asyncio.sleep(GAP_S)
                    continue
                except (StreamError, SettingError, OSError) as failure:
                    detail = str(failure)
                    self._status = lambda detail=detail: ("ended", detail)  # type: ignore[misc] # bound now
                    log.get().warning("the probe ended, will try again", gateway=self.url, cause=detail)
                await asyncio.sleep(AGAIN_S)

        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(main())
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.close()

    def _shorten(self) -> None:
        """What a gateway will not read again for one client is not asked for again: then of today, then what comes."""
        now = datetime.now(UTC)
        today = start_of(day_of(now))
        self._since = today if self._since < today else now

    async def _listen(self) -> None:
        """From where the days began, every message: a client that resumes hears it all once."""
        with self._lock:
            self._book, self._offsets = Book(), {}
            self._since = max(self._since, beginning())
        stream = Stream(self.url, CHANNELS, token=self._token, since=self._since, conflate=False)
        self._status = lambda: (stream.status.state, stream.status.detail)
        connections = 0
        async with stream:
            async for item in stream:
                with self._lock:
                    if connections != stream.status.connections:
                        connections, self._live_at = stream.status.connections, datetime.now(UTC)
                    self._take(item)

    def _take(self, item: Item) -> None:
        now = datetime.now(UTC)
        now_s = self._heard_s = time.monotonic()
        match item:
            case Update():
                partition, _, offset = item.seq.partition(":")
                topic = _TOPICS[item.channel]
                self._offsets[topic.full_name(self._prefix), int(partition)] = int(offset) + 1
                self._book.take(topic.name, int(partition), _row(item.event), now)
                if item.at >= self._live_at:
                    self._latency.took((now - item.at).total_seconds() * 1000, now_s)
            case Gap(reason=reason, message=why) if reason != "missing":  # that is asked for again
                raise _Gapped(f"{item.channel}: {reason}: {why}")


class _Gapped(Exception):
    """What was heard is not all that there was: the book begins anew."""


def _row(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__dataclass_fields__}


def _reader_of(file: Path) -> Callable[[], Any]:
    async def read() -> str:
        """Again for every connection, so that the file may be renewed."""
        try:
            return (await asyncio.to_thread(file.read_text)).strip()
        except OSError as failure:
            raise SettingError(f"SENTIO_WATCH_TOKEN_FILE={file}: {failure.strerror}") from failure

    return read
