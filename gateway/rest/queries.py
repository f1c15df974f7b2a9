"""What the REST API reads. Every query is bounded by a limit and by the connection's statement timeout."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from psycopg import sql
from psycopg.rows import DictRow

from gateway.database import Pool, reading
from gateway.newest import columns, newest_of_each
from gateway.rest import market, pages
from gateway.rest.days import day_of, start_of
from gateway.rest.models import (
    CurrentSignal,
    Portfolio,
    Position,
    Positions,
    Signal,
    Signals,
    Statistic,
    StatisticPage,
    Symbol,
    Trade,
    TradePage,
)
from gateway.rest.pages import BadCursor
from gateway.rest.portfolio import portfolio
from schemas.columns import arrow_schema
from schemas.topics import topic_of_event

Kind = Literal["DAY", "WEEK", "MONTH"]
NO_QUOTE: DictRow = {"price": None, "price_at": None, "change_of_day": None}

_STATISTIC_KEY = ("start_at", "account", "strategy", "symbol")


def trades(connections: Pool, query: Mapping[str, Any], *, limit: int, cursor: str | None) -> TradePage:
    """Fills by (executed_at, event_id); ``query`` has date, symbol, account, since and until, each may be None."""
    conditions = [_equals(name, query[name]) for name in ("symbol", "account") if query[name] is not None]
    day: date | None = query["date"]
    if day is not None:
        after = start_of(day + timedelta(days=1))
        conditions.append(
            sql.SQL("executed_at >= {} and executed_at < {}").format(sql.Literal(start_of(day)), sql.Literal(after))
        )
    if query["since"] is not None:
        conditions.append(sql.SQL("executed_at >= {}").format(sql.Literal(query["since"])))
    if query["until"] is not None:
        conditions.append(sql.SQL("executed_at < {}").format(sql.Literal(query["until"])))
    if cursor is not None:
        at, event_id = pages.decode(cursor, query, length=2)
        conditions.append(
            sql.SQL("(executed_at, event_id) > ({}, {})").format(
                sql.Literal(_instant(at)), sql.Literal(_event_id(event_id))
            )
        )
    statement = sql.SQL("select {} from trades where {} order by executed_at, event_id limit {}").format(
        columns(arrow_schema("TradeExecuted").names), _all(conditions), sql.Literal(limit + 1)
    )
    with reading(connections) as connection:
        rows = connection.execute(statement).fetchall()
    page = [Trade.model_validate(row) for row in rows[:limit]]
    last = page[-1] if len(rows) > limit else None
    key = [last.executed_at.isoformat(), str(last.event_id)] if last else []
    return TradePage(trades=page, next_cursor=pages.encode(key, query) if last else None)


def statistics(
    connections: Pool, kind: Kind, query: Mapping[str, Any], *, limit: int, cursor: str | None
) -> StatisticPage:
    """Windows by (start, account, strategy, symbol); ``query`` has account, strategy, symbol, from and to."""
    conditions = [_equals("kind", kind)]
    conditions += [_equals(name, query[name]) for name in ("account", "strategy", "symbol") if query[name] is not None]
    first, last_day = query["from"], query["to"]
    if first is not None:
        conditions.append(sql.SQL("start_at >= {}").format(sql.Literal(start_of(first))))
    if last_day is not None:
        after = start_of(last_day + timedelta(days=1))
        conditions.append(sql.SQL("start_at < {}").format(sql.Literal(after)))
    scope = {**query, "kind": kind}
    if cursor is not None:
        at, *names = pages.decode(cursor, scope, length=len(_STATISTIC_KEY))
        values = [sql.Literal(value) for value in (_instant(at), *names)]
        conditions.append(sql.SQL("({}) > ({})").format(columns(_STATISTIC_KEY), sql.SQL(", ").join(values)))
    names_read = [name for name in Statistic.model_fields if name != "date"]
    statement = sql.SQL("select {} from statistics where {} order by {} limit {}").format(
        columns(names_read), _all(conditions), columns(_STATISTIC_KEY), sql.Literal(limit + 1)
    )
    with reading(connections) as connection:
        rows = connection.execute(statement).fetchall()
    page = [Statistic.model_validate({**row, "date": day_of(row["start_at"])}) for row in rows[:limit]]
    last = page[-1] if len(rows) > limit else None
    key = [last.start_at.isoformat(), last.account, last.strategy, last.symbol] if last else []
    return StatisticPage(statistics=page, next_cursor=pages.encode(key, scope) if last else None)


def current_signals(connections: Pool) -> Signals:
    """The newest of each symbol, by symbol."""
    with reading(connections) as connection:
        rows = newest_of_each(connection, topic_of_event("SignalGenerated"), None)
        quotes = market.quotes(connection, [row["symbol"] for row in rows])
    signals = (CurrentSignal.model_validate({**NO_QUOTE, **quotes.get(row["symbol"], {}), **row}) for row in rows)
    return Signals(signals=sorted(signals, key=lambda one: one.symbol))


def symbol(connections: Pool, name: str, span: market.Span) -> Symbol | None:
    """All there is of one symbol; None when there is nothing."""
    with reading(connections) as connection:
        signals = newest_of_each(connection, topic_of_event("SignalGenerated"), name)
        held = newest_of_each(connection, topic_of_event("PositionUpdated"), None)
        quote = market.quotes(connection, [name]).get(name, NO_QUOTE)
        step, bars = market.bars(connection, name, span)
    positions = [Position.model_validate(row) for row in held if row["symbol"] == name]
    if not signals and not positions and quote is NO_QUOTE:
        return None
    return Symbol.model_validate(
        {
            **quote,
            "symbol": name,
            "signal": Signal.model_validate(signals[0]) if signals else None,
            "positions": sorted(positions, key=lambda one: one.account),
            "span": span,
            "step_minutes": step,
            "bars": bars,
        }
    )


def current_portfolio(connections: Pool, account: str | None, *, trips: int) -> Portfolio | None:
    """See `portfolio.portfolio`."""
    with reading(connections) as connection:
        return portfolio(connection, account, trips=trips)


def current_positions(connections: Pool, account: str | None) -> Positions:
    """What is held, by account and symbol."""
    with reading(connections) as connection:
        rows = newest_of_each(connection, topic_of_event("PositionUpdated"), account)
    held = (Position.model_validate(row) for row in rows)
    return Positions(positions=sorted(held, key=lambda one: (one.account, one.symbol)))


def answers(connections: Pool) -> None:
    """Raises `Retryable` when the database does not."""
    with reading(connections) as connection:
        connection.execute("select 1")


def _equals(name: str, value: str) -> sql.Composed:
    return sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value))


def _all(conditions: list[sql.Composed]) -> sql.Composable:
    return sql.SQL(" and ").join(conditions) if conditions else sql.SQL("true")


def _instant(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as failure:
        raise BadCursor("the cursor is not one of this API") from failure
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _event_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as failure:
        raise BadCursor("the cursor is not one of this API") from failure
