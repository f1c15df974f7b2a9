"""What a benchmark runs on: a Kafka broker and a PostgreSQL of its own, the trades, and clocks of all processes.

Durability is as shipped: fsync and synchronous_commit on. Topics, groups and databases are fresh in every round.
"""

import gc
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from pydantic import SecretStr

from benchmarks import clocks, trades
from benchmarks.clocks import Clock, Watch
from benchmarks.trades import Trades
from sentio import database, kafka, topics
from sentio.config import Settings
from sentio.stack.stack import Stack

PARTITIONS = 4
PREFIX = "bench"


@dataclass(frozen=True, eq=False)
class Stage:
    """Running servers, and the trades of this run: ``warm_up`` of them before the clock starts, then ``events``."""

    kafka: str
    database: str
    broker_pid: int
    database_pid: int
    root: Path
    """Scratch folder, deleted at the end."""

    trades: Trades
    warm_up: int
    rehearsal: bool
    """Outputs are compared, times do not count."""

    say: Callable[[str], None]

    @property
    def events(self) -> int:
        return len(self.trades) - self.warm_up

    def watch(self, client: Clock, *, without: int | None = None) -> Watch:
        """Clocks of client, database and broker; ``without`` is the database's process that serves the watcher."""
        return Watch(
            {
                "client": client,
                "database": clocks.tree(self.database_pid, without=without),
                "broker": clocks.tree(self.broker_pid),
            }
        )

    @contextmanager
    def fresh_database(self) -> Iterator[str]:
        """DSN of a new database with the platform's tables, trades with its month's partition; dropped at the end."""
        name = f"{PREFIX}_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.database, autocommit=True) as connection:
            connection.execute(f"create database {name}")
        dsn = urlunsplit(urlsplit(self.database)._replace(path=f"/{name}"))
        try:
            database.migrate(SecretStr(dsn))
            with psycopg.connect(dsn, autocommit=True) as connection:
                month = "select sentio_partition_for('trades', 'executed_at', %s, 'month')"
                connection.execute(month, [trades.FIRST_DAY])
                connection.execute("checkpoint")
            yield dsn
        finally:
            with psycopg.connect(self.database, autocommit=True) as connection:
                connection.execute(f"drop database {name} with (force)")

    @contextmanager
    def fresh_log(self, *, house: bool = False) -> Iterator["Log"]:
        """An empty topic for trades under a prefix that nobody has; ``house``: all topics of the platform too."""
        log = Log(self.kafka, f"{PREFIX}{uuid.uuid4().hex[:7]}", self.trades)
        admin = AdminClient(kafka.client(self.kafka))
        if house:
            settings = Settings(kafka=self.kafka, topic_prefix=log.prefix, partitions=PARTITIONS)
            topics.apply(settings, topics.plan(settings))
        else:
            for future in admin.create_topics([NewTopic(log.topic, PARTITIONS, 1)]).values():
                future.result(30)
        try:
            yield log
        finally:
            made = [name for name in admin.list_topics(timeout=30).topics if name.startswith(f"{log.prefix}.")]
            for future in admin.delete_topics(made).values():
                future.result(30)


@dataclass(frozen=True)
class Log:
    """One topic of trades."""

    kafka: str
    prefix: str
    trades: Trades

    @property
    def topic(self) -> str:
        return f"{self.prefix}.trades.executed"

    def append(self, first: int, end: int, values: list[bytes] | None = None) -> None:
        """Trades [first, end), all acknowledged; ``values`` where another format than the platform's is wanted."""
        producer = Producer(
            kafka.client(self.kafka)
            | {"enable.idempotence": True, "compression.type": "lz4", "queue.buffering.max.messages": 2_000_000}
        )
        messages = self.trades.values if values is None else values
        for index in range(first, end):
            partition = self.trades.partition(index, PARTITIONS)
            producer.produce(self.topic, messages[index], self.trades.keys[index], partition)
            if index % 10_000 == 0:
                producer.poll(0)
        left = producer.flush(60)
        assert not left, f"{left} messages were not acknowledged"


@contextmanager
def raised(root: Path, events: int, say: Callable[[str], None]) -> Iterator[tuple[Stage, Stage]]:
    """(rehearsal, stage): both on the same servers, which end with this process at the latest."""
    stack = Stack(root)
    try:
        addresses = stack.up(dies_with_parent=True)
        broker, server = stack.kafka.pid, stack.database.pid
        assert broker is not None
        assert server is not None
        with psycopg.connect(addresses.database, autocommit=True) as connection:
            # Its minute would fall on one contestant by chance.
            connection.execute("alter system set autovacuum = off")
            connection.execute("select pg_reload_conf()")

        def stage(events: int, warm_up: int, *, rehearsal: bool) -> Stage:
            made = trades.make(events + warm_up)
            return Stage(
                addresses.kafka, addresses.database, broker, server, root, made, warm_up, rehearsal=rehearsal, say=say
            )

        say(f"making {events:,} trades")
        both = stage(4_000, 1_000, rehearsal=True), stage(events, max(events // 4, 1_000), rehearsal=False)
        gc.freeze()  # our own data are not the garbage collector's business while others are timed
        yield both
    finally:
        stack.remove()
