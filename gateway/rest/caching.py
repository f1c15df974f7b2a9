"""ETags: the same answer is not sent twice (RFC 9110, If-None-Match -> 304)."""

import hashlib
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import Request, Response
from pydantic import BaseModel

ETAG_BYTES = 16


def answer(
    request: Request, body: BaseModel, *, max_age_s: int = 0, headers: Mapping[str, str] | None = None
) -> Response:
    """The body as JSON, or 304 when the client has it. ``max_age_s`` 0: ask again every time."""
    content = body.model_dump_json().encode()
    return respond(request, content, "application/json", max_age_s=max_age_s, headers=headers or {})


def respond(
    request: Request, content: bytes, media_type: str, *, max_age_s: int, headers: Mapping[str, str]
) -> Response:
    """The content, or 304 when the client has it."""
    # Weak, for the bytes on their way may be compressed.
    etag = f'W/"{hashlib.blake2b(content, digest_size=ETAG_BYTES).hexdigest()}"'
    headers = {**headers, "ETag": etag, "Cache-Control": f"max-age={max_age_s}" if max_age_s else "no-cache"}
    if _has(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


def _has(if_none_match: str, etag: str) -> bool:
    """Weak comparison, as RFC 9110 asks for here."""
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag.removeprefix("W/") in tags or "*" in tags
