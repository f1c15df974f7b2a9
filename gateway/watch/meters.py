"""How the platform is doing beside what it says: lag, throughput, dead letters, heartbeats, who is connected."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined] # its stubs forget to export them

from gateway import clients
from gateway.database import Pool
from gateway.stream.product import MOST, OTHER
from gateway.watch import replays
from schemas import codec
from schemas.topics import topics
from sentio import kafka, lag, log, survey
from sentio.asked import log_time
from sentio.config import WatchSettings
from sentio.errors import Retryable
from sentio.kafka import Place
from sentio.letters import DEAD_SUFFIX

FOR_EVER_S = 10.0 * 365 * 86_400
"""Retention left of a group that reads only what Kafka keeps for ever; a number, as JSON has no infinity."""

RATE_S = 10.0
"""Over which a throughput is taken."""

ERRORS_S = 300.0
"""Over which dead letters are counted."""

DESCRIBED_S = 60.0
"""For how long the topics and partitions that were found are taken for all: more may be made at any time."""

ANSWER_S = 5.0
ENGINES = "engine.heartbeat"
REPLAY = "replay."
"""What the groups that replays keep their place with begin with (`consumers.replay.topic`)."""

MOST_ENGINES = 100


@dataclass(frozen=True, slots=True)
class GroupLag:
    """One consumer group, over all of its partitions."""

    group: str
    records: int
    seconds: float
    """Age of its oldest unread record."""

    retention_left_s: float
    """How long from now Kafka may delete what it has not read yet."""


@dataclass(frozen=True, slots=True)
class TopicRate:
    topic: str
    per_s: float
    dead: int
    """Dead letters of the last five minutes."""

    dead_total: int
    """All that Kafka still keeps."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What an engine said of itself last."""

    engine: str
    version: str
    mode: str
    state: str
    beat_at: datetime
    heard_at: datetime
    """Kafka's time of the record: the engine's clock may be that of a day that is played again."""


def group_lags(settings: WatchSettings) -> list[GroupLag]:
    """Of every group of the platform, the one with least retention left first. Raises `Retryable`.

    That of a replay into a topic is none: how far it is, is the replay's own business, and no alert.
    """
    own = f"{settings.topic_prefix}."
    rows = [row for row in lag.lags(settings) if not row.group.removeprefix(own).startswith(REPLAY)]
    found: dict[str, list[lag.Behind]] = {}
    for (group, _), one in lag.by_topic(rows, survey.retention_s(settings, {row.topic for row in rows})).items():
        found.setdefault(group.removeprefix(own), []).append(one)
    made = []
    for group, topics_of_it in found.items():
        left_s = [one.retention_left_s for one in topics_of_it if one.retention_left_s is not None]
        oldest_s = max(one.oldest_unread_s for one in topics_of_it)
        made.append(
            GroupLag(group, sum(one.records for one in topics_of_it), oldest_s, min(left_s, default=FOR_EVER_S))
        )
    return sorted(made, key=lambda one: (one.retention_left_s, one.group))


class Throughput:
    """Ends of all topics, looked at again and again. Of one thread."""

    def __init__(self, settings: WatchSettings) -> None:
        self._settings = settings
        self._admin: AdminClient
        """A new one for every description: for a minute it goes on with the partitions that it knows."""

        self._places: list[Place] = []
        self._samples: deque[tuple[float, dict[str, int]]] = deque()
        self._begins: dict[str, int] = {}
        self._described_s: float | None = None

    def look(self) -> list[TopicRate]:
        """Rates and dead letters now. Raises `Retryable`."""
        now_s = time.monotonic()
        if self._described_s is None or now_s >= self._described_s + DESCRIBED_S:
            self._describe()
            self._described_s = now_s = time.monotonic()
        ends = self._ends(self._places, OffsetSpec.latest())  # type: ignore[no-untyped-call] # theirs has no types
        self._samples.append((now_s, ends))
        while self._samples[0][0] < now_s - ERRORS_S:
            self._samples.popleft()
        before_s, before = next((s for s in reversed(self._samples) if s[0] <= now_s - RATE_S), self._samples[0])
        oldest = self._samples[0][1]
        made = []
        for topic in topics().values():
            name = topic.full_name(self._settings.topic_prefix)
            dead = name + DEAD_SUFFIX
            new = ends.get(name, 0) - before.get(name, 0)
            made.append(
                TopicRate(
                    topic.name,
                    round(new / (now_s - before_s), 1) if now_s > before_s else 0.0,
                    ends.get(dead, 0) - oldest.get(dead, 0),
                    ends.get(dead, 0) - self._begins.get(dead, 0),
                )
            )
        return made

    def _describe(self) -> None:
        """Which partitions there are now, and where dead letters begin by now."""
        self._admin = AdminClient(kafka.client(self._settings.kafka, name="sentio-watcher"))
        names = [topic.full_name(self._settings.topic_prefix) for topic in topics().values()]
        states = kafka.describe(self._settings.kafka, [name + end for name in names for end in ("", DEAD_SUFFIX)])
        self._places = [(name, number) for name, state in states.items() for number in range(state.partitions)]
        letters = [place for place in self._places if place[0].endswith(DEAD_SUFFIX)]
        self._begins = self._ends(letters, OffsetSpec.earliest())  # type: ignore[no-untyped-call] # theirs has no types

    def _ends(self, places: list[Place], spec: Any) -> dict[str, int]:
        """Sum of the offsets of each topic's partitions."""
        sums: dict[str, int] = {}
        try:
            for (topic, _), offset in kafka.listed(self._admin, places, spec, timeout_s=ANSWER_S).items():
                sums[topic] = sums.get(topic, 0) + offset
        except (KafkaException, TimeoutError) as failure:
            self._described_s = None
            raise Retryable(f"kafka at {self._settings.kafka} (SENTIO_KAFKA): {failure}") from failure
        return sums


