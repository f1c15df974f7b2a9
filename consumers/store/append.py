"""A batch into its table, each row once: what COPY does when all is well, and what is done about what it refuses."""

import psycopg
from psycopg import Connection, sql

from consumers.store.copy import copy
from sentio import log
from sentio.batch import Batch
from sentio.database import first_line
from sentio.errors import Poison

# The row itself is at fault, whatever the state of the database.
_ROW_AT_FAULT = (
    psycopg.errors.IntegrityError,
    psycopg.errors.DataError,
    psycopg.errors.ProgramLimitExceeded,  # a value with no room in an index
)

_STAGING = "arriving"


def append(connection: Connection, batch: Batch) -> None:
    """Write the rows of ``batch`` that its table does not have yet.

    Raises `Poison` naming each row that the table refuses for what is in it.
    """
    reasons: dict[tuple[int, int], str] = {}
    _append(connection, batch, reasons)
    if reasons:
        raise Poison(reasons)


def _append(connection: Connection, batch: Batch, reasons: dict[tuple[int, int], str]) -> None:
    """Write what can be written; halve what the database refuses, down to the rows at fault."""
    table = batch.topic.table or ""
    try:
        try:
            with connection.transaction():  # a savepoint
                copy(connection, table, batch.records)
        except psycopg.errors.UniqueViolation:
            with connection.transaction():
                _append_new(connection, table, batch)
    except _ROW_AT_FAULT as failure:
        if len(batch) == 1:
            (place,) = batch.places()
            reasons[place] = first_line(failure)
            return
        middle = len(batch) // 2
        _append(connection, batch.rows(0, middle), reasons)
        _append(connection, batch.rows(middle, len(batch)), reasons)


def _append_new(connection: Connection, table: str, batch: Batch) -> None:
    """Write the rows whose key is not in the table, by way of a temporary one: COPY itself knows no conflict."""
    names = {
        "table": sql.Identifier(table),
        "staging": sql.Identifier("pg_temp", _STAGING),
        "columns": sql.SQL(", ").join(map(sql.Identifier, batch.records.schema.names)),
    }
    connection.execute(
        sql.SQL("create temp table {name} on commit drop as select {columns} from {table} with no data").format(
            **names, name=sql.Identifier(_STAGING)
        )
    )
    copy(connection, _STAGING, batch.records)
    inserted = connection.execute(
        sql.SQL("insert into {table} ({columns}) select {columns} from {staging} on conflict do nothing").format(
            **names
        )
    ).rowcount
    # Another part of the batch may come this way too, in the same transaction.
    connection.execute(sql.SQL("drop table {staging}").format(**names))
    log.get().warning("already stored", table=table, rows=len(batch) - inserted, of=len(batch))
