"""The owner's page on REST: its files, and what the watcher has written down. Only an owner reads the latter."""

import asyncio
import re
import time
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from gateway.database import Pool, reading
from gateway.rest.days import in_utc, start_of
from gateway.rest.guard import owner
from gateway.wire import document, dumps, time_text
from sentio.config import RestSettings, StreamSettings

FILES = Path(__file__).parent / "page"
LONGEST_WAIT_S = 20.0
LOOK_S = 0.2
MOST_MINUTES = 1_500
"""A day of them, and a summer's hour."""

_NOW = "select at, document from watch_now"
# As it lies there: to read a day of it and write it again takes as long as all else.
_MINUTES = "select minute_at, document::text from watch_minutes where minute_at >= %s order by minute_at desc limit %s"
_EQUITY = (
    "select minute_at, equity from performance"
    " where account = %s and minute_at >= %s and minute_at < %s order by minute_at desc limit %s"
)
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}|\[[0-9a-fA-F:.]{2,45}\]")

router = APIRouter(prefix="/owner", include_in_schema=False, dependencies=[Depends(owner)])


def install(app: FastAPI, settings: RestSettings) -> None:
    """Add the page to the API."""
    app.state.stream_url = settings.rest_stream

    @app.get("/owner", include_in_schema=False)
    def to_the_page() -> Response:
        return RedirectResponse("owner/")

    app.include_router(router)
    app.mount("/owner", _Page(directory=FILES, html=True))


@router.get("/state")
async def state(request: Request, after: Annotated[str, Query(max_length=40)] = "") -> Response:
    """What the watcher says now; with ``after``, the ``at`` that the page has, as soon as there is something newer.

    ``now`` beside it is the time here: how old it is does not depend on the page's clock.
    """
    ends_s = time.monotonic() + LONGEST_WAIT_S
    while True:
        at, said = await run_in_threadpool(_now, _connections(request))
        if at != after or time.monotonic() > ends_s or await request.is_disconnected():
            break
        await asyncio.sleep(LOOK_S)
    return _json({"now": time_text(datetime.now(UTC)), "at": at, "stream": _stream(request), "state": said})


@router.get("/minutes")
def minutes(request: Request, since: datetime) -> Response:
    """What was kept of each minute, oldest first, from ``since`` on."""
    with reading(_connections(request)) as connection:
        rows = connection.execute(_MINUTES, [in_utc(since), MOST_MINUTES]).fetchall()
    documents = [f'{{"at":"{time_text(row["minute_at"])}",{row["document"].lstrip()[1:]}' for row in reversed(rows)]
    return _json_text(f'{{"minutes":[{",".join(documents)}]}}')


@router.get("/equity")
def equity(request: Request, account: Annotated[str, Query(max_length=128)], day: date) -> Response:
    """Each minute of an account's day."""
    with reading(_connections(request)) as connection:
        span = (start_of(day), start_of(day + timedelta(days=1)))
        rows = connection.execute(_EQUITY, [account, *span, MOST_MINUTES]).fetchall()
    return _json({"minutes": [document(row) for row in reversed(rows)]})


def _now(connections: Pool) -> tuple[str, Any]:
    with reading(connections) as connection:
        row = connection.execute(_NOW).fetchone()
    if row is None:
        raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "nobody watches; 'sentio run watcher' does")
    return time_text(row["at"]), row["document"]


def _connections(request: Request) -> Pool:
    connections: Pool = request.app.state.connections
    return connections


def _json(body: dict[str, Any]) -> Response:
    return _json_text(dumps(body))


def _json_text(text: str) -> Response:
    return Response(text, media_type="application/json", headers={"Cache-Control": "no-store"})


def _stream(request: Request) -> str:
    """Where the page hears the stream: as set, else on its own host."""
    told: str | None = request.app.state.stream_url
    return told or _own_streams(request.headers.get("host", ""))["wss" if request.url.scheme == "https" else "ws"]


def _own_streams(host_header: str) -> dict[str, str]:
    found = _HOST.match(host_header)
    host = found.group() if found else "127.0.0.1"
    port = StreamSettings.model_fields["stream_port"].default
    return {scheme: f"{scheme}://{host}:{port}" for scheme in ("ws", "wss")}


class _Page(StaticFiles):
    """The files, with what a browser is to refuse: anything that is not of this page."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        app: FastAPI = scope["app"]
        told: str | None = app.state.stream_url
        if told:
            parts = urlsplit(told)
            streams = f"{parts.scheme}://{parts.netloc}"
        else:
            host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
            streams = " ".join(_own_streams(host).values())
        response.headers["Content-Security-Policy"] = (
            f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' {streams};"
            " form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
        )
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cache-Control"] = "no-cache"
        return response
