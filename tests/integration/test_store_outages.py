"""The store and a database in trouble: it waits, keeps its partitions, and nothing is lost or written twice."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import Connection, sql

from consumers import sink
from consumers.store.store import Store
from producers.publisher import EventPublisher
from sentio.batch import Batch
from sentio.config import ConsumerSettings
from sentio.errors import Retryable
from sentio.stack.postgres import PostgresServer
from sentio.testing.servers import Kafka
from tests.pipeline import consumer_settings, count, publisher_settings, rows, running, until
from tests.samples import trade

OF_STORE = "from pg_stat_activity where application_name = 'store' and datname = current_database()"


@pytest.fixture
def settings(kafka: Kafka, database: str) -> ConsumerSettings:
    return consumer_settings(kafka.bootstrap, kafka.prefix, database)


def dsn(settings: ConsumerSettings) -> str:
    return settings.database.get_secret_value()


def publish(settings: ConsumerSettings, amount: int) -> None:
    with EventPublisher(publisher_settings(settings), name="engine") as publisher:
        for number in range(amount):
            publisher.publish(trade(number))


@contextmanager
def session(database: str) -> Iterator[Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


class Watched(Store):
    """Notes what it fails with."""

    def __init__(self, settings: ConsumerSettings) -> None:
        super().__init__(settings)
        self.failures: list[str] = []

    def process(self, batch: Batch) -> None:
        try:
            super().process(batch)
        except Retryable as failure:
            self.failures.append(str(failure))
            raise


def through(
    settings: ConsumerSettings, begin: Callable[[], object], end: Callable[[], object], *, failure: str
) -> None:
    """Run a store through a trouble until it has met it twice; all is stored once, no partition is claimed again."""

    def owners() -> list[tuple[int, int, int]]:
        return rows(dsn(settings), "select topic, partition, generation from consumer_offsets order by 1, 2")

    publish(settings, 60)
    store = Watched(settings)
    with running(store, settings) as group:
        until(lambda: count(dsn(settings), "trades") == 60)
        until(lambda: group.ready)
        claimed = owners()
        begin()
        publish(settings, 60)
        until(lambda: sum(failure in one for one in store.failures) >= 2)
        assert not group.ready
        end()
        until(lambda: count(dsn(settings), "trades") == 120)
        until(lambda: group.ready)
        assert owners() == claimed
    assert rows(dsn(settings), "select count(distinct event_id) from trades") == [(120,)]
    assert rows(dsn(settings), "select sum(next_offset) from consumer_offsets where next_offset > 0") == [(120,)]


@pytest.mark.parametrize(
    "condition",
    ["deadlock_detected", "serialization_failure", "disk_full", "out_of_memory", "query_canceled", "admin_shutdown"],
)
def test_what_the_database_may_recover_from_is_tried_again(settings: ConsumerSettings, condition: str) -> None:
    with session(dsn(settings)) as connection:
        connection.execute("create table trouble (is_on boolean not null)")
        connection.execute("insert into trouble values (false)")
        connection.execute(
            sql.SQL(
                "create function refuse() returns trigger language plpgsql as $$ begin"
                " if (select is_on from trouble) then raise exception 'made up' using errcode = {}; end if;"
                " return null; end $$"
            ).format(sql.Literal(condition))
        )
        connection.execute("create trigger refuse after insert on trades execute function refuse()")
        through(
            settings,
            lambda: connection.execute("update trouble set is_on = true"),
            lambda: connection.execute("update trouble set is_on = false"),
            failure="made up",
        )


def test_a_database_that_became_read_only_is_waited_for_and_connected_anew(settings: ConsumerSettings) -> None:
    name = urlsplit(dsn(settings)).path[1:]
    with session(dsn(settings)) as connection:

        def become_read_only() -> None:
            connection.execute(f"alter database {name} set default_transaction_read_only = on")
            connection.execute(f"select pg_terminate_backend(pid) {OF_STORE}")

        def become_writable() -> None:
            connection.execute("set default_transaction_read_only = off")
            connection.execute(f"alter database {name} reset default_transaction_read_only")

        through(settings, become_read_only, become_writable, failure="read-only transaction")


def test_a_lock_that_another_session_holds_for_long_costs_no_membership(
    settings: ConsumerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "STATEMENT_TIMEOUT_S", 0.5)
    with psycopg.connect(dsn(settings)) as other:
        through(
            settings,
            lambda: other.execute("lock table trades in access exclusive mode"),
            other.rollback,
            failure="statement timeout",
        )


def test_a_database_without_a_connection_left_is_waited_for(kafka: Kafka, own_database: PostgresServer) -> None:
    assert own_database.address is not None
    with session(own_database.address) as connection:
        # Limits do not bind a superuser.
        connection.execute("create role trader login")
        connection.execute("create database trader owner trader")
        host = urlsplit(own_database.address).netloc.rpartition("@")[2]
        address = urlunsplit(("postgresql", f"trader@{host}", "/trader", "", ""))
        settings = consumer_settings(kafka.bootstrap, kafka.prefix, address)

        def no_connection_left() -> None:
            connection.execute("alter role trader connection limit 0")
            connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'trader'")

        through(
            settings,
            no_connection_left,
            lambda: connection.execute("alter role trader connection limit -1"),
            failure="too many connections",
        )
