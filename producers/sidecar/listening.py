"""JSON lines over a Unix or TCP socket, each connection in a thread of its own.

A connection may begin with a greeting, an object without `type`:
`{"engine": "rotation", "source": "<UUID>", "line": 1, "acknowledge": true}`. What it then says is answered by lines:
`{"acknowledged": N}` when the log has line N and all before, `{"refused": N, "reason": …}`, and `{"error": …}` before
an end that the sidecar makes. After a break the engine greets again and goes on behind the last line acknowledged.
"""

import json
import select
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from struct import Struct
from typing import Any, cast
from uuid import UUID

from producers.fields import shown
from producers.sidecar.documents import Unusable, parse
from producers.sidecar.inbox import Inbox, Jump, Line, line_of
from sentio import log
from sentio.config import listening
from sentio.errors import SettingError

LINE_BYTES = 64 * 1024
"""Longest line; what is longer is refused."""

RECEIVE_BYTES = 64 * 1024
ANSWERS_BYTES = 1 << 20
"""Answers that wait for an engine which does not read them; beyond that its connection ends."""

GREETING = {"engine", "source", "line", "acknowledge", "version", "mode"}
WAIT_MS = 200
"""So often it is tried again to send answers that were not taken."""

LAST_ANSWERS_S = 60.0
"""So long an engine that sends no more may wait for its answers: TCP does not tell whether it is still there."""

NAME_BYTES = 32
_PEER = Struct("iII")
"""The kernel's struct ucred."""


class Listener:
    """Accepts connections at an address, `host:port` or the path of a Unix socket, and fills an `Inbox`."""

    def __init__(self, address: str) -> None:
        self.inbox = Inbox(f"listen:{address}")
        host, _, port = address.rpartition(":")
        if host and port.isdigit() and "/" not in address:
            with listening("listen", int(port)):
                self._server: Any = _Tcp((host.strip("[]"), int(port)), _Connection, self.inbox)
            self.port: int = self._server.server_address[1]
        else:
            self._server = _unix(Path(address), self.inbox)
            self.port = 0
        threading.Thread(target=self._server.serve_forever, name="sentio-listen", daemon=True).start()

    def close(self) -> None:
        """Accept nothing more, and let nothing more in."""
        self.inbox.close()
        self._server.shutdown()
        self._server.server_close()


class _Tcp(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: "type[_Connection]", inbox: Inbox) -> None:
        self.inbox = inbox
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)


class _Unix(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, path: str, handler: "type[_Connection]", inbox: Inbox) -> None:
        self.inbox = inbox
        super().__init__(path, handler)


def _unix(path: Path, inbox: Inbox) -> _Unix:
    """Takes the place of a socket that nobody listens on any more."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        if path.is_socket():
            if probe.connect_ex(str(path)) == 0:
                raise SettingError(f"listen {path}: another process listens on it")
            path.unlink()
    try:
        server = _Unix(str(path), _Connection, inbox)
        path.chmod(0o660)  # its user and group
    except OSError as failure:
        raise SettingError(f"listen {path}: {failure.strerror or failure}") from failure
    return server


class _Answers:
    """What an engine is told. Never waits: what its socket does not take is kept until there is more to tell."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._waiting = bytearray()

    def tell(self, **answer: object) -> None:
        with self._lock, suppress(OSError):
            self._waiting += json.dumps(answer).encode() + b"\n"
            if len(self._waiting) > ANSWERS_BYTES:
                self._connection.shutdown(socket.SHUT_RDWR)
            self._send()

    def flush(self) -> None:
        """Send what was kept, as far as it is taken now."""
        with self._lock, suppress(OSError):
            self._send()

    @property
    def are_sent(self) -> bool:
        return not self._waiting

    def _send(self) -> None:
        with suppress(BlockingIOError):
            while self._waiting:
                del self._waiting[: self._connection.send(self._waiting, socket.MSG_DONTWAIT)]


