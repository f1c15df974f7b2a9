"""Columns in the database: every value of every stored event arrives as it is, to the last digit."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import Connection
from pydantic import SecretStr

from consumers.store import copy as copying
from consumers.store.copy import copy
from schemas.columns import arrow_schema
from schemas.topics import Topic, stored_topics
from sentio.database import migrate

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TEXTS = st.one_of(
    st.sampled_from(["", "\\N", '"', "a,b\n", "\\.", "ß€𝄞"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
)


def values_of(field: pa.Field) -> st.SearchStrategy[Any]:
    kind = field.type
    if pa.types.is_decimal(kind):
        top = 10**kind.precision - 1
        digits = st.one_of(st.sampled_from([-top, -1, 0, 1, 10**kind.scale, top]), st.integers(-top, top))
        values: st.SearchStrategy[Any] = digits.map(lambda n: Decimal(n).scaleb(-kind.scale))
    elif pa.types.is_timestamp(kind):
        values = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999).map(
            lambda us: EPOCH + timedelta(microseconds=us)
        )
    elif pa.types.is_floating(kind):
        values = st.floats(allow_nan=False)
    elif pa.types.is_integer(kind):
        top = 2 ** (kind.bit_width - 1) - 1
        values = st.one_of(st.sampled_from([-top - 1, 0, top]), st.integers(-top - 1, top))
    elif pa.types.is_fixed_size_binary(kind):
        values = st.binary(min_size=16, max_size=16)
    else:
        values = TEXTS
    return st.one_of(st.none(), values) if field.nullable else values


@st.composite
def batches(draw: st.DrawFn) -> tuple[Topic, pa.RecordBatch]:
    topic = draw(st.sampled_from(stored_topics()))
    schema = arrow_schema(topic.event)
    size = draw(st.integers(0, 6))
    columns = [pa.array(draw(st.lists(values_of(f), min_size=size, max_size=size)), f.type) for f in schema]
    return topic, pa.record_batch(columns, schema=schema)


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    migrate(SecretStr(database))
    with psycopg.connect(database, options="-c timezone=UTC") as connection:
        for topic in stored_topics():
            # The columns without what restricts them: limits of single values are the codec's.
            connection.execute(f"create temp table {topic.table} (like {topic.table})")
        yield connection


def stored(connection: Connection, table: str, names: list[str]) -> list[dict[str, Any]]:
    found = connection.execute(f"select {', '.join(names)} from {table}").fetchall()
    return [dict(zip(names, row, strict=True)) for row in found]


def expected(records: pa.RecordBatch) -> list[dict[str, Any]]:
    return [{**row, "event_id": UUID(bytes=row["event_id"])} for row in records.to_pylist()]


def shown(rows: list[dict[str, Any]]) -> list[list[str]]:
    """As text, in which 1 and 1.0 differ and 0.0 is not -0.0; one instant has two names for UTC."""
    return [[str(v) if isinstance(v, datetime) else repr(v) for v in row.values()] for row in rows]


def test_every_value_arrives_as_it_was(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "CHUNK_ROWS", 4)  # so that some batches take two

    @settings(max_examples=200, deadline=None)
    @given(batches())
    def check(batch: tuple[Topic, pa.RecordBatch]) -> None:
        topic, records = batch
        assert topic.table is not None
        connection.execute(f"truncate {topic.table}")
        copy(connection, topic.table, records)
        found = stored(connection, topic.table, records.schema.names)
        assert shown(found) == shown(expected(records))

    check()


def test_a_part_of_a_batch_arrives_as_that_part(connection: Connection) -> None:
    schema = arrow_schema("PriceUpdated")
    numbers = range(10)
    columns: dict[str, list[Any]] = {
        "event_id": [number.to_bytes(16, "big") for number in numbers],
        "producer": ["feed@1"] * 10,
        "sequence": list(numbers),
        "symbol": [f"S{number}" for number in numbers],
        "price": [Decimal(number) / 3 // Decimal("0.0000000001") * Decimal("0.0000000001") for number in numbers],
        "source": ["made up"] * 10,
        "observed_at": [EPOCH + timedelta(days=number) for number in numbers],
    }
    records = pa.record_batch([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
    copy(connection, "prices", records.slice(3, 5))
    assert stored(connection, "prices", schema.names) == expected(records)[3:8]
