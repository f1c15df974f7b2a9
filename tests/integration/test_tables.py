"""Tables and events: the store begins only where every field has its column, of its type."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import Connection
from pydantic import SecretStr

from consumers.store import tables
from schemas.topics import stored_topics
from sentio.database import migrate, next_migration
from sentio.errors import Fatal


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    migrate(SecretStr(database))
    with psycopg.connect(database) as connection:
        yield connection


def test_every_field_of_every_stored_event_has_its_column_of_its_type(connection: Connection) -> None:
    tables.check(connection, stored_topics())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("drop column order_id", "trades has no column order_id .* add column order_id text'"),
        ("drop column fees", r"trades has no column fees .* add column fees numeric\(28,6\) not null default DEFAULT'"),
        # Eight bytes each: nothing else would tell a double from a bigint.
        ("alter column sequence type float8", "trades.sequence is double precision, TradeExecuted has bigint"),
        ("alter column fees type numeric(28, 4)", r"trades.fees is numeric\(28,4\), TradeExecuted has numeric\(28,6\)"),
        ("alter column order_id set not null", "trades.order_id may not be null"),
        ("add column venue text not null", "trades.venue has no default and is no field of TradeExecuted"),
        ("rename to fills", "trades has no column event_id"),
    ],
)
def test_a_table_that_cannot_take_its_events_is_named_with_what_would_mend_it(
    connection: Connection, change: str, told: str
) -> None:
    connection.execute(f"alter table trades {change}")
    with pytest.raises(Fatal, match=told) as refusal:
        tables.check(connection, stored_topics())
    assert f"sentio/migrations/{next_migration():04}_" in str(refusal.value)


@pytest.mark.parametrize("column", ["venue text", "venue text not null default 'XNAS'"])
def test_a_table_may_be_ahead_of_the_events(connection: Connection, column: str) -> None:
    connection.execute(f"alter table trades add column {column}")
    tables.check(connection, stored_topics())
