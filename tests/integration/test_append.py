"""A batch into a real table: what is there already is left, what cannot be there is named, the rest is written."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from decimal import Decimal

import psycopg
import pyarrow as pa
import pytest
from psycopg import Connection
from pydantic import SecretStr
from structlog.testing import capture_logs

from consumers.store.append import append, fill
from schemas.columns import from_events
from schemas.events import PriceUpdated
from schemas.topics import topic_of_event
from sentio.batch import Batch
from sentio.database import migrate
from sentio.errors import Poison
from tests.samples import OPENING

PARTITION = 3


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    migrate(SecretStr(database))
    with psycopg.connect(database) as connection, connection.transaction():  # as the store does
        yield connection


def price(number: int) -> PriceUpdated:
    return PriceUpdated(
        symbol="TQQQ",
        price=Decimal(number + 1),
        source="bad\0text" if number in (7, 200) else "made up",
        observed_at=OPENING + timedelta(seconds=number),
    )


def batch(numbers: Iterable[int]) -> Batch:
    """The prices of these numbers; the one of number n is at offset 1,000 + n."""
    numbers = list(numbers)
    ids = [number.to_bytes(16, "big") for number in numbers]
    records = from_events([price(n) for n in numbers], event_id=ids, producer=["p"] * len(ids), sequence=numbers)
    offsets = pa.array([1_000 + number for number in numbers], pa.int64())
    partitions = pa.array([PARTITION] * len(ids), pa.int32())
    return Batch(topic_of_event("PriceUpdated"), records, partitions, offsets, offsets, {})


def stored(connection: Connection) -> list[int]:
    return [row[0] for row in connection.execute("select sequence from prices order by 1")]


def test_rows_that_are_there_already_are_left_and_the_others_written(connection: Connection) -> None:
    append(connection, batch(range(10, 20)))
    connection.execute("update prices set source = 'the first'")
    with capture_logs() as logs:
        append(connection, batch(range(15, 40)))
    assert stored(connection) == list(range(10, 40))
    assert connection.execute("select count(*) from prices where source = 'the first'").fetchone() == (10,)
    assert [(line["event"], line["table"], line["rows"], line["of"]) for line in logs] == [
        ("already stored", "prices", 5, 25)
    ]


def test_a_row_that_comes_twice_in_a_batch_is_written_once(connection: Connection) -> None:
    append(connection, batch([10, 11, 10, 12, 11]))
    assert stored(connection) == [10, 11, 12]


def test_rows_at_fault_are_named_among_good_and_repeated_ones(connection: Connection) -> None:
    append(connection, batch([100, 250]))
    with pytest.raises(Poison) as refusal:
        append(connection, batch(range(300)))
    assert set(refusal.value.reasons) == {(PARTITION, 1_007), (PARTITION, 1_200)}
    assert all("0x00" in reason for reason in refusal.value.reasons.values())
    assert stored(connection) == [number for number in range(300) if number not in (7, 200)]


def test_a_column_that_no_event_fills_takes_its_default_also_for_repeats(connection: Connection) -> None:
    connection.execute("alter table prices add column venue text not null default 'XNAS'")
    append(connection, batch([10]))
    append(connection, batch([10, 11]))
    found = connection.execute("select sequence, venue from prices order by 1").fetchall()
    assert found == [(10, "XNAS"), (11, "XNAS")]


def test_what_a_table_lacks_is_filled_in_and_counted(connection: Connection) -> None:
    append(connection, batch([*range(10, 100), *range(110, 199)]))
    with capture_logs() as logs:
        filled = fill(connection, batch([*range(300), 250]))
    assert filled.added == 298 - 90 - 89
    assert set(filled.refused) == {(PARTITION, 1_007), (PARTITION, 1_200)}
    assert stored(connection) == [number for number in range(300) if number not in (7, 200)]
    assert logs == []