class Beats:
    """The newest beat of each engine."""

    def __init__(self, settings: WatchSettings) -> None:
        self._settings = settings
        self._next: dict[Place, int] = {}
        self._engines: dict[str, Engine] = {}

    def look(self) -> list[Engine]:
        """Raises `Retryable`."""
        for messages in self._news():
            decoded = codec.decode(topics()[ENGINES].event, [message.value() for message in messages])
            for index, row in zip(decoded.kept, decoded.records.to_pylist(), strict=True):
                heard_at = log_time(messages[index].timestamp()[1])
                known = self._engines.get(row["engine"])
                if known is None or heard_at >= known.heard_at:
                    said = {name: row[name] for name in ("engine", "version", "mode", "state", "beat_at")}
                    self._engines[row["engine"]] = Engine(**said, heard_at=heard_at)
        newest = sorted(self._engines.values(), key=lambda one: one.heard_at, reverse=True)[:MOST_ENGINES]
        self._engines = {one.engine: one for one in newest}
        return newest

    def _news(self) -> Iterator[list[Any]]:
        name = topics()[ENGINES].full_name(self._settings.topic_prefix)
        state = kafka.describe(self._settings.kafka, [name]).get(name)
        if state is None:
            return
        spans = kafka.spans(self._settings.kafka, [(name, number) for number in range(state.partitions)])
        news = {p: (max(first, self._next.get(p, 0)), end) for p, (first, end) in spans.items()}
        yield from kafka.read(self._settings.kafka, news)
        self._next = {place: end for place, (_, end) in spans.items()}


def connected(settings: WatchSettings) -> list[dict[str, Any]] | None:
    """Clients by instance of the stream and by what they say they are; None where no Redis tells."""
    if settings.redis is None:
        return None
    found = clients.connected(settings)
    named = {product for product, _ in Counter(one.product for one in found).most_common(MOST)}
    counts = Counter((one.instance, one.product if one.product in named else OTHER) for one in found)
    return [
        {"instance": instance, "client": product, "count": count}
        for (instance, product), count in sorted(counts.items())
    ]


class Meters:
    """All of it, each as often as it is worth. Of one thread; what cannot be had keeps its last value, and says why."""

    def __init__(self, settings: WatchSettings, connections: Pool) -> None:
        throughput, beats = Throughput(settings), Beats(settings)
        self._asked: dict[str, tuple[float, Callable[[], Any]]] = {
            "topics": (1.0, throughput.look),
            "engines": (2.0, beats.look),
            "groups": (2.0, lambda: group_lags(settings)),
            "clients": (5.0, lambda: connected(settings)),
            "replays": (2.0, lambda: replays.newest(connections)),
        }
        self._due_s = dict.fromkeys(self._asked, 0.0)
        self._once = log.OncePer()
        self.known: dict[str, Any] = {"topics": [], "engines": [], "groups": [], "clients": None, "replays": []}
        self.wrong: dict[str, str] = {}
        """What could not be had, and why."""

    def look(self) -> None:
        """Ask for what is due."""
        for name, (every_s, ask) in self._asked.items():
            began_s = time.monotonic()
            if began_s < self._due_s[name]:
                continue
            try:
                self.known[name] = ask()
                self.wrong.pop(name, None)
            except Retryable as failure:
                self.wrong[name] = str(failure)
                if self._once.due(name):
                    log.get().warning("waiting, will try again", what=name, cause=str(failure))
            # What takes long, as lag does when all are behind, is asked for less often.
            self._due_s[name] = time.monotonic() + max(every_s, 2 * (time.monotonic() - began_s))
