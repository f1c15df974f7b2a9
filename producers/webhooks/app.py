"""The receiver: `POST /webhooks/helius`, answered with 200 once everything usable in it is safe."""

import asyncio
import socket
import sys
import time
import zlib
from collections.abc import Sequence
from gzip import GzipFile
from hmac import compare_digest
from io import BytesIO

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from producers.webhooks import figures, tokens
from producers.webhooks.bodies import NoEvents
from producers.webhooks.finding import Finder, Refused
from producers.webhooks.intake import Intake
from producers.webhooks.journal import Journal
from producers.webhooks.letters import Letters
from producers.webhooks.prices import Price
from sentio import garbage, log, metrics
from sentio.config import WebhookSettings, listening
from sentio.errors import Fatal, Retryable, SettingError
from sentio.stopping import on_stop

PATH = "/webhooks/helius"

ANSWER_S = 0.9
"""So long a request waits for the disk; Helius waits for one second."""

RETRY_AFTER_S = 1
END_S = 3
MOST_TOLD = 100
"""Refused events that an answer names."""


class Receiver:
    """Belongs to the event loop."""

    def __init__(self, settings: WebhookSettings, intake: Intake, letters: Letters) -> None:
        self._secret = settings.webhook_secret.get_secret_value().encode()
        self._most_bytes = settings.webhook_body_bytes
        self._finder = Finder(tokens.read(settings.webhook_tokens))
        self._intake = intake
        self._letters = letters
        self._once = log.OncePer()
        self._refused = 0

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[Route(PATH, self._receive, methods=["POST"])], exception_handlers={HTTPException: _refuse}
        )

    async def _receive(self, request: Request) -> Response:
        began_s = time.monotonic()
        self._admit(request)
        body = await self._body(request)
        try:
            found = self._finder.find(body)
        except NoEvents as why:
            raise HTTPException(400, str(why)) from None
        new = await self._keep(found.prices)
        self._tell(found.refused)
        figures.count(found.ignored, accepted=new, repeated=len(found.prices) - new, refused=len(found.refused))
        figures.REQUESTS.labels("200").inc()
        figures.SECONDS.observe(time.monotonic() - began_s)
        return JSONResponse(
            {
                "accepted": new,
                "repeated": len(found.prices) - new,
                "ignored": dict(found.ignored),
                "refused": [
                    {"index": each.index, "signature": each.signature, "reason": each.reason}
                    for each in found.refused[:MOST_TOLD]
                ],
                "refused_in_all": len(found.refused),
            }
        )

    def _admit(self, request: Request) -> None:
        """Raises HTTPException for whom nothing is read."""
        given = dict(request.scope["headers"]).get(b"authorization", b"")
        if not compare_digest(given, self._secret):
            raise HTTPException(401, "the header Authorization is not what SENTIO_WEBHOOK_SECRET says")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise HTTPException(415, f"the content is {kind[:40] or 'of no type'}, not application/json")
        if request.headers.get("content-encoding", "identity").lower() not in {"identity", "gzip"}:
            raise HTTPException(415, "the content is encoded otherwise than by gzip")

    async def _body(self, request: Request) -> bytes:
        parts, size = [], 0
        try:
            async for part in request.stream():
                size += len(part)
                if size > self._most_bytes:
                    raise self._too_large()
                parts.append(part)
        except ClientDisconnect:
            raise HTTPException(400, "the body ends too early") from None
        body = b"".join(parts)
        if request.headers.get("content-encoding", "").lower() != "gzip":
            return body
        return await run_in_threadpool(self._unpacked, body)  # thousands of empty members take a second

    def _unpacked(self, body: bytes) -> bytes:
        """All its members, one behind the other."""
        try:
            data = GzipFile(fileobj=BytesIO(body)).read(self._most_bytes + 1)
        except (OSError, EOFError, zlib.error) as failure:
            raise HTTPException(400, f"the body is not gzip: {failure}") from None
        if len(data) > self._most_bytes:
            raise self._too_large()
        return data

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"the body has more than {self._most_bytes} bytes (SENTIO_WEBHOOK_BODY_BYTES)")

    async def _keep(self, prices: Sequence[Price]) -> int:
        """How many were new; raises HTTPException (503) when they are not known to be safe in time."""
        if not prices:
            return 0
        try:
            kept = asyncio.wrap_future(self._intake.keep(prices))
            # Not cancelled when the time is over: what it comes to is then found to be a repeat.
            await asyncio.wait([kept], timeout=ANSWER_S)
            if not kept.done():
                kept.add_done_callback(_heard)
                raise _later("the prices are not on disk yet")
            return kept.result()
        except Retryable as failure:
            raise _later(str(failure)) from None

    def _tell(self, refused: Sequence[Refused]) -> None:
        for each in refused:
            self._refused += 1
            self._letters.send(each.event, index=each.index, signature=each.signature, reason=each.reason)
            if self._once.due(each.reason.partition(" ")[0]):
                log.get().warning(
                    "an event cannot be used; the others are",
                    index=each.index,
                    signature=each.signature,
                    reason=each.reason,
                    refused=self._refused,
                )


