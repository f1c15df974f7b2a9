"""What Kafka has of the platform: the span and retention of each topic, dead letters, the engines' last beats."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import IsolationLevel, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined] # its stubs forget to export them
    AdminClient,
    ConfigResource,
    OffsetSpec,
    ResourceType,
)

from schemas import codec
from schemas.topics import topics
from sentio import kafka
from sentio.config import Settings
from sentio.kafka import Place
from sentio.letters import DEAD_SUFFIX

TIMEOUT_S = 10.0
BEATS_BACK = 50
"""Records of each partition in which the last beats are looked for: an engine beats every few seconds."""


@dataclass(frozen=True, slots=True)
class Span:
    """One topic of the platform, without its prefix."""

    name: str
    partitions: int
    first: int
    """Sum of the oldest offsets."""

    end: int
    """Sum of the next offsets."""

    dead: int
    """Dead letters there ever were."""

    dead_kept: int
    """Dead letters that are still there."""

    retention_s: float | None
    """None: kept for ever, or by key."""


@dataclass(frozen=True, slots=True)
class LastBeat:
    """The newest heartbeat of an engine."""

    engine: str
    version: str
    mode: str
    state: str
    at: datetime

    @property
    def age_s(self) -> float:
        return max(0.0, (datetime.now(UTC) - self.at).total_seconds())


def spans(settings: Settings) -> list[Span]:
    """Every topic that exists, in the order of topics.toml; raises `Retryable` when Kafka does not answer."""
    full = {name: topic.full_name(settings.topic_prefix) for name, topic in topics().items()}
    wanted = [*full.values(), *(name + DEAD_SUFFIX for name in full.values())]
    states = kafka.describe(settings.kafka, wanted)
    places = [(name, partition) for name, state in states.items() for partition in range(state.partitions)]
    admin = AdminClient(kafka.client(settings.kafka))
    offsets = _offsets(admin, settings, places)
    kept_s = _retention_s(admin, settings, states)
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for (name, _), (first, end) in offsets.items():
        sums[name][0] += first
        sums[name][1] += end
    found = []
    for name, topic in full.items():
        if topic in states:
            first, end = sums[topic]
            dead_first, dead_end = sums[topic + DEAD_SUFFIX]
            dead_kept = dead_end - dead_first
            found.append(Span(name, states[topic].partitions, first, end, dead_end, dead_kept, kept_s.get(topic)))
    return found


def kept_s(settings: Settings, found: Iterable[Span]) -> dict[str, float]:
    """For how long Kafka keeps the records of these topics, by full name; those that it deletes by time."""
    return {f"{settings.topic_prefix}.{span.name}": span.retention_s for span in found if span.retention_s is not None}


def retention_s(settings: Settings, names: Collection[str]) -> dict[str, float]:
    """The same of topics by full name, asked of Kafka; raises `Retryable`. Names that are none are left out."""
    states = kafka.describe(settings.kafka, names)
    return _retention_s(AdminClient(kafka.client(settings.kafka)), settings, states)


def last_beats(settings: Settings) -> list[LastBeat]:
    """The newest heartbeat of each engine that was heard of lately; raises `Retryable`."""
    topic = topics()["engine.heartbeat"]
    name = topic.full_name(settings.topic_prefix)
    state = kafka.describe(settings.kafka, [name]).get(name)
    if state is None:
        return []
    places = [(name, partition) for partition in range(state.partitions)]
    admin = AdminClient(kafka.client(settings.kafka))
    back = {
        place: (max(first, end - BEATS_BACK), end) for place, (first, end) in _offsets(admin, settings, places).items()
    }
    newest: dict[str, LastBeat] = {}
    for beat in _beats(settings, topic.event, back):
        if beat.engine not in newest or newest[beat.engine].at < beat.at:
            newest[beat.engine] = beat
    return sorted(newest.values(), key=lambda beat: beat.engine)


def _beats(settings: Settings, event: str, back: dict[Place, tuple[int, int]]) -> Iterator[LastBeat]:
    for messages in kafka.read(settings.kafka, back):
        values: list[Any] = [message.value() for message in messages]
        for row in codec.decode(event, values).records.to_pylist():
            yield LastBeat(row["engine"], row["version"], row["mode"], row["state"], row["beat_at"])


def _offsets(admin: AdminClient, settings: Settings, places: Collection[Place]) -> dict[Place, tuple[int, int]]:
    """(oldest, next) offset of each partition, in two requests however many there are."""
    ends = []
    for spec in (OffsetSpec.earliest(), OffsetSpec.latest()):  # type: ignore[no-untyped-call] # theirs
        try:
            ends.append(kafka.listed(admin, places, spec, isolation=IsolationLevel.READ_COMMITTED, timeout_s=TIMEOUT_S))
        except (KafkaException, TimeoutError) as failure:
            raise kafka.silent(settings.kafka, failure) from failure
    first, last = ends
    return {place: (offset, last[place]) for place, offset in first.items()}


def _retention_s(admin: AdminClient, settings: Settings, names: Iterable[str]) -> dict[str, float]:
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    found = {}
    for resource, future in admin.describe_configs(resources).items() if resources else ():
        try:
            config = {name: entry.value for name, entry in future.result(TIMEOUT_S).items()}
        except (KafkaException, TimeoutError) as failure:
            raise kafka.silent(settings.kafka, failure) from failure
        kept_ms = int(config["retention.ms"])
        if "delete" in config["cleanup.policy"] and kept_ms >= 0:
            found[resource.name] = kept_ms / 1_000
    return found
