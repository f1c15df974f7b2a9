"""A consumer that notes what it is asked, and what tests of the group's loop do to it and to the fake broker."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from confluent_kafka import Message

from consumers.consumer import Consumer
from consumers.group import Group
from sentio.batch import Batch
from sentio.config import ConsumerSettings, load
from sentio.errors import Retryable
from sentio.kafka import Place
from sentio.testing.fake import FakeBroker
from tests.samples import encoded, trade

GROUP = "t.notebook"
TOPIC = "t.trades.executed"
PARTITIONS = 2
SETTINGS = load(ConsumerSettings, kafka="fake", topic_prefix="t", batch_wait_ms=20)
DEADLINE_S = 10.0

Offsets = dict[int, list[int]]
"""By partition."""


class Notebook(Consumer):
    """Notes what it is asked; ``process`` first does what the test says."""

    name: ClassVar[str] = "notebook"
    topics: ClassVar[Sequence[str]] = ["trades.executed"]

    def __init__(self, behave: Callable[[Batch], None] = lambda _: None) -> None:
        self.behave = behave
        self.asked: list[Batch] = []
        self.done: list[Batch] = []
        self.lost: list[Place] = []
        self.is_closed = False

    def process(self, batch: Batch) -> None:
        self.asked.append(batch)
        self.behave(batch)
        self.done.append(batch)

    def revoked(self, places: Sequence[Place]) -> None:
        self.lost += places

    def close(self) -> None:
        self.is_closed = True

    def offsets(self) -> Offsets:
        """Of what is done, in its order."""
        return offsets(*self.done)


class Ledger(Notebook):
    """Its offsets are its own."""

    owns_offsets = True

    def __init__(self, behave: Callable[[Batch], None] = lambda _: None) -> None:
        super().__init__(behave)
        self.stands: dict[Place, int] = {}
        self.claims: list[dict[Place, str]] = []

    def assigned(self, topic_ids: Mapping[Place, str]) -> Mapping[Place, int]:
        self.claims.append(dict(topic_ids))
        return {place: offset for place, offset in self.stands.items() if place in topic_ids}


class Failing:
    """Fails until it is mended."""

    def __init__(self) -> None:
        self.tries = 0
        self._mended = threading.Event()

    def mend(self) -> None:
        self._mended.set()

    def __call__(self, _: Batch) -> None:
        self.tries += 1
        if not self._mended.is_set():
            raise Retryable("the database is away")


class Once:
    """Raises one exception, at the first batch."""

    def __init__(self, failure: Exception) -> None:
        self._failures = [failure]

    def __call__(self, _: Batch) -> None:
        if self._failures:
            raise self._failures.pop()


def send(broker: FakeBroker, *values: bytes | None, partition: int = 0, **more: Any) -> None:
    producer = broker.producer({})
    for value in values:
        producer.produce(TOPIC, value, partition=partition, **more)


def good(count: int = 1, first: int = 0) -> list[bytes]:
    return [encoded(trade(number), number=number) for number in range(first, first + count)]


def offsets(*batches: Batch) -> Offsets:
    found: Offsets = {}
    for batch in batches:
        for partition, offset in batch.places():
            found.setdefault(partition, []).append(offset)
    return found


def headers(letter: Message) -> dict[str, str]:
    return {name: value.decode() for name, value in dict(letter.headers() or ()).items() if isinstance(value, bytes)}


def run_to_its_end(broker: FakeBroker, consumer: Consumer, settings: ConsumerSettings = SETTINGS) -> None:
    """Run until it raises; comes back without an error when it does not."""
    stop = threading.Event()
    guard = threading.Timer(DEADLINE_S, stop.set)
    guard.start()
    try:
        Group(consumer, settings, stop=stop, connect=broker.consumer).run()
    finally:
        guard.cancel()
