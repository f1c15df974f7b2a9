"""One socket: handshake and incoming frames by `websockets` without its I/O, outgoing bytes in the order they come.

Most of what goes out is written past the transport, by `descriptors`, to all clients of a channel at once. The
transport has what the socket did not take, and as long as it has any the handle is on hold, so that the order stays.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from websockets.exceptions import ProtocolError
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import CONNECTING, OPEN, Event
from websockets.server import ServerProtocol

from gateway.access import Unwelcome
from gateway.proxies import BadPreface, Preface
from gateway.stream.deflate import Codec, codec_of
from gateway.stream.framing import framed
from gateway.stream.product import product_of

if TYPE_CHECKING:
    from gateway.stream.sockets import Sockets

LARGEST_MESSAGE_BYTES = 1 << 20  # beyond it the connection is closed (1009) rather than answered
HANDSHAKE_S = 4.0
CLOSE_S = 3.0
AT_ONCE_BYTES = 1 << 16
"""Most bytes to offer after one `Connection.room`, unless one message has more."""


class TurnedAway(Exception):
    """Not now; ``status`` is HTTP's, ``retry_s`` when to come back."""

    def __init__(self, status: int, message: str, retry_s: float) -> None:
        super().__init__(message)
        self.status = status
        self.retry_s = retry_s


