"""What there is to be replayed: the log, asked while a plan is made. An archive answers the same (`archived`)."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from confluent_kafka import Consumer

from consumers.replay.job import Spans
from sentio import kafka
from sentio.errors import Fatal
from sentio.kafka import Place


class Seen(NamedTuple):
    """As much of a record as a plan looks at."""

    timestamp_ms: int
    key: bytes | None
    value: bytes | None


class Held(Protocol):
    """Where records are, by partition and offset. Raises `Retryable` when it does not answer."""

    name: str
    """What it is called where something is missing from it."""

    further: str
    """Said then: what has more."""

    def topic_ids(self, names: Iterable[str], /) -> dict[str, str]:
        """Kafka's, of topics by full name; raises `Fatal` for one that is not there."""
        ...

    def bounds(self, names: Iterable[str], /) -> dict[Place, tuple[int, int]]:
        """(oldest, next) offset of every partition of these topics."""
        ...

    def offsets_at(self, places: Iterable[Place], time_ms: int, /) -> dict[Place, int]:
        """First offset of each partition whose record is not older than that; its end where there is none."""
        ...

    def records(self, spans: Spans, /) -> Mapping[Place, list[Seen]]:
        """All that is in these spans, which are short."""
        ...


class LogHeld:
    """The log."""

    name = "log"
    further = "; where there is an archive, --from-archive reaches further"

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    def topic_ids(self, names: Iterable[str]) -> dict[str, str]:
        return {name: state.id for name, state in self._states(names).items()}

    def bounds(self, names: Iterable[str]) -> dict[Place, tuple[int, int]]:
        states = self._states(names)
        places = [(name, partition) for name in states for partition in range(states[name].partitions)]
        return kafka.spans(self._bootstrap, places)

    def offsets_at(self, places: Iterable[Place], time_ms: int) -> dict[Place, int]:
        consumer = Consumer(kafka.reader(self._bootstrap, name="sentio-replay"))
        try:
            return kafka.offsets_at(consumer, places, time_ms)
        finally:
            consumer.close()

    def records(self, spans: Spans) -> Mapping[Place, list[Seen]]:
        found: dict[Place, list[Seen]] = {place: [] for place in spans}
        for messages in kafka.read(self._bootstrap, spans) if spans else ():
            for message in messages:
                place = (message.topic() or "", message.partition() or 0)
                found[place].append(Seen(message.timestamp()[1], message.key(), message.value()))
        return found

    def _states(self, names: Iterable[str]) -> dict[str, kafka.TopicState]:
        wanted = list(names)
        states = kafka.describe(self._bootstrap, wanted)
        if missing := set(wanted) - states.keys():
            raise Fatal(f"topic {min(missing)} does not exist; create it with 'sentio topics apply'")
        return states
