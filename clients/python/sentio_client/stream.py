"""The stream as an application sees it: one asynchronous iterator over all its connections."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from ssl import SSLCertVerificationError, SSLContext
from types import TracebackType
from typing import Any, Literal, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from sentio_client.backoff import Backoff, retry_after_s
from sentio_client.channels import Channels
from sentio_client.cursors import Cursors
from sentio_client.errors import BadFrame, Closed, Rejected
from sentio_client.items import Item, Status
from sentio_client.tokens import Token, refresh_in_s

OPEN_S = 10.0
HEARTBEATS_MISSED = 2.5
SAVE_EVERY_S = 1.0
REFRESH_AGAIN_S = 5.0
MOST_FRAME_BYTES = 16 << 20
PRODUCT = "sentio-python/0.1.0"
"""What the gateway is told that we are."""

EXPIRED, RESTART = 4401, 1012
NOT_AGAIN = range(4400, 4500)
ASK_LATER = (408, 425, 429)


class Stream:
    """Events of channels, in order, over as many connections as it takes.

    Nothing runs between two items: a slow application is not read for, and what waits stays with the gateway, so that
    memory is bounded. Cursors of items are saved once the application asks for the next one, or leaves the ``async
    with`` block in order; what it had not finished before a crash comes again.
    """

    def __init__(
        self,
        url: str,
        channels: Sequence[str],
        *,
        token: Token | None = None,
        cursors: Cursors | None = None,
        # What to hear
        since: datetime | None = None,
        conflate: bool = True,
        lowest_latency: bool = False,
        # How to connect
        ssl: SSLContext | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        """``since`` (aware): where a channel without a cursor begins, instead of a snapshot. Raises ValueError."""
        if not channels:
            raise ValueError("name one channel or more")
        if since is not None and since.tzinfo is None:
            raise ValueError("since has no time zone")
        self._url = url
        self._token = token
        self._store = cursors
        self._saved: Mapping[str, str] = cursors.load() if cursors else {}
        self._finished = dict(self._saved)
        self._channels = Channels(
            channels, cursors=self._saved, since=since, conflate=conflate, lowest_latency=lowest_latency
        )
        self._options: dict[str, Any] = {} if ssl is None else {"ssl": ssl}
        self._backoff = backoff or Backoff()
        self._status = Status("new", datetime.now(UTC))
        self._items: deque[Item] = deque()
        self._entered = False
        self._socket: ClientConnection | None = None
        # All times are of the monotonic clock.
        self._connect_at_s = 0.0
        self._opened_s = 0.0
        self._silent_s = OPEN_S
        self._waiting_since_s: float | None = None
        self._save_at_s = 0.0
        self._refresh_at_s: float | None = None

    @property
    def status(self) -> Status:
        """How the connection is, while the application waits for the next item."""
        return self._status

    @property
    def cursors(self) -> Mapping[str, str]:
        """Of what the application has finished with, by channel."""
        return dict(self._finished)

    async def __aenter__(self) -> Self:
        self._entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._entered = False
        if kind is None:
            self._finish()
        try:
            await self._save()
        finally:
            await self._drop()
            self._say("closed")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        """The next item, however long it takes. Raises `StreamError` for what coming back would not mend."""
        if not self._entered:
            raise RuntimeError("use it in 'async with Stream(...) as stream'")
        self._finish()
        while not self._items:
            socket = self._socket or await self._connect()
            try:
                await self._turn(socket)
            except ConnectionClosed as closed:
                await self._lost(closed)
        return self._items.popleft()

    def _finish(self) -> None:
        """All items but those not given out yet are the application's past."""
        if not self._items:
            self._finished.update(self._channels.cursors)

    async def _turn(self, socket: ClientConnection) -> None:
        """Do what is due, or else wait for a frame."""
        now_s = time.monotonic()
        self._waiting_since_s = self._waiting_since_s or now_s
        # After a long pause of the application's there may be frames that the loop has not seen yet.
        silent_at_s = max(self._waiting_since_s + self._silent_s, now_s + 0.1)
        with suppress(ConnectionClosed):  # what came before the end is read below, and then the end
            for request in self._channels.requests(now_s):
                await socket.send(request)
        if self._refresh_at_s is not None and self._refresh_at_s <= now_s:
            await self._refresh(socket)
        if self._unsaved and self._save_at_s <= now_s:
            await self._save()
        ends_s = [silent_at_s, self._channels.due_s, self._refresh_at_s, self._save_at_s if self._unsaved else None]
        try:
            async with asyncio.timeout(min(one for one in ends_s if one is not None) - time.monotonic()):
                text = await socket.recv()
        except TimeoutError:
            if time.monotonic() >= silent_at_s:
                await self._come_back(f"nothing heard for {self._silent_s:.0f} s")
            return
        self._waiting_since_s = None
        self._hear(text)

    def _hear(self, text: str | bytes) -> None:
        try:
            frame = json.loads(text)
        except ValueError as failure:
            raise BadFrame(f"not JSON: {str(text)[:200]}") from failure
        if not isinstance(frame, dict):
            raise BadFrame(f"no JSON object: {str(text)[:200]}")
        match frame:
            case {"type": "greeting", "heartbeat_s": int() | float() as heartbeat_s}:
                self._silent_s = HEARTBEATS_MISSED * heartbeat_s
            case {"type": "draining"}:
                self._status = replace(self._status, detail="the gateway is about to restart")
        self._items.extend(self._channels.heard(frame, time.monotonic()))
        self._finish()

    async def _connect(self) -> ClientConnection:
        while True:
            # A pause that was cut off by a cancelled wait goes on here.
            await asyncio.sleep(max(0.0, self._connect_at_s - time.monotonic()))
            self._say("connecting", self._status.detail)
            try:
                token = await self._token() if callable(self._token) else self._token
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                self._socket = await connect(
                    self._url,
                    additional_headers=headers,
                    user_agent_header=PRODUCT,
                    open_timeout=OPEN_S,
                    close_timeout=1,
                    ping_interval=None,  # heartbeats say as much, and a slow application is no dead connection
                    max_size=MOST_FRAME_BYTES,
                    **self._options,
                )
            except InvalidStatus as answer:
                self._answered(answer)
            except SSLCertVerificationError:
                raise
            except (OSError, InvalidHandshake) as failure:
                await self._come_back(str(failure) or type(failure).__name__)
            else:
                break
        self._opened_s = time.monotonic()
        self._silent_s, self._waiting_since_s = OPEN_S, None
        refresh_s = refresh_in_s(token, time.time()) if token and callable(self._token) else None
        self._refresh_at_s = None if refresh_s is None else self._opened_s + refresh_s
        self._channels.connected()
        self._status = Status("open", datetime.now(UTC), connections=self._status.connections + 1)
        return self._socket

    def _answered(self, answer: InvalidStatus) -> None:
        """The handshake was answered with a status: come back later, or not at all."""
        status = answer.response.status_code
        if 400 <= status < 500 and status not in ASK_LATER:  # noqa: PLR2004 - as HTTP has it
            body = (answer.response.body or b"").decode(errors="replace").strip()
            raise Rejected(status, body[:500] or answer.response.reason_phrase) from answer
        asked_s = retry_after_s(answer.response.headers.get("Retry-After"))
        self._pause(f"the gateway answered {status}", at_least_s=asked_s)

    async def _lost(self, closed: ConnectionClosed) -> None:
        code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")
        if code == EXPIRED and callable(self._token):
            await self._come_back("the token ended", soon=True)
        elif code in NOT_AGAIN:
            raise Closed(code, reason) from closed
        else:
            await self._come_back(f"closed with {code} {reason}".strip(), soon=code == RESTART)

    async def _come_back(self, why: str, *, soon: bool = False) -> None:
        if self._socket:
            self._backoff.lived(time.monotonic() - self._opened_s)
        self._pause(why, soon=soon)
        await self._drop()

    def _pause(self, why: str, *, soon: bool = False, at_least_s: float = 0.0) -> None:
        pause_s = self._backoff.pause_s(soon=soon, at_least_s=at_least_s)
        self._connect_at_s = time.monotonic() + pause_s
        self._say("waiting", why, pause_s)

    async def _refresh(self, socket: ClientConnection) -> None:
        """A new token for this connection. Where there is none to be had, the former one holds until its end."""
        assert callable(self._token)
        self._refresh_at_s = time.monotonic() + REFRESH_AGAIN_S
        with suppress(OSError, ConnectionClosed):
            token = await self._token()
            await socket.send(json.dumps({"id": self._channels.next_id(), "op": "auth", "token": token}))
            refresh_s = refresh_in_s(token, time.time())
            self._refresh_at_s = None if refresh_s is None else time.monotonic() + max(refresh_s, 1.0)

    @property
    def _unsaved(self) -> bool:
        return self._store is not None and self._finished != self._saved

    async def _save(self) -> None:
        """Write what is finished; in a thread, since a disk may take its time."""
        if self._store is None or not self._unsaved:
            return
        cursors = dict(self._finished)
        await asyncio.to_thread(self._store.save, cursors)
        self._saved = cursors
        self._save_at_s = time.monotonic() + SAVE_EVERY_S

    async def _drop(self) -> None:
        socket, self._socket = self._socket, None
        if socket:
            await socket.close()

    def _say(
        self, state: Literal["connecting", "waiting", "closed"], detail: str = "", retry_in_s: float = 0.0
    ) -> None:
        self._status = Status(state, datetime.now(UTC), detail, retry_in_s, self._status.connections)
