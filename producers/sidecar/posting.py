"""HTTP: `POST /v1/events`, answered once the log has what was sent.

A body is one JSON object or a list of them, lines of JSON, or an Avro container file of one kind of event. With
`Sentio-Source` (a UUID) and `Sentio-Line` (the number of its first event, counted from 1 over all requests) it may be
sent again when it was not answered: nothing comes to the log twice.
"""

import asyncio
import hmac
import io
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any
from uuid import UUID

import fastavro
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from producers.fields import shown
from producers.sidecar.documents import KINDS, Read, Unusable, parse, typed
from producers.sidecar.inbox import Inbox, Jump, Line, Origin, line_of, line_of_value
from schemas.columns import HEADER
from sentio.config import SidecarSettings, listening
from sentio.errors import SettingError

BODY_BYTES = 8 << 20
EVENTS = 10_000
"""Events, or lines, of a body at most."""

ANSWER_S = 10.0
"""How long a request waits for Kafka. What it brought may still come to the log after that."""

STOP_S = 1.5
"""How long an end may take that answers those who wait."""

NAME_BYTES = 32
LINE_DIGITS = 20
"""Of a `Sentio-Line`, with zeros before it."""


class Refusal(Exception):
    """An answer other than that all is well."""

    def __init__(self, status: int, reason: str, **more: object) -> None:
        self.response = JSONResponse(
            {"error": _readable(reason), **more}, status, {"Retry-After": "1"} if status == _BUSY else None
        )
        super().__init__(reason)


_BAD, _UNKNOWN, _CONFLICT, _LARGE, _KIND, _BUSY = 400, 401, 409, 413, 415, 503
_STOPS = "the sidecar stops; with a Sentio-Source it can be sent again"


