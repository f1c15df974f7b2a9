"""Retention on a real database: what is too old goes, by partition and by row, and nothing else."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import Connection
from pydantic import SecretStr
from structlog.testing import capture_logs

from consumers.store import retention, upkeep
from consumers.store.store import Store
from consumers.store.upkeep import EVERY_S, Upkeep
from schemas.topics import stored_topics, topics
from sentio.database import edition, migrate
from sentio.testing.servers import Kafka
from tests.pipeline import consumer_settings, running, until

DAYS = topics()["prices.updated"].store_days or 0
NOW = (datetime.now(UTC) - timedelta(days=100)).replace(day=20, hour=15, minute=30, second=0, microsecond=0)
"""Of the test's clock; before the database's, of which the earlier counts."""

LIMIT = NOW - timedelta(days=DAYS)
US = timedelta(microseconds=1)


class Clock:
    """Moves when told."""

    def __init__(self) -> None:
        self.now = NOW
        self.monotonic_s = 0.0


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    migrate(SecretStr(database))
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def worker(database: str, clock: Clock) -> Iterator[Upkeep]:
    worker = Upkeep(SecretStr(database), stored_topics(), now=lambda: clock.now, monotonic_s=lambda: clock.monotonic_s)
    yield worker
    worker.close()


def put(connection: Connection, *times: datetime, partition: bool = True) -> None:
    """A price at each time; in the default partition if it is to have none of its own."""
    for at in times:
        if partition:
            connection.execute("select sentio_partition_for('prices', 'observed_at', %s, 'day')", [at])
        connection.execute(
            "insert into prices (event_id, producer, sequence, symbol, price, source, observed_at)"
            " values (gen_random_uuid(), 'p', 1, 'TQQQ', 1, 'made up', %s)",
            [at],
        )


def left(connection: Connection) -> list[datetime]:
    return [at for (at,) in connection.execute("select observed_at from prices order by 1")]


def do_round(worker: Upkeep, clock: Clock) -> list[dict[str, Any]]:
    """One round from begin to end; what it logged of retention."""
    clock.monotonic_s += EVERY_S
    with capture_logs() as logs:
        worker.turn()
        while worker._round is not None:
            worker.turn()
    return [dict(line) for line in logs if line["event"] != "compressed"]  # the full edition's, besides


def test_what_is_older_than_the_limit_goes_to_the_microsecond_and_is_counted(
    connection: Connection, worker: Upkeep, clock: Clock
) -> None:
    old = [LIMIT - timedelta(days=400), LIMIT - timedelta(days=3), LIMIT - timedelta(days=3, hours=1), LIMIT - US]
    young = [LIMIT, LIMIT + US, NOW, NOW + timedelta(days=2)]
    put(connection, *old, *young)
    logs = do_round(worker, clock)
    assert left(connection) == young
    assert sum(line["rows"] for line in logs) == len(old)
    assert {line["table"] for line in logs} == {"prices"}


def test_whole_days_are_dropped_and_not_deleted_row_by_row(
    connection: Connection, worker: Upkeep, clock: Clock
) -> None:
    put(connection, *(LIMIT - timedelta(days=days) for days in range(4)))
    logs = do_round(worker, clock)
    assert [line["event"] for line in logs] == ["retention: dropped"] * 3
    assert left(connection) == [LIMIT]


def test_a_table_that_is_kept_for_ever_keeps_its_oldest_row(
    connection: Connection, worker: Upkeep, clock: Clock
) -> None:
    connection.execute(
        "insert into signals (event_id, producer, sequence, symbol, direction, probability, confidence, bar_id,"
        " generated_at) values (gen_random_uuid(), 'p', 1, 'TQQQ', 'LONG', 1, 1, 1, '2001-01-01')"
    )
    assert do_round(worker, clock) == []
    assert connection.execute("select count(*) from signals").fetchone() == (1,)


def test_rows_without_a_partition_of_their_own_go_in_bounded_steps(
    connection: Connection, worker: Upkeep, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "STEP_ROWS", 10)
    put(connection, *(LIMIT - timedelta(minutes=n + 1) for n in range(25)), LIMIT, partition=False)
    clock.monotonic_s += EVERY_S
    amounts = []
    for _ in range(3):
        worker.turn()
        amounts.append(len(left(connection)))
    assert amounts == [16, 6, 1]


def test_events_that_were_redriven_are_known_for_as_long_as_they_can_come_again(
    connection: Connection, worker: Upkeep, clock: Clock
) -> None:
    limit = NOW - timedelta(days=retention.REDRIVEN_DAYS)
    for at in (limit - US, limit):
        connection.execute("insert into consumer_redriven values ('store', gen_random_uuid(), 't', %s)", [at])

    do_round(worker, clock)

    assert connection.execute("select applied_at from consumer_redriven").fetchall() == [(limit,)]


def test_a_clock_that_runs_ahead_costs_no_row(connection: Connection, worker: Upkeep, clock: Clock) -> None:
    recent = datetime.now(UTC) - timedelta(days=DAYS - 1)
    put(connection, recent)
    clock.now = recent + timedelta(days=1_000)
    do_round(worker, clock)
    assert len(left(connection)) == 1


def test_one_member_at_a_time(database: str, connection: Connection, worker: Upkeep, clock: Clock) -> None:
    put(connection, LIMIT - US)
    with psycopg.connect(database) as other:
        other.execute("select pg_advisory_lock(%s)", [upkeep.LOCK])
        do_round(worker, clock)
        assert len(left(connection)) == 1
    do_round(worker, clock)
    assert left(connection) == []


def test_a_failure_is_told_and_tried_again_at_the_next_round(
    database: str, connection: Connection, worker: Upkeep, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "LOCK_TIMEOUT_S", 0.05)
    put(connection, LIMIT - timedelta(days=2))
    with psycopg.connect(database) as other:
        other.execute("lock table prices in share mode")
        (line,) = do_round(worker, clock)
        assert "lock timeout" in line["cause"]
        worker.turn()
        assert worker._round is None, "not before its time"
    do_round(worker, clock)
    assert left(connection) == []


def test_a_day_inside_a_month_that_has_its_partition_already_needs_none(connection: Connection) -> None:
    connection.execute("select sentio_partition_for('prices', 'observed_at', %s, 'month')", [NOW])
    put(connection, NOW)
    parts = connection.execute("select part::text from sentio_partitions('prices')").fetchall()
    # Chunks are TimescaleDB's business.
    assert parts == ([] if edition(connection).is_timescale else [(f"prices_{NOW:%Y_%m}",)])


def test_a_running_store_keeps_to_the_limit(
    kafka: Kafka, database: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "EVERY_S", 0.1)
    settings = consumer_settings(kafka.bootstrap, kafka.prefix, database)
    put(connection, LIMIT - timedelta(days=1))
    with running(Store(settings), settings):
        until(lambda: left(connection) == [])
