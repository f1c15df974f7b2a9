"""Read-only connections to the database for what clients ask: pooled, bounded in number and in time."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool, PoolTimeout
from pydantic import SecretStr

from sentio.database import CONNECT_TIMEOUT_S, OUTAGES, first_line
from sentio.errors import Retryable

STATEMENT_TIMEOUT_MS = 5_000
WAIT_S = 2.0  # for a connection of the pool, also in an outage

Pool = ConnectionPool[Connection[DictRow]]


def pool(database: SecretStr, *, name: str, size: int) -> Pool:
    """A pool that connects when first asked and survives outages; close it at the end."""
    # It would repeat every failed attempt; who asks for a connection hears of it anyway.
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
    options: dict[str, Any] = {
        "row_factory": dict_row,
        "application_name": name,
        "connect_timeout": CONNECT_TIMEOUT_S,
        "options": (
            f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c default_transaction_read_only=on -c timezone=UTC"
            f" -c idle_in_transaction_session_timeout={2 * STATEMENT_TIMEOUT_MS}"
        ),
    }
    return ConnectionPool(
        database.get_secret_value(),
        kwargs=options,
        min_size=0,
        max_size=size,
        timeout=WAIT_S,
        reconnect_timeout=WAIT_S,
        check=ConnectionPool.check_connection,
        name=name,
        open=True,
    )


def value(connection: Connection[DictRow], query: str, values: Sequence[Any]) -> Any:
    """Column ``value`` of a query's first row; None where there is no row."""
    row = connection.execute(query, values).fetchone()
    return row["value"] if row else None


@contextmanager
def reading(connections: Pool) -> Iterator[Connection[DictRow]]:
    """One REPEATABLE READ transaction: all its queries see one moment. Raises `Retryable` in an outage."""
    try:
        with connections.connection() as connection:
            connection.execute("set transaction isolation level repeatable read read only")
            yield connection
    except PoolTimeout as failure:
        raise Retryable(f"database: no connection within {WAIT_S:.0f} s") from failure
    except psycopg.errors.UndefinedTable as failure:
        raise Retryable(f"database: {first_line(failure)}: it is not migrated yet") from failure
    except OUTAGES as failure:
        raise Retryable(f"database: {first_line(failure)}") from failure
