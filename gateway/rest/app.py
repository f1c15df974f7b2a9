"""The REST API: history and statistics from the database, read only."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, datetime
from typing import Annotated, Any, Literal, cast

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request, Response
from pydantic import BeforeValidator
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware

from gateway.dashboard import routes as dashboard
from gateway.database import Pool, pool
from gateway.rest import formats, problems, queries
from gateway.rest.caching import answer
from gateway.rest.days import in_utc, not_a_number, today
from gateway.rest.figures import Counted
from gateway.rest.formats import Format
from gateway.rest.guard import admitted, describe, guard, may_read, require
from gateway.rest.market import Span
from gateway.rest.models import Health, Portfolio, Positions, Signals, StatisticPage, Symbol, TradePage
from sentio import log, metrics, tracker
from sentio.config import RestSettings, listening
from sentio.errors import Retryable
from sentio.tracing import traces

CONNECTIONS = 10
END_S = 5
COMPRESSED_FROM_BYTES = 1_000
PAST_DAY_S = 60  # what a client may keep unasked of a day that is over; late events still come

FIRST_DAY = date(1970, 1, 1)
LAST_DAY = date(2199, 12, 31)

Date = Annotated[date, BeforeValidator(not_a_number)]
Instant = Annotated[datetime, BeforeValidator(not_a_number)]
Day = Annotated[Date | None, Query(ge=FIRST_DAY, le=LAST_DAY, description="New York trading day")]
From = Annotated[Date | None, Query(alias="from", ge=FIRST_DAY, le=LAST_DAY, description="First day")]
To = Annotated[Date | None, Query(ge=FIRST_DAY, le=LAST_DAY, description="Last day, inclusive")]
Name = Annotated[str | None, Query(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f]+$")]
Limit = Annotated[int, Query(ge=1, le=10_000)]
SymbolName = Annotated[str, Path(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f]+$")]
Trips = Annotated[int, Query(ge=0, le=200, description="Most round trips")]
Since = Annotated[Instant | None, Query(description="At this time or later; without a zone it is UTC")]
Until = Annotated[Instant | None, Query(description="Before this time; without a zone it is UTC")]
Cursor = Annotated[str | None, Query(max_length=2_000, description="`next_cursor` of the page before")]


api = APIRouter(prefix="/api/v1", responses=problems.RESPONSES, dependencies=[Depends(admitted)])
health = APIRouter(tags=["health"])


def create_app(settings: RestSettings) -> FastAPI:
    """The application; its connections open and close with its lifespan."""
    to_collector = traces(settings, process="rest")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with pool(settings.database, name="sentio-rest", size=CONNECTIONS) as connections:
            app.state.connections = connections
            yield
            await app.state.guard.close()
        if to_collector:
            await run_in_threadpool(to_collector.close)

    app = FastAPI(
        title="Sentio Stream",
        version="1",
        summary="History and statistics of what the trading engine did",
        lifespan=lifespan,
    )
    app.add_middleware(GZipMiddleware, minimum_size=COMPRESSED_FROM_BYTES)
    app.add_middleware(Counted, traces=to_collector)
    app.state.guard = guard(settings)
    app.include_router(api)
    app.include_router(health)
    dashboard.install(app, settings)
    problems.install(app)
    describe(app)
    return app


def served_by(settings: RestSettings) -> uvicorn.Config:
    """The server's own settings. It would believe what anyone on this machine says of others: `Proxies` decides."""
    return uvicorn.Config(
        create_app(settings),
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=END_S,
    )


