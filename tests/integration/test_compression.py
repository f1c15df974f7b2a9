"""Compression on whichever edition there is: old chunks become columns where it can, and nothing else changes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pyarrow as pa
import pytest
from psycopg import Connection
from pydantic import SecretStr
from structlog.testing import capture_logs

from consumers.store.append import append
from consumers.store.compression import AFTER
from consumers.store.upkeep import EVERY_S, Upkeep
from schemas.columns import from_events
from schemas.topics import stored_topics, topic_of_event
from sentio.batch import Batch
from sentio.database import Edition, edition, migrate
from tests.samples import trade

NOW = datetime.now(UTC)
OLD = NOW - AFTER - timedelta(days=7, minutes=1)  # a chunk of trades is seven days


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    migrate(SecretStr(database))
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def fills(first: int, end: int, at: datetime) -> Batch:
    numbers = range(first, end)
    events = [trade(number, executed_at=at + timedelta(microseconds=number)) for number in numbers]
    ids = [number.to_bytes(16, "big") for number in numbers]
    records = from_events(events, event_id=ids, producer=["p"] * len(ids), sequence=list(numbers))
    offsets = pa.array(numbers, pa.int64())
    return Batch(topic_of_event("TradeExecuted"), records, offsets.cast(pa.int32()), offsets, offsets, {})


def stored(connection: Connection) -> list[tuple[object, ...]]:
    return connection.execute("select * from trades order by sequence").fetchall()


def test_old_chunks_become_columns_where_the_edition_can_and_take_late_and_repeated_rows(
    connection: Connection, database: str
) -> None:
    append(connection, fills(0, 50, OLD))
    append(connection, fills(50, 60, NOW))
    before = stored(connection)
    now_s = 0.0
    upkeep = Upkeep(SecretStr(database), stored_topics(), monotonic_s=lambda: now_s)
    with capture_logs() as logs:
        for _ in range(2):  # the second finds nothing to do
            now_s += EVERY_S
            upkeep.turn()
            while upkeep._round is not None:
                upkeep.turn()
    compressed = [line["table"] for line in logs if line["event"] == "compressed"]
    assert compressed == (["trades"] if edition(connection) is Edition.FULL else [])
    assert [line for line in logs if line["event"] != "compressed"] == []
    assert stored(connection) == before
    with connection.transaction():
        append(connection, fills(40, 50, OLD))
        append(connection, fills(60, 70, OLD))
    assert [row[:60] for row in stored(connection)][:60] == before
    assert len(stored(connection)) == 70
