"""Every error as application/problem+json (RFC 9457)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from gateway.rest.models import Problem
from gateway.rest.pages import BadCursor
from sentio import log
from sentio.errors import Retryable

RETRY_AFTER_S = 5
MEDIA_TYPE = "application/problem+json"


def _described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"model": Problem, "description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {}}}
        for status in statuses
    }


RESPONSES = _described(400, 401, 403, 429, 500, 503)
"""For OpenAPI: what any path may answer."""

NOT_FOUND = _described(404)


def install(app: FastAPI) -> None:
    """Answer every exception of an app with a problem."""
    once = log.OncePer()

    async def refused(request: Request, failure: Exception) -> JSONResponse:
        assert isinstance(failure, HTTPException)
        return problem(request, failure.status_code, str(failure.detail), failure.headers)

    async def invalid(request: Request, failure: Exception) -> JSONResponse:
        assert isinstance(failure, RequestValidationError)
        lines = [f"{error['loc'][-1]}: {error['msg']}" for error in failure.errors()]
        return problem(request, HTTPStatus.BAD_REQUEST, "; ".join(lines))

    async def bad_cursor(request: Request, failure: Exception) -> JSONResponse:
        return problem(request, HTTPStatus.BAD_REQUEST, str(failure))

    async def unavailable(request: Request, failure: Exception) -> JSONResponse:
        if once.due(str(failure)):
            log.get().warning("cannot answer", path=request.url.path, cause=str(failure))
        detail = "the database does not answer at the moment; try again"
        return problem(request, HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": str(RETRY_AFTER_S)})

    async def failed(request: Request, failure: Exception) -> JSONResponse:
        log.get().error("a request failed", path=request.url.path, exc_info=failure)
        return problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, "internal error")

    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(BadCursor, bad_cursor)
    app.add_exception_handler(Retryable, unavailable)
    app.add_exception_handler(Exception, failed)


def problem(request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    body = Problem(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=request.url.path,
    )
    return JSONResponse(
        body.model_dump(),
        status_code=status,
        media_type=MEDIA_TYPE,
        headers={**(headers or {}), "Cache-Control": "no-store"},
    )