def main(settings: RestSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    log.configure(settings.log_level, process="rest")
    tracker.configure(settings.errors_dsn, process="rest")
    with listening("rest_port", settings.rest_port):
        bound = socket.create_server((settings.rest_host, settings.rest_port))
    config = served_by(settings)
    if settings.metrics_port is not None:
        metrics.serve(settings.metrics_port, live=lambda: True, ready=lambda: _answers(config))
    log.get().info("listening", address=f"http://{settings.rest_host}:{bound.getsockname()[1]}")
    uvicorn.Server(config).run(sockets=[bound])


def _answers(config: uvicorn.Config) -> bool:
    """Whether the database does."""
    connections: Pool | None = getattr(cast("FastAPI", config.app).state, "connections", None)
    try:
        if connections:
            queries.answers(connections)
    except Retryable:
        return False
    return connections is not None


def _connections(request: Request) -> Pool:
    connections: Pool = request.app.state.connections
    return connections


@api.get("/trades/history", response_model=TradePage, responses=formats.CONTENT, tags=["trades"])
def trades_history(
    request: Request,
    date: Day = None,
    symbol: Name = None,
    account: Name = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    format: Format = None,  # noqa: A002 - the parameter's name
) -> Response:
    """Fills of a day, of a time, or of all times, oldest first."""
    require(request, "trades", symbol)
    times = {"since": since and in_utc(since), "until": until and in_utc(until)}
    query = {"date": date, "symbol": symbol, "account": account, **times}
    page = queries.trades(_connections(request), query, limit=limit, cursor=cursor)
    return formats.page(request, page, format, max_age_s=PAST_DAY_S if date and date < today() else 0)


@api.get("/performance/daily", response_model=StatisticPage, responses=formats.CONTENT, tags=["performance"])
def performance_daily(
    request: Request,
    account: Name = None,
    first: From = None,
    to: To = None,
    limit: Limit = 1_000,
    cursor: Cursor = None,
    format: Format = None,  # noqa: A002 - the parameter's name
) -> Response:
    """Each trading day of whole accounts, oldest first."""
    require(request, "aggregates", account)
    query = {"account": account, "strategy": "*", "symbol": "*", **_days(first, to)}
    page = queries.statistics(_connections(request), "DAY", query, limit=limit, cursor=cursor)
    return formats.page(request, page, format)


@api.get("/statistics/{kind}", response_model=StatisticPage, responses=formats.CONTENT, tags=["performance"])
def statistics(
    request: Request,
    kind: Literal["day", "week", "month"],
    account: Name = None,
    strategy: Name = None,
    symbol: Name = None,
    first: From = None,
    to: To = None,
    limit: Limit = 1_000,
    cursor: Cursor = None,
    format: Format = None,  # noqa: A002 - the parameter's name
) -> Response:
    """Windows whose first day is between `from` and `to`, oldest first; `*` is all strategies, or all symbols."""
    require(request, "aggregates", account)
    query = {"account": account, "strategy": strategy, "symbol": symbol, **_days(first, to)}
    of_kind: dict[str, queries.Kind] = {"day": "DAY", "week": "WEEK", "month": "MONTH"}
    page = queries.statistics(_connections(request), of_kind[kind], query, limit=limit, cursor=cursor)
    return formats.page(request, page, format)


@api.get("/signals/current", response_model=Signals, tags=["signals"])
def signals_current(request: Request) -> Response:
    """The newest signal of each symbol, with its price and the change of the day."""
    require(request, "signals")
    return answer(request, queries.current_signals(_connections(request)))


@api.get("/symbols/{symbol:path}", response_model=Symbol, responses=problems.NOT_FOUND, tags=["signals"])
def symbol_screen(request: Request, symbol: SymbolName, span: Span = "1D") -> Response:
    """One symbol: newest signal, what is held of it, and bars of one or five trading days, one month or three."""
    require(request, "signals", symbol)
    found = queries.symbol(_connections(request), symbol, span)
    if found is None:
        raise HTTPException(404, f"nothing is known of {symbol}")
    found.positions = [one for one in found.positions if may_read(request, "positions", one.account)]
    return answer(request, found)


@api.get("/portfolio", response_model=Portfolio, responses=problems.NOT_FOUND, tags=["positions"])
def portfolio(request: Request, account: Name = None, trips: Trips = 20) -> Response:
    """An account at a glance; without a name the one that reported last."""
    require(request, "performance", account)
    require(request, "positions", account)
    found = queries.current_portfolio(_connections(request), account, trips=trips)
    if found is None:
        raise HTTPException(404, f"no account {account} has reported" if account else "no account has reported")
    return answer(request, found)


@api.get("/positions/current", response_model=Positions, tags=["positions"])
def positions_current(request: Request, account: Name = None) -> Response:
    """What is held."""
    require(request, "positions", account)
    return answer(request, queries.current_positions(_connections(request), account))


@health.get("/livez")
def livez() -> Health:
    """The process answers."""
    return Health(status="ok")


@health.get("/readyz", responses=problems.RESPONSES)
def readyz(request: Request) -> Health:
    """The database answers too."""
    queries.answers(_connections(request))
    return Health(status="ok")


def _days(first: date | None, last: date | None) -> dict[str, Any]:
    if first and last and first > last:
        raise HTTPException(400, f"from: {first} is after to: {last}")
    return {"from": first, "to": last}
