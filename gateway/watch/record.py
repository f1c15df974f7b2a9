"""Keeps in the database what is seen, for the owner's page: the present, and the minutes of the last days."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, LiteralString

from psycopg import Connection, Cursor

from gateway.wire import dumps
from sentio.config import WatchSettings
from sentio.database import connect, outages_are_retryable

KEPT_DAYS = 8
STATEMENT_S = 5.0

_NOW = (
    "insert into watch_now (one, at, document) values (true, %s, %s)"
    " on conflict (one) do update set at = excluded.at, document = excluded.document"
)
_TOLD = (
    "insert into watch_told (one, document) values (true, %s)"
    " on conflict (one) do update set document = excluded.document"
)
_TOLD_BEFORE = "select document from watch_told"
_MINUTE = (
    "insert into watch_minutes (minute_at, document) values (%s, %s)"
    " on conflict (minute_at) do update set document = excluded.document"
)
_OLD = "delete from watch_minutes where minute_at < now() - make_interval(days => %s)"


class Record:
    """Its own connection, made again after an outage. Of one thread."""

    def __init__(self, settings: WatchSettings) -> None:
        self._database = settings.database
        self._connection: Connection | None = None

    def now(self, at: datetime, document: Mapping[str, Any]) -> None:
        """Replace how things stand. Raises `Retryable`."""
        self._execute(_NOW, at, dumps(document))

    def told(self, document: Mapping[str, Any]) -> None:
        """Replace what `gateway.watch.told` keeps. Raises `Retryable`."""
        self._execute(_TOLD, dumps(document))

    def told_before(self) -> dict[str, Any]:
        """What was kept last; empty if nothing was. Raises `Retryable`."""
        found = self._execute(_TOLD_BEFORE).fetchone()
        return dict(found[0]) if found else {}

    def minute(self, at: datetime, document: Mapping[str, Any]) -> None:
        """Keep a minute, and drop those that are too old. Raises `Retryable`."""
        self._execute(_MINUTE, at, dumps(document))
        self._execute(_OLD, KEPT_DAYS)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _execute(self, statement: LiteralString, *values: object) -> Cursor:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = connect(self._database, name="sentio-watcher", statement_timeout_s=STATEMENT_S)
                self._connection.autocommit = True
            with outages_are_retryable():
                return self._connection.execute(statement, values)
        except BaseException:
            self.close()
            raise
