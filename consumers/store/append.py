"""A batch into its table, each row once: what COPY does when all is well, and what is done about what it refuses."""

from collections.abc import Callable
from typing import NamedTuple

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

Reasons = dict[tuple[int, int], str]
"""By (partition, offset): why the table refuses that row."""


class Filled(NamedTuple):
    """What became of a batch of which most was in its table already."""

    added: int
    refused: Reasons


def append(connection: Connection, batch: Batch) -> None:
    """Write the rows of ``batch`` that its table does not have yet; most likely it has none of them.

    Raises `Poison` naming each row that the table refuses for what is in it.
    """
    reasons: Reasons = {}
    _halving(connection, batch, _copied, reasons)
    if reasons:
        raise Poison(reasons)


def fill(connection: Connection, batch: Batch) -> Filled:
    """The same where the table most likely has nearly all of them: nothing is written that would be taken back."""
    reasons: Reasons = {}
    return Filled(_halving(connection, batch, _new, reasons), reasons)


def _halving(connection: Connection, batch: Batch, write: Callable[[Connection, Batch], int], reasons: Reasons) -> int:
    """Write what can be written, and count it; halve what the database refuses, down to the rows at fault."""
    try:
        return write(connection, batch)
    except _ROW_AT_FAULT as failure:
        if len(batch) == 1:
            (place,) = batch.places()
            reasons[place] = first_line(failure)
            return 0
        middle = len(batch) // 2
        halves = (batch.rows(0, middle), batch.rows(middle, len(batch)))
        return sum(_halving(connection, half, write, reasons) for half in halves)


def _copied(connection: Connection, batch: Batch) -> int:
    table = batch.topic.table or ""
    try:
        with connection.transaction():  # a savepoint
            copy(connection, table, batch.records)
    except psycopg.errors.UniqueViolation:
        added = _new(connection, batch)
        log.get().warning("already stored", table=table, rows=len(batch) - added, of=len(batch))
        return added
    return len(batch)


def _new(connection: Connection, batch: Batch) -> int:
    """Write the rows whose key is not in the table, by way of a temporary one: COPY itself knows no conflict."""
    names = {
        "table": sql.Identifier(batch.topic.table or ""),
        "staging": sql.Identifier("pg_temp", _STAGING),
        "columns": sql.SQL(", ").join(map(sql.Identifier, batch.records.schema.names)),
    }
    with connection.transaction():  # a savepoint
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
    return inserted
