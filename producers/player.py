"""Plays a source into the log at a chosen speed, and goes on where a killed play ended."""

import threading
import time
from collections.abc import Iterable

from producers.publisher import EventPublisher
from schemas.codec import decode
from schemas.events import Event
from schemas.topics import topic_of_event, topics
from sentio import kafka
from sentio.config import Settings

NAME = "player"
AHEAD = 20_000
"""Events in flight at which a play at full speed waits for the log: nothing is lost for being fast."""


def play(events: Iterable[Event], publisher: EventPublisher, *, speed: float | None, stop: threading.Event) -> None:
    """Publish ``events``, paced by their own times: ``speed`` 1 is real time, 60 a minute a second, None full speed.

    Returns when all are published or ``stop`` is set; raises what ``events`` raises, after what came before.
    """
    started_s = time.monotonic()
    first_s: float | None = None
    for place, event in enumerate(events):
        if speed is not None:
            at_s = getattr(event, topic_of_event(type(event).__name__).time).timestamp()
            first_s = at_s if first_s is None else first_s
            stop.wait(max(0.0, started_s + (at_s - first_s) / speed - time.monotonic()))
        elif place % 1_000 == 0:
            while publisher.counters().waiting > AHEAD and not stop.is_set():
                stop.wait(0.01)
        if stop.is_set():
            return
        publisher.publish(event)


def sequences_on_log(settings: Settings, producer: str, *, stop: threading.Event) -> frozenset[int]:
    """Sequences of ``producer`` that the log holds already; raises `Retryable` when it cannot be read.

    What it gives when ``stop`` was set is not all, and nothing may be played by it.
    """
    found: set[int] = set()
    names = {topic.full_name(settings.topic_prefix): topic.event for topic in topics().values()}
    states = kafka.describe(settings.kafka, names)
    places = [(name, partition) for name, state in states.items() for partition in range(state.partitions)]
    for messages in kafka.read(settings.kafka, kafka.spans(settings.kafka, places), stop=stop.is_set):
        by_event: dict[str, list[bytes | None]] = {}
        for message in messages:
            by_event.setdefault(names[message.topic() or ""], []).append(message.value())
        for event, values in by_event.items():
            records = decode(event, values).records
            of = zip(records["producer"].to_pylist(), records["sequence"].to_pylist(), strict=True)
            found.update(sequence for who, sequence in of if who == producer)
    return frozenset(found)
