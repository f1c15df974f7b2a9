"""Whether the tables can take the events: a column of the right type for each field of each stored event.

Asked before the first row, because binary COPY reads bytes as whatever the column's type is, and since the column of a
new field comes from a migration, never from the store.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
from psycopg import Connection

from schemas.columns import arrow_schema
from schemas.topics import Topic
from sentio.database import next_migration
from sentio.errors import Fatal


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table, as the database has it."""

    type: str
    not_null: bool
    has_default: bool


def check(connection: Connection, topics: Iterable[Topic]) -> None:
    """Raises `Fatal` naming each column that an event needs otherwise, and the migration that would mend it.

    A column that no event fills is fine if it may be left out: a table may be ahead of a store that is still to be
    updated. ``DEFAULT`` in the message is for a person to fill in: what the schema says for older records.
    """
    wrong = [line for topic in topics for line in _differences(topic, _columns(connection, topic.table or ""))]
    if wrong:
        raise Fatal(f"the tables do not fit the events: {'; '.join(wrong)}")


def sql_type(kind: pa.DataType) -> str:
    """PostgreSQL's name of the type whose binary form pgpq writes for an Arrow type."""
    if pa.types.is_decimal(kind):
        return f"numeric({kind.precision},{kind.scale})"
    return _TYPES[kind]


_TYPES = {
    pa.string(): "text",
    pa.int64(): "bigint",
    pa.int32(): "integer",
    pa.float64(): "double precision",
    pa.bool_(): "boolean",
    pa.binary(16): "uuid",
    pa.timestamp("us", tz="UTC"): "timestamp with time zone",
}


def _columns(connection: Connection, table: str) -> dict[str, Column]:
    found = connection.execute(
        "select attname, format_type(atttypid, atttypmod), attnotnull, atthasdef from pg_attribute"
        " where attrelid = to_regclass(quote_ident(%s)) and attnum > 0 and not attisdropped",
        [table],
    ).fetchall()
    return {name: Column(*rest) for name, *rest in found}


def _differences(topic: Topic, columns: Mapping[str, Column]) -> list[str]:
    table, schema = topic.table, arrow_schema(topic.event)
    migration = f"write sentio/migrations/{next_migration():04}_NAME.sql with 'alter table {table}"
    lines = []
    for field in schema:
        wanted, column = sql_type(field.type), columns.get(field.name)
        if column is None:
            default = "" if field.nullable else " not null default DEFAULT"
            lines.append(
                f"{table} has no column {field.name} for the field of {topic.event};"
                f" {migration} add column {field.name} {wanted}{default}'"
            )
        elif column.type != wanted:
            lines.append(
                f"{table}.{field.name} is {column.type}, {topic.event} has {wanted};"
                f" {migration} alter column {field.name} type {wanted}'"
            )
        elif field.nullable and column.not_null:
            lines.append(
                f"{table}.{field.name} may not be null, {topic.event}.{field.name} may;"
                f" {migration} alter column {field.name} drop not null'"
            )
    lines += [
        f"{table}.{name} has no default and is no field of {topic.event};"
        f" {migration} alter column {name} drop not null'"
        for name, column in columns.items()
        if name not in schema.names and column.not_null and not column.has_default
    ]
    return lines
