"""The drill: every table of a recorded week written anew beside the live ones and swapped in, while the engine trades."""

import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from datetime import date, timedelta
from pathlib import Path

import psycopg
import pytest

from producers import session, simulator
from producers.publisher import EventPublisher
from schemas.columns import HEADER
from schemas.events import Event
from schemas.topics import stored_topics, topic_of_event
from sentio import kafka as kafka_access
from sentio.config import ConsumerSettings
from sentio.testing.servers import Kafka
from tests.data import DATA
from tests.pipeline import consumer_settings, in_thread, publisher_settings, rows, until
from tests.shadows import await_read, dsn, sentio
from tests.ways import sentio_process

MONDAY = date(2025, 10, 6)
SHADOW = "shadow_drill"
GROUPS = ("store", "aggregates")
SLOW_S = 0.001

DAMAGE = {
    "trades": (
        "delete from trades where sequence % 3 = 0",
        "update trades set price = price * 2 where sequence % 7 = 1",
    ),
    "signals": ("truncate signals",),
    "positions": ("update positions set account = 'nobody' where sequence % 2 = 0",),
    "performance": ("update performance set minute_at = minute_at + interval '1 year' where sequence % 5 = 0",),
    "windows": ("delete from windows where kind = 'DAY'", "update windows set fees = fees + 1 where kind <> 'DAY'"),
}


def day_of_week(number: int) -> Iterator[Event]:
    """A day as it was recorded; a simulated one where there is no recording."""
    day = MONDAY + timedelta(days=number)
    folder = DATA / "session" / day.isoformat()
    return session.events(folder) if folder.is_dir() else simulator.events(seed=number, day=day, minutes=60)


class Engine:
    """Publishes, and keeps what it published."""

    def __init__(self, settings: ConsumerSettings) -> None:
        self.published: list[Event] = []
        self._settings = settings

    def publish(self, events: Iterator[Event], *, pause_s: float = 0) -> None:
        with EventPublisher(publisher_settings(self._settings), name="engine") as publisher:
            for event in events:
                publisher.publish(event)
                self.published.append(event)
                if pause_s:
                    time.sleep(pause_s)

    @contextmanager
    def trading(self) -> Iterator[None]:
        """Friday, and as many simulated days after it as it takes."""
        stop = threading.Event()

        def traffic() -> Iterator[Event]:
            yield from day_of_week(4)
            for number in range(7, 1_000):
                for event in simulator.events(seed=number, day=MONDAY + timedelta(days=number)):
                    if stop.is_set():
                        return
                    yield event

        with in_thread(lambda: self.publish(traffic(), pause_s=SLOW_S), stop):
            yield

    def records(self, group: str) -> int:
        """How many there are of the topics that a group reads."""
        wanted = None if group == "store" else {"TradeExecuted", "PerformanceMinute"}
        stored = {topic.event for topic in stored_topics()}
        return sum(type(event).__name__ in (wanted or stored) for event in self.published)


def source(engine: Engine) -> dict[str, Counter[tuple[object, ...]]]:
    found: dict[str, Counter[tuple[object, ...]]] = {topic.table or "": Counter() for topic in stored_topics()}
    for event in engine.published:
        if table := topic_of_event(type(event).__name__).table:
            found[table][tuple(getattr(event, name) for name in _names(type(event)))] += 1
    return found


def stored(settings: ConsumerSettings) -> dict[str, Counter[tuple[object, ...]]]:
    from schemas import events

    names = {topic.table or "": _names(getattr(events, topic.event)) for topic in stored_topics()}
    return {table: Counter(rows(dsn(settings), f"select {', '.join(of)} from {table}")) for table, of in names.items()}


def _names(kind: type[Event]) -> list[str]:
    return [field.name for field in fields(kind) if field.name not in HEADER]


def logged(settings: ConsumerSettings) -> dict[tuple[str, int], int]:
    """End of each partition that has records."""
    places = [
        (topic.full_name(settings.topic_prefix), partition)
        for topic in stored_topics()
        for partition in range(settings.partitions)
    ]
    return {place: end for place, (_, end) in kafka_access.spans(settings.kafka, places).items() if end}


@pytest.fixture
def settings(kafka: Kafka, database: str) -> ConsumerSettings:
    return consumer_settings(kafka.bootstrap, kafka.prefix, database)


@pytest.mark.timeout(400)
def test_every_table_of_a_week_is_rebuilt_and_swapped_in_while_the_engine_trades_on(
    settings: ConsumerSettings, tmp_path: Path
) -> None:
    engine = Engine(settings)
    with ExitStack() as stack:

        def run(*arguments: str) -> "subprocess.Popen[bytes]":
            log = tmp_path / "-".join(arguments)
            return stack.enter_context(sentio_process(settings, log, "run", *arguments, SENTIO_DATABASE=dsn(settings)))

        for group in GROUPS:
            run(group)
        for number in range(4):
            engine.publish(day_of_week(number))
        for group in GROUPS:
            await_read(settings, group, engine.records(group))
        with psycopg.connect(dsn(settings)) as connection:
            for statement in (statement for table in DAMAGE.values() for statement in table):
                assert connection.execute(statement).rowcount

        with engine.trading():
            members = [run(group, "--into", SHADOW) for group in GROUPS]
            for group in GROUPS:
                await_read(settings, f"{group}.{SHADOW}", engine.records(group))
            told = sentio(settings, "verify", "--against", SHADOW, "--json", "--wait", "0")
            assert told.exit_code == 1, told.output
            found = [json.loads(line) for line in told.output.splitlines() if line.startswith("{")]
            assert {each["table"] for each in found[:-1]} >= DAMAGE.keys() - {"windows"}
            swapped = sentio(settings, "swap", SHADOW, "--yes", "--json", "--wait", "60")
            assert swapped.exit_code == 0, swapped.output
            before = len(engine.published)
            until(lambda: len(engine.published) > before)
        mended = {each["table"] for each in json.loads(swapped.stdout) if each["added"] + each["changed"]}
        assert mended >= DAMAGE.keys()  # and what the shadow had read and the live group had not

        for group in GROUPS:
            await_read(settings, group, engine.records(group))
        for member in members:
            assert member.wait(30) == 1  # it says that nothing is left to do
    assert stored(settings) == source(engine)
    assert sentio(settings, "verify", "--wait", "30").output.startswith("all ")
    stands = "select topic, partition, next_offset from consumer_offsets where group_name = 'store' and next_offset > 0"
    assert {(topic, partition): offset for topic, partition, offset in rows(dsn(settings), stands)} == logged(settings)
    assert rows(dsn(settings), "select distinct group_name from consumer_offsets order by 1") == [
        ("aggregates",),
        ("store",),
    ]
