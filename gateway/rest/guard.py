"""Who asks, whether they may, and how often."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from gateway.access import Access, Grant, Unwelcome
from gateway.limits import Rate, source_of
from gateway.proxies import Proxies
from sentio.config import RestSettings

if TYPE_CHECKING:
    from gateway.rest.rate import SharedRate

MINUTE_S = 60.0

_bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description="Where SENTIO_AUTH_KEYS is set")


@dataclass(frozen=True)
class Guard:
    """Of one application."""

    access: Access
    rate: Rate | None
    proxies: Proxies
    shared_rate: "SharedRate | None" = None
    """Goes before ``rate``."""

    async def close(self) -> None:
        if self.shared_rate:
            await self.shared_rate.close()


def guard(settings: RestSettings) -> Guard:
    """As set; raises `SettingError` for keys that cannot be read."""
    rate = Rate(settings.rest_requests, MINUTE_S) if settings.rest_requests else None
    return Guard(Access(settings), rate, Proxies(settings), _shared(rate, settings))


def _shared(own: Rate | None, settings: RestSettings) -> "SharedRate | None":
    if own is None or settings.redis is None:
        return None
    from gateway import shared
    from gateway.rest.rate import SharedRate

    return SharedRate(own, settings.redis, shared.prefix(settings))


def describe(app: FastAPI) -> None:
    """Say in the OpenAPI document that a token may be left out: what is then answered is a matter of settings."""
    written = app.openapi

    def openapi() -> dict[str, Any]:
        document = written()
        for operations in document["paths"].values():
            for operation in operations.values():
                if "security" in operation and {} not in operation["security"]:
                    operation["security"].append({})
        return document

    app.openapi = openapi  # type: ignore[method-assign] # as FastAPI documents it


async def admitted(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    """Every request passes here: 401 for a token that is no good, 429 for one too many of a user or an address."""
    grant = _grant(request, credentials)
    await _limited(request, grant)
    request.state.grant = grant


async def owner(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    """Only an owner passes, uncounted: a page that is live asks all the time. Others are counted, as in `admitted`."""
    grant = _grant(request, credentials)
    if grant.owner or request.app.state.guard.access.open:
        return
    await _limited(request, grant)
    if grant.user is None:
        raise _unauthorized("this is read with an owner's token only")
    raise HTTPException(403, f"{grant.user} is no owner")


def _grant(request: Request, credentials: HTTPAuthorizationCredentials | None) -> Grant:
    found: Guard = request.app.state.guard
    if credentials is None and "authorization" in request.headers:
        raise _unauthorized("authorization is one Bearer token")
    try:
        return found.access.grant(credentials.credentials if credentials else None)
    except Unwelcome as refusal:
        raise _unauthorized(str(refusal)) from refusal


async def _limited(request: Request, grant: Grant) -> None:
    found: Guard = request.app.state.guard
    if found.rate:
        peer = request.client.host if request.client else ""
        source = source_of(found.proxies.client(peer, request.headers.items()))
        who = f"user {grant.user}" if grant.user else source
        wait_s = await found.shared_rate.wait_s(who) if found.shared_rate else found.rate.wait_s(who)
        if wait_s:
            raise HTTPException(429, "too many requests", {"Retry-After": str(math.ceil(wait_s))})


def may_read(request: Request, channel: str, value: str | None = None) -> bool:
    """Whether who asks may read what a channel, or a narrower one, carries."""
    grant: Grant = request.state.grant
    return grant.reads(_name(channel, value))


def require(request: Request, channel: str, value: str | None = None) -> None:
    """Raise 403, or 401 for who showed no token, where `may_read` says no."""
    if may_read(request, channel, value):
        return
    grant: Grant = request.state.grant
    name = _name(channel, value)
    if grant.user is None:
        raise _unauthorized(f"{name} is read with a token only")
    raise HTTPException(403, f"{name} is not granted to {grant.user}")


def _name(channel: str, value: str | None) -> str:
    return channel if value is None else f"{channel}.{value}"


def _unauthorized(why: str) -> HTTPException:
    return HTTPException(401, why, {"WWW-Authenticate": "Bearer"})
