"""REST served for a test, and rows in the database as the store would write them."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import psycopg
import uuid_utils
import uvicorn
from psycopg import sql

from gateway.rest.app import served_by
from sentio.config import RestSettings

OPENING = datetime(2025, 10, 10, 13, 30, tzinfo=UTC)


class Rows:
    """Writes rows as the store would."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._sequence = 0

    def add(self, table: str, *rows: dict[str, Any], **common: Any) -> None:
        with psycopg.connect(self._dsn) as connection:
            for given in rows or ({},):
                row = {**common, **given}
                if table != "windows":
                    row = {"event_id": UUID(bytes=uuid_utils.uuid7().bytes), "producer": "engine"} | row
                    row["sequence"] = self._sequence = self._sequence + 1
                connection.execute(
                    sql.SQL("insert into {} ({}) values ({})").format(
                        sql.Identifier(table),
                        sql.SQL(", ").join(map(sql.Identifier, row)),
                        sql.SQL(", ").join(sql.Placeholder() * len(row)),
                    ),
                    list(row.values()),
                )

    def trade(self, minute: int, **fields: Any) -> None:
        common = {"account": "a", "strategy": "s", "symbol": "TQQQ", "action": "ENTRY", "side": "BUY"}
        amounts = {"quantity": Decimal(10), "price": Decimal("101.2500000001"), "fees": Decimal(0)}
        at = OPENING + timedelta(minutes=minute)
        self.add("trades", {**common, **amounts, "reason": "r", "executed_at": at, **fields})


@contextmanager
def served(settings: RestSettings) -> Iterator[httpx.Client]:
    """A client of the API on a free port, until the end of the block."""
    server = uvicorn.Server(served_by(settings))
    bound = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{bound.getsockname()[1]}", timeout=20) as made:
            yield made
    finally:
        server.should_exit = True
        thread.join()
        bound.close()