class Hearer(Protocol):
    """Who a connection belongs to, once it is open."""

    def said(self, text: str | bytes) -> None:
        """A message of the client; bytes if it was a binary one."""

    def lost(self) -> None:
        """Nothing comes any more, and nothing can be said."""

    def beat(self) -> None:
        """Time for a sign of life."""

    def leaving(self, in_s: float) -> None:
        """The connection will be closed because the gateway is being stopped."""

    def parting(self, code: int, reason: str) -> tuple[int, str]:
        """The gateway closes: code and reason as the client's protocol has them. Last words may be offered."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """To whom a connection will belong once its handshake is done."""

    greet: "Callable[[Connection], Hearer]"
    others: "Callable[[], Awaitable[None]] | None" = None
    """Asks the other instances, before; raises `TurnedAway`."""

    never: Callable[[], None] | None = None
    """The others agreed, and the connection was gone."""


class Connection(asyncio.Protocol):
    """Belongs to the event loop. Ended, for whatever reason, it takes what is offered and drops it."""

    __slots__ = (
        "_deaf", "_drained", "_early", "_ending", "_hearer", "_held_since_s", "_part", "_preface", "_protocol",
        "_quiet", "_sockets", "_timer", "_transport", "address", "handle", "product",
    )  # fmt: skip

    def __init__(self, sockets: "Sockets") -> None:
        self.handle = 0
        """Of `descriptors`."""

        self.address = ""
        """Whose connection it is, as far as trusted proxies say."""

        self.product = ""
        """What the client says it is; once it is open, one of `Sockets.products`."""

        self._sockets = sockets
        self._protocol = ServerProtocol(
            origins=sockets.origins,
            max_size=LARGEST_MESSAGE_BYTES,
            extensions=sockets.extensions,
            logger=sockets.silence,
        )
        self._transport: Any = None  # asyncio's types have no transport with all that a socket's has
        self._hearer: Hearer | None = None
        self._preface: Preface | None = None
        self._part: bytearray | None = None
        self._quiet = False
        self._deaf = False
        self._ending = False
        self._early: list[Event] | None = None
        """What came with the request, while the other instances are asked about it."""

        self._drained: asyncio.Future[None] | None = None
        self._held_since_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._sockets.all.add(self)
        self.address = transport.get_extra_info("peername")[0]
        self._preface = self._sockets.proxies.preface(self.address)
        # To be told of every byte that waits. A transport with TLS would tell of none, too, and never take it back.
        has_tls = transport.get_extra_info("sslcontext") is not None
        self._transport.set_write_buffer_limits(high=1 if has_tls else 0, low=0)
        if not has_tls:
            self.handle = self._sockets.descriptors.open(transport.get_extra_info("socket").fileno())
        self._abort_in(HANDSHAKE_S)

    def data_received(self, data: bytes) -> None:
        self._quiet = False
        if self._preface:
            try:
                rest = self._preface.take(data)
            except BadPreface as failure:
                self._sockets.say(str(failure), proxy=self.address)
                self.abort()
                return
            if rest is None:
                return
            self.address = self._preface.address or self.address
            self._preface = None
            data = rest
        self._protocol.receive_data(data)
        self._take(self._protocol.events_received())

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._take(self._protocol.events_received())

    def connection_lost(self, _: Exception | None) -> None:
        self._sockets.descriptors.close(self.handle)  # the number is still ours: it is closed after this call
        self._sockets.left(self)
        if self._timer:
            self._timer.cancel()
        if self._hearer:
            self._sockets.products.leave(self.product)
            self._hearer.lost()
            self._hearer = None

    def pause_writing(self) -> None:
        self._sockets.descriptors.hold(self.handle)
        self._held_since_s = time.monotonic()
        self._sockets.held.add(self)

    def resume_writing(self) -> None:
        self._sockets.descriptors.release(self.handle)
        self._held_since_s = None
        self._sockets.held.discard(self)
        if self._deaf:
            self._deaf = False
            self._transport.resume_reading()
        if self._drained:
            self._drained.set_result(None)
            self._drained = None

    # What is said to the client

    def offer(self, *messages: bytes) -> None:
        """Send what is for this client alone, at once and not compressed; wait for `room` before saying much."""
        if self._protocol.state is OPEN and not self._transport.is_closing():
            self._transport.write(b"".join(map(framed, messages)))

    def put(self, payload: bytes, written: int) -> bool:
        """Send the rest of what `descriptors` could not write; False, and nothing is sent, when too much waits."""
        if self._protocol.state is not OPEN or self._transport.is_closing():
            return True
        rest = memoryview(payload)[written:]
        waiting = self._transport.get_write_buffer_size()
        if waiting and waiting + len(rest) > self._sockets.backlog_bytes:
            return False
        self._transport.write(rest)
        if self._held_since_s is None:  # the socket took it after all
            self._sockets.descriptors.release(self.handle)
        return True

    async def room(self) -> None:
        """Wait until the socket has taken all that was offered; for ever once the connection is lost."""
        while self._held_since_s is not None:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)

    @property
    def is_held(self) -> bool:
        """Whether bytes wait for the socket."""
        return self._held_since_s is not None

    @property
    def codec(self) -> Codec:
        """How to write what is for many."""
        return codec_of(self._protocol.extensions)

    def close(self, code: int, reason: str) -> None:
        """The close frame comes behind what waits for the socket, and is not waited for longer than `CLOSE_S`."""
        if self._protocol.state is OPEN:
            if self._hearer:
                code, reason = self._hearer.parting(code, reason)
            self._sockets.closed[code] += 1
            self._protocol.send_close(code, reason)
        elif self._protocol.state is CONNECTING:
            self._transport.abort()
        self._flush()

    def broken(self) -> None:
        """The socket can be written to no more; one that is being closed in order may still take what waits."""
        if self._protocol.state is OPEN:
            self._transport.abort()

    def abort(self) -> None:
        self._transport.abort()

    # What is done from time to time

    def beat(self) -> None:
        if self._hearer:
            self._hearer.beat()

    def leaving(self, in_s: float) -> None:
        if self._hearer:
            self._hearer.leaving(in_s)

    def ask(self) -> None:
        """A ping; or an end, when nothing was heard since the last one. Who does not read is `late` instead."""
        if self._protocol.state is not OPEN or self.is_held:
            return
        if self._quiet:
            self._protocol.fail(CloseCode.INTERNAL_ERROR, "no pong")
        else:
            self._quiet = True
            self._protocol.send_ping(b"")
        self._flush()

    def held_for_s(self, now_s: float) -> float:
        """How long bytes have been waiting for the socket."""
        return 0.0 if self._held_since_s is None else now_s - self._held_since_s

    # Of the client's bytes

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Request):
                self._requested(event)
            elif self._early is not None:
                self._early.append(event)
            elif isinstance(event, Frame) and self._protocol.state is OPEN:
                self._heard(event)
        self._flush()

    def _requested(self, request: Request) -> None:
        answer = self._sockets.answer(request)
        if answer is not None:
            self._sockets.answer_later(self, answer)
            return
        try:
            self.address = self._sockets.proxies.client(self.address, request.headers.raw_items())
            self.product = product_of(request)
            admitted = self._sockets.admit(request, self)
        except Unwelcome as refusal:
            self._sockets.refused[401] += 1
            self.reject(401, f"{refusal}\n")
            return
        except TurnedAway as refusal:
            self.turn_away(refusal)
            return
        response = self._protocol.accept(request)
        request.headers.clear()  # the parser of `websockets` would keep them, token and all, as long as it lives
        if admitted.others and response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            self._early = []  # who does not wait for the answer is heard behind it
            self.deafen()
            self._sockets.greet_later(self, response, admitted)
        else:
            self.greet(response, admitted)

    def greet(self, response: Response, admitted: Admitted) -> None:
        """Accept the handshake, or not, as the response says."""
        if self._sockets.closing:
            self.reject(503, "the gateway restarts; come back in a moment\n", retry_s=1)
        elif not self._transport.is_closing():
            if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
                self._sockets.refused[response.status_code] += 1
            self.respond(response)
        if self._protocol.state is OPEN:
            if self._timer:
                self._timer.cancel()
            self.product = self._sockets.products.enter(self.product)
            self._hearer = admitted.greet(self)
        elif admitted.never:
            admitted.never()

    def turn_away(self, refusal: TurnedAway) -> None:
        """Answer the HTTP request with when to come back."""
        self._sockets.refused[refusal.status] += 1
        self.reject(refusal.status, f"{refusal}\n", retry_s=refusal.retry_s)

    def deafen(self) -> None:
        """Leave what the client says with the kernel, until `hear`."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def hear(self) -> None:
        early, self._early = self._early, None
        if early:
            self._take(early)
        if not self._deaf and not self._transport.is_closing():
            self._transport.resume_reading()

    def respond(self, response: Response) -> None:
        """Answer the HTTP request."""
        # Who sends something that is no frame behind its request, without waiting for the answer, gets none.
        if self._protocol.state is CONNECTING and not self._protocol.eof_sent:
            self._protocol.send_response(response)
            self._flush()

    def reject(self, status: int, text: str, *, retry_s: float | None = None) -> None:
        """Answer the HTTP request with a line of text."""
        response = self._protocol.reject(status, text)
        if retry_s is not None:
            response.headers["Retry-After"] = str(math.ceil(retry_s))
        self.respond(response)

    def _heard(self, frame: Frame) -> None:
        """A message may come in several frames; together they have at most `LARGEST_MESSAGE_BYTES`."""
        if self._hearer is None or frame.opcode not in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
            return
        if frame.opcode is not Opcode.CONT:
            self._part = bytearray((frame.opcode is Opcode.TEXT,))
        if self._part is None:
            raise ProtocolError("a continuation of nothing")  # `websockets` has seen to that
        self._part += frame.data
        if not frame.fin:
            return
        message, self._part = self._part, None
        try:
            self._hearer.said(str(memoryview(message)[1:], "utf-8") if message[0] else bytes(message[1:]))
        except UnicodeDecodeError:
            self._protocol.fail(CloseCode.INVALID_DATA, "a text is not UTF-8")

    def _flush(self) -> None:
        """Write what `websockets` has to say, and see to the end when it says that it is one."""
        if self._transport.is_closing():
            return
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            elif self._transport.can_write_eof():
                self._transport.write_eof()
            else:
                self._transport.close()
        if self._protocol.state not in {OPEN, CONNECTING}:
            self._sockets.descriptors.close(self.handle)  # nothing comes behind a close frame
        if self._protocol.close_expected() and not self._ending:
            self._ending = True
            self._abort_in(CLOSE_S)
        if not self._deaf and self._transport.get_write_buffer_size() > self._sockets.backlog_bytes:
            # Who does not read its answers is not asked for more questions.
            self._deaf = True
            self._transport.pause_reading()

    def _abort_in(self, seconds: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._transport.abort)
