"""Live groups and shadows in threads, and the commands about them, on a platform of a test."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from typer.testing import CliRunner, Result

from consumers.aggregates.aggregates import Aggregates
from consumers.shadow import Shadow, into
from consumers.store.store import Store
from producers.publisher import EventPublisher
from schemas.events import Event
from schemas.topics import stored_topics
from sentio.cli.differing import WINDOW_FIGURES, WINDOW_KEY
from sentio.cli.main import app
from sentio.config import ConsumerSettings
from tests.pipeline import publisher_settings, rows, running, until

KINDS = (Store, Aggregates)

Tables = dict[str, list[tuple[object, ...]]]


def dsn(settings: ConsumerSettings) -> str:
    return settings.database.get_secret_value()


def publish(settings: ConsumerSettings, events: Sequence[Event], name: str = "engine") -> None:
    with EventPublisher(publisher_settings(settings), name=name) as publisher:
        for event in events:
            publisher.publish(event)


@contextmanager
def live(settings: ConsumerSettings) -> Iterator[None]:
    """Store and aggregates."""
    with ExitStack() as members:
        for kind in KINDS:
            members.enter_context(running(kind(settings), settings))
        yield


@contextmanager
def rebuilding(settings: ConsumerSettings, shadow: Shadow) -> Iterator[None]:
    """Both again, into a shadow."""
    with ExitStack() as members:
        for kind in KINDS:
            members.enter_context(running(into(kind, shadow)(settings), settings))
        yield


def sentio(settings: ConsumerSettings, *arguments: str) -> Result:
    values = {
        "SENTIO_DATABASE": dsn(settings),
        "SENTIO_KAFKA": settings.kafka,
        "SENTIO_TOPIC_PREFIX": settings.topic_prefix,
        "COLUMNS": "150",
    }
    return CliRunner().invoke(app, arguments, env=values)


def await_read(settings: ConsumerSettings, group: str, records: int) -> None:
    """Until a group has read so many records of each of its topics' logs in all."""
    until(lambda: read(settings, group) >= records, timeout_s=100)


def read(settings: ConsumerSettings, group: str) -> int:
    query = "select coalesce(sum(next_offset) filter (where next_offset > 0), 0) from consumer_offsets where group_name = %s"
    return int(rows(dsn(settings), query, group)[0][0])


def tables(settings: ConsumerSettings) -> Tables:
    """All events and windows, without what says how often a window was written."""
    found = {}
    for topic in stored_topics():
        found[topic.table or ""] = rows(dsn(settings), f"select * from {topic.table} order by {topic.time}, event_id")
    found["windows"] = rows(
        dsn(settings),
        f"select {', '.join((*WINDOW_KEY, *WINDOW_FIGURES))} from windows order by {', '.join(WINDOW_KEY)}",
    )
    return found