class _Connection(socketserver.BaseRequestHandler):
    """One connection, from its greeting to its end."""

    def setup(self) -> None:
        self._inbox: Inbox = cast("_Tcp | _Unix", self.server).inbox
        self._where = _name(self.request, self.client_address)
        self._answers: _Answers | None = None
        self._origin = self._inbox.own
        self._line = 1
        self._handed_over = self._acknowledged = 0

    def handle(self) -> None:
        try:
            self._work()
        except (Unusable, Jump) as failure:
            log.get().error("a connection is ended", source=self._inbox.name, client=self._where, cause=str(failure))
            answers = self._answers or _Answers(self.request)
            expected = {"expected": failure.expected} if isinstance(failure, Jump) else {}
            answers.tell(error=str(failure), **expected)
        finally:
            self._inbox.connected(self._origin, -1)

    def _work(self) -> None:
        self._inbox.connected(self._origin, 1)
        begun = False
        received = _Lines(self.request, self._flush)
        try:
            for texts in received:
                if not begun:
                    begun = True
                    if (greeting := _greeting(texts[0])) is not None:
                        self._greet(greeting)
                        del texts[0]
                if texts and not self._put([self._read(text) for text in texts]):
                    return
        except OSError as failure:
            log.get().info("a connection broke", source=self._inbox.name, client=self._where, cause=failure.strerror)
        self._end(received.cut_bytes)

    def _end(self, cut_bytes: int) -> None:
        """The engine sends no more. It may still wait to be told of what it sent, and its last line may be cut off."""
        cut = f"has no end after {cut_bytes} bytes: it may be cut off"
        if cut_bytes and self._origin is self._inbox.own:
            # Counted as refused: nobody sends it again. Of a source it comes again, under the same number.
            self._put([Line(self._line, cut)])
        self._await_answers()
        if cut_bytes:
            raise Unusable(f"line {self._line} {cut}")

    def _await_answers(self) -> None:
        if self._answers is None:
            return
        gone = select.poll()
        gone.register(self.request, 0)  # errors and hang-ups are told unasked
        until_s = time.monotonic() + LAST_ANSWERS_S
        while (self._acknowledged < self._handed_over or not self._answers.are_sent) and time.monotonic() < until_s:
            if gone.poll(WAIT_MS):
                return
            self._answers.flush()

    def _flush(self) -> None:
        if self._answers is not None:
            self._answers.flush()

    def _read(self, text: bytes | None) -> Line:
        number, self._line = self._line, self._line + 1
        if text is None:
            return Line(number, f"is longer than {LINE_BYTES} bytes")
        return line_of(number, text)

    def _put(self, lines: list[Line]) -> bool:
        answers, last = self._answers, lines[-1].number
        refused = [(number, said) for number, said in lines if isinstance(said, str)] if answers else []

        def done() -> None:
            if answers is not None:
                for number, reason in refused:
                    answers.tell(refused=number, reason=reason)
                answers.tell(acknowledged=last)
            self._acknowledged = last

        self._handed_over = last
        return self._inbox.put(self._origin, lines, where=self._where, done=done)

    def _greet(self, greeting: dict[str, object]) -> None:
        if unknown := greeting.keys() - GREETING:
            raise Unusable(f"the greeting has {', '.join(sorted(unknown))}; it may have {', '.join(sorted(GREETING))}")
        if greeting.get("acknowledge"):
            self._answers = _Answers(self.request)
        engine = _word(greeting, "engine") or self._inbox.own.engine
        if "source" not in greeting:
            if greeting.get("line", 1) != 1:
                raise Unusable("the greeting has a line, and no source that it is of")
            return
        try:
            source = UUID(str(greeting["source"]))
        except ValueError:
            raise Unusable(f"source is {shown(greeting['source'])}, not a UUID") from None
        line = greeting.get("line", 1)
        if type(line) is not int or not 1 <= line < 1 << 40:
            raise Unusable(f"line is {shown(line)}, not a whole number from 1")
        origin = self._inbox.origin(engine, source, version=_word(greeting, "version"), mode=_word(greeting, "mode"))
        self._inbox.connected(self._origin, -1)
        self._origin, self._line = origin, line
        self._inbox.connected(self._origin, 1)


def _word(greeting: dict[str, object], name: str) -> str:
    value = greeting.get(name, "")
    if not isinstance(value, str) or not value.isprintable() or len(value.encode(errors="replace")) > NAME_BYTES:
        raise Unusable(f"{name} is {shown(value)}, not a text of up to {NAME_BYTES} bytes")
    return value


def _greeting(text: bytes | None) -> dict[str, object] | None:
    """What a first line says of those behind it, if it is no event."""
    with suppress(Unusable):
        value = parse(text or b"")
        if isinstance(value, dict) and "type" not in value:
            return value
    return None


class _Lines:
    """The whole lines of what comes, in lists; None for one that is too long."""

    def __init__(self, connection: socket.socket, meanwhile: Callable[[], None]) -> None:
        self._connection = connection
        self._meanwhile = meanwhile
        self._rest = b""
        self._passed_over = 0

    @property
    def cut_bytes(self) -> int:
        """What came of a line that has no end yet."""
        return self._passed_over + len(self._rest)

    def __iter__(self) -> Iterator[list[bytes | None]]:
        arrival = select.poll()
        arrival.register(self._connection, select.POLLIN)
        while True:
            while not arrival.poll(WAIT_MS):
                self._meanwhile()
            if not (data := self._connection.recv(RECEIVE_BYTES)):
                return
            *whole, self._rest = (self._rest + data).split(b"\n")
            lines: list[bytes | None] = [text if len(text) <= LINE_BYTES else None for text in whole]
            if self._passed_over and lines:
                lines[0] = None
                self._passed_over = 0
            if len(self._rest) > LINE_BYTES:
                self._passed_over += len(self._rest)
                self._rest = b""
            if lines:
                yield lines


def _name(connection: socket.socket, address: object) -> str:
    """Of a client."""
    if isinstance(address, tuple):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return f"{address[0]}:{address[1]}"
    process, _, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return f"process {process}"
