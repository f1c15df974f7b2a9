"""Consumer groups running in threads against a real broker and database, for as long as a test needs them."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from consumers.consumer import Consumer
from consumers.group import Group
from sentio import topics
from sentio.config import ConsumerSettings, PublisherSettings, load
from sentio.database import migrate

DEADLINE_S = 60.0


def consumer_settings(bootstrap: str, prefix: str, database: str, **more: Any) -> ConsumerSettings:
    """Settings of a consumer whose topics and tables exist."""
    settings = load(
        ConsumerSettings,
        **({"kafka": bootstrap, "topic_prefix": prefix, "database": database, "partitions": 3} | more),
    )
    topics.apply(settings, [change for change in topics.plan(settings) if change.lines])
    migrate(settings.database)
    return settings


def publisher_settings(settings: ConsumerSettings, **more: Any) -> PublisherSettings:
    return load(PublisherSettings, kafka=settings.kafka, topic_prefix=settings.topic_prefix, **more)


def until(condition: Callable[[], Any], *, timeout_s: float = DEADLINE_S) -> Any:
    """What ``condition`` gives once it is true; fails when that does not come to pass."""
    deadline_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline_s, f"not true within {timeout_s} s"
        threading.Event().wait(0.02)
    return found


@contextmanager
def running(consumer: Consumer, settings: ConsumerSettings, **more: Any) -> Iterator[Group]:
    """A member of the consumer's group; what ended it is raised at the end."""
    stop = threading.Event()
    group = Group(consumer, settings, stop=stop, **more)
    with in_thread(group.run, stop):
        yield group


@contextmanager
def in_thread(run: Callable[[], None], stop: threading.Event, *, ends_s: float = DEADLINE_S) -> Iterator[None]:
    """Runs it meanwhile, and sets ``stop`` at the end; what ended it is raised then."""
    failures: list[BaseException] = []

    def kept() -> None:
        try:
            run()
        except BaseException as failure:  # noqa: BLE001 - handed to the test
            failures.append(failure)

    thread = threading.Thread(target=kept)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(ends_s)
        assert not thread.is_alive(), "it did not stop"
    if failures:
        raise failures[0]


def rows(database: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(database, autocommit=True) as connection:
        return connection.execute(query, values).fetchall()


def count(database: str, table: str) -> int:
    return int(rows(database, f"select count(*) from {table}")[0][0])