def main(settings: WebhookSettings) -> None:
    """Receive until SIGTERM or SIGINT."""
    if settings.spool is None:
        raise SettingError("SENTIO_SPOOL is not set: the folder in which prices are kept until Kafka has them")
    journal = Journal(
        settings.spool, max_bytes=settings.spool_max_bytes, remember_s=settings.webhook_remember_h * 3_600
    )
    intake = Intake(settings, journal)
    letters = Letters(settings)
    try:
        _serve(settings, intake, letters, journal)
    finally:
        intake.close()
        letters.close()
    if intake.failure:
        raise Fatal(f"the receiver was stopped by a defect: {intake.failure!r}")


def _serve(settings: WebhookSettings, intake: Intake, letters: Letters, journal: Journal) -> None:
    receiver = Receiver(settings, intake, letters)
    figures.WAITING.set_function(lambda: journal.waiting)
    figures.WAITING_BYTES.set_function(lambda: journal.size_bytes)
    with listening("webhook_port", settings.webhook_port):
        bound = socket.create_server((settings.webhook_host, settings.webhook_port))
    server = uvicorn.Server(
        uvicorn.Config(
            receiver.app(),
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=END_S,
            timeout_notify=1,
            callback_notify=lambda: _end_with(intake, server),
        )
    )
    # Events are dictionaries in dictionaries, none of which refers to another: looking for cycles finds none.
    garbage.look_seldom(young=50_000)
    # The journal's thread waits so long for the interpreter while a body is read, several times for each transaction.
    sys.setswitchinterval(0.0005)
    on_stop(lambda: setattr(server, "should_exit", True))
    if settings.metrics_port is not None:
        metrics.serve(settings.metrics_port, live=lambda: intake.live, ready=lambda: intake.ready)
    log.get().info("listening", address=f"http://{settings.webhook_host}:{bound.getsockname()[1]}{PATH}")
    server.run(sockets=[bound])


async def _end_with(intake: Intake, server: uvicorn.Server) -> None:
    """A receiver that can keep nothing is no use."""
    server.should_exit |= intake.failure is not None


def _later(why: str) -> HTTPException:
    return HTTPException(503, why, {"Retry-After": str(RETRY_AFTER_S)})


def _heard(kept: asyncio.Future[int]) -> None:
    """A failure that nobody waits for any more is no news."""
    if not kept.cancelled():
        kept.exception()


def _refuse(_: Request, failure: Exception) -> Response:
    """The answer of an HTTPException, as one line."""
    assert isinstance(failure, HTTPException)
    figures.REQUESTS.labels(str(failure.status_code)).inc()
    return Response(failure.detail + "\n", failure.status_code, failure.headers, "text/plain")