class _Server(uvicorn.Server):
    """Sends those away that wait when it stops: what they wait for does not come any more."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.waiting: set[asyncio.Future[None]] = set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for each in self.waiting:
            if not each.done():
                each.set_exception(Refusal(_BUSY, _STOPS))
        await super().shutdown(sockets)


class Receiver:
    """Serves an address, `host:port`, in the thread that calls `run`, and fills an `Inbox`."""

    def __init__(self, address: str, settings: SidecarSettings) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise SettingError(f"http {address}: it is HOST:PORT")
        if settings.events_token is None:
            raise SettingError("SENTIO_EVENTS_TOKEN is unset: senders have to prove themselves with it")
        self._token = settings.events_token.get_secret_value().encode()
        self._log_level = settings.log_level
        self.inbox = Inbox(f"http:{address}")
        app = Starlette(routes=[Route("/v1/events", self._events, methods=["POST"])])
        config = uvicorn.Config(app, host=host.strip("[]"), port=int(port), log_level="error", lifespan="off")
        with listening("http", int(port)):
            self._socket = config.bind_socket()
        self.port: int = self._socket.getsockname()[1]
        self._server = _Server(config)

    def run(self) -> None:
        """Until `stop`."""
        asyncio.run(self._server.serve([self._socket]))

    def stop(self) -> None:
        """Accept nothing more; what still waits for Kafka is to be sent again. `run` returns soon after."""
        self._server.should_exit = True

    async def _events(self, request: Request) -> Response:
        try:
            self._check(request)
            origin, first = self._origin(request.headers)
            body = await _body(request)
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            lines = await run_in_threadpool(_lines, kind, body, first)
            return await self._hand_over(request, origin, lines)
        except Refusal as refusal:
            return refusal.response
        except ClientDisconnect:
            return Response(status_code=_BAD)

    def _check(self, request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), self._token):
            raise Refusal(_UNKNOWN, "Authorization: Bearer TOKEN is missing or not that of SENTIO_EVENTS_TOKEN")

    def _origin(self, headers: Mapping[str, str]) -> tuple[Origin, int]:
        """Whose events they are, and the number of the first."""
        said, line = headers.get("sentio-source"), headers.get("sentio-line", "1")
        if said is None:
            return self.inbox.own, 1
        engine = headers.get("sentio-engine", self.inbox.own.engine)
        if not engine.isprintable() or not 0 < len(engine.encode()) <= NAME_BYTES:
            raise Refusal(_BAD, f"Sentio-Engine is no text of up to {NAME_BYTES} bytes")
        try:
            source = UUID(said)
        except ValueError:
            raise Refusal(_BAD, f"Sentio-Source is {shown(said)}, not a UUID") from None
        if not (line.isascii() and line.isdigit() and len(line) <= LINE_DIGITS and 1 <= int(line) < 1 << 40):
            raise Refusal(_BAD, f"Sentio-Line is {shown(line)}, not a whole number from 1")
        return self.inbox.origin(engine, source), int(line)

    async def _hand_over(self, request: Request, origin: Origin, lines: Sequence[Line]) -> Response:
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[None] = loop.create_future()
        where = request.client.host if request.client else "a client"

        def arrive() -> None:
            if not arrived.done():
                arrived.set_result(None)

        def done() -> None:
            with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
                loop.call_soon_threadsafe(arrive)

        if self._server.should_exit:
            raise Refusal(_BUSY, _STOPS)
        try:
            has_room = self.inbox.put(origin, lines, where=where, done=done, wait=False)
        except Jump as jump:
            raise Refusal(_CONFLICT, str(jump), expected=jump.expected) from None
        if not has_room:
            raise Refusal(_BUSY, "there is no room: Kafka does not take what came before")
        self._server.waiting.add(arrived)
        try:
            await asyncio.wait_for(arrived, ANSWER_S)
        except TimeoutError:
            raise Refusal(_BUSY, "Kafka has not taken it yet; with a Sentio-Source it can be sent again") from None
        finally:
            self._server.waiting.discard(arrived)
        refused = [{"line": number, "reason": _readable(said)} for number, said in lines if isinstance(said, str)]
        events = sum(isinstance(said, Read) for _, said in lines)
        unknown = sorted({_readable(name) for _, said in lines if isinstance(said, Read) for name in said.unknown})
        return JSONResponse({"acknowledged": events, "refused": refused, "unknown_fields": unknown})


def _readable(text: str) -> str:
    """Of an answer, which is UTF-8: half a surrogate pair, as JSON may hold, is written as an escape."""
    return text.encode(errors="backslashreplace").decode()


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise Refusal(_LARGE, f"a body has {BODY_BYTES} bytes at most")
    return bytes(body)


def _lines(kind: str, body: bytes, first: int) -> list[Line]:
    lines = _of(kind, body, first)
    if len(lines) > EVENTS:
        raise Refusal(_LARGE, f"a body has {EVENTS} events at most")
    return lines


def _of(kind: str, body: bytes, first: int) -> list[Line]:
    match kind:
        case "application/x-ndjson" | "application/jsonl":
            texts = body.split(b"\n")
            return [line_of(first + place, text) for place, text in enumerate(texts[:-1] if not texts[-1] else texts)]
        case "application/json":
            return _of_json(body, first)
        case "application/avro" | "avro/binary":
            return _of_avro(body, first)
    raise Refusal(_KIND, f"Content-Type is {kind!r}, not application/json, application/x-ndjson or application/avro")


def _of_json(body: bytes, first: int) -> list[Line]:
    try:
        found = parse(body)
    except Unusable as why:
        raise Refusal(_BAD, f"the body {why}") from None
    values = found if isinstance(found, list) else [found]
    return [line_of_value(first + place, value) for place, value in enumerate(values)]


def _of_avro(body: bytes, first: int) -> list[Line]:
    """Of a container file, uncompressed, whose schema is a version of one of the house's."""
    try:
        file: Any = fastavro.reader(io.BytesIO(body))
        kind = str(file.writer_schema["name"]).rpartition(".")[2]
        codec, rows = file.codec, list(islice(file, EVENTS + 1)) if file.codec == "null" else []
    except Exception as failure:  # noqa: BLE001 - fastavro raises whatever bad bytes lead it to
        raise Refusal(_BAD, f"the body is no Avro container file ({failure!r})") from None
    if codec != "null":
        raise Refusal(_KIND, f"the container file is compressed by {codec}; it has to be by null")
    if kind not in KINDS:
        raise Refusal(_BAD, f"the container file has {kind}, not one of {', '.join(KINDS)}")
    return [Line(first + place, _said(kind, row)) for place, row in enumerate(rows)]


def _said(kind: str, row: Mapping[str, object]) -> Read | str:
    try:
        return typed(kind, {name: value for name, value in row.items() if name not in HEADER})
    except Unusable as why:
        return str(why)
