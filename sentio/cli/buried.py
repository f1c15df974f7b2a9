"""Dead letters as they lie in the log: found, read, known by what they say of themselves. Nothing is sent here."""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from confluent_kafka import Consumer, KafkaException, Message
from confluent_kafka.admin import AdminClient

from schemas.topics import Topic, topics
from sentio import kafka, letters
from sentio.config import Settings
from sentio.errors import Retryable, SettingError

Record = tuple[str, int, int]
"""(full topic name, partition, offset)"""

WEBHOOK = "webhook:"

_UUID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE)
_NUMBER = re.compile(r"\d+([.,:]\d+)*")


@dataclass(frozen=True)
class DeadLetter:
    """One letter. What its headers lack, or say wrongly, is None or empty: anyone may write to the topic."""

    place: Record
    at_ms: int
    """When it was written, milliseconds since 1970 UTC."""

    key: bytes | None
    value: bytes | None
    headers: letters.Headers

    @cached_property
    def _said(self) -> dict[str, str]:
        return {name: _text(value) for name, value in self.headers}

    @property
    def group(self) -> str:
        """The Kafka group that refused the record; `WEBHOOK` and its sender for what never was one."""
        said = self._said
        webhook = said.get(letters.SOURCE_WEBHOOK)
        return self._of(letters.SOURCE_GROUP) if webhook is None else f"{WEBHOOK}{webhook}"

    @property
    def kind(self) -> str:
        return self._of(letters.ERROR_TYPE)

    @property
    def reason(self) -> str:
        return self._of(letters.ERROR_MESSAGE)

    @property
    def source(self) -> Record | None:
        """The record that was refused."""
        names = (letters.SOURCE_TOPIC, letters.SOURCE_PARTITION, letters.SOURCE_OFFSET)
        return self._record(names)

    @property
    def origin(self) -> Record | None:
        """The record as it came at first."""
        return (self._record(letters.ORIGIN) if self._is_redriven else None) or self.source

    @property
    def count(self) -> int:
        """How often it was redriven."""
        return (_number(self._of(letters.REDRIVE_COUNT)) or 0) if self._is_redriven else 0

    @property
    def dropped_bytes(self) -> int | None:
        """Size of a value that was left out of the letter."""
        return _number(self._of(letters.DROPPED_BYTES)) if self.value is None else None

    @property
    def topic(self) -> str:
        """Full name of the topic whose dead letter it is."""
        return self.place[0].removesuffix(letters.DEAD_SUFFIX)

    @property
    def identity(self) -> tuple[object, ...]:
        """Another letter with the same is a repeat of this one."""
        return self.place if self.source is None else (self.group, *self.source)

    @property
    def names(self) -> Collection[str]:
        """Of its headers."""
        return self._said.keys()

    @property
    def is_edit(self) -> bool:
        """The event that was refused is not the record that was at its place at first, but an edited one."""
        return self._is_redriven and letters.EDITED_FROM in self._said

    @property
    def _is_redriven(self) -> bool:
        return letters.is_redrive_topic(self._of(letters.SOURCE_TOPIC))

    def _of(self, name: str) -> str:
        return self._said.get(name, "")

    def _record(self, names: tuple[str, ...]) -> Record | None:
        topic, *numbers = (self._said.get(name, "") for name in names)
        partition, offset = map(_number, numbers)
        return None if partition is None or offset is None else (topic, partition, offset)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are meant; what is not given lets all through."""

    topic: str | None = None
    """Without prefix or with it; of a bridge, its own."""

    group: str | None = None
    kind: str | None = None
    reason: str | None = None
    """Part of it."""

    since_ms: int | None = None

    def takes(self, letter: DeadLetter, prefix: str) -> bool:
        return (
            self.group in (None, letter.group, letter.group.removeprefix(f"{prefix}."))
            and self.kind in (None, letter.kind)
            and (self.reason is None or self.reason in letter.reason)
            and (self.since_ms is None or letter.at_ms >= self.since_ms)
        )


def find(settings: Settings, wanted: Filter) -> Iterator[DeadLetter]:
    """Each letter once, in the order of each topic, as far as there are any now."""
    names = _dead_topics(settings, wanted.topic)
    seen = set()
    for messages in _read(settings, names, wanted.since_ms):
        for message in messages:
            letter = of_message(message)
            if letter.identity not in seen and wanted.takes(letter, settings.topic_prefix):
                seen.add(letter.identity)
                yield letter


def at(settings: Settings, place: str, group: str | None) -> DeadLetter:
    """The letter at TOPIC:PARTITION:OFFSET, its own place or that of the record it is of; raises `SettingError`."""
    wanted = _parsed(settings, place)
    if wanted[0].endswith(letters.DEAD_SUFFIX):
        topic, partition, offset = wanted
        for messages in kafka.read(settings.kafka, {(topic, partition): (offset, offset + 1)}, at_most=1):
            return of_message(messages[0])
        raise SettingError(f"{place}: there is no dead letter at that place")
    of_topic = Filter(topic=letters.base_topic(wanted[0]), group=group)
    found = [letter for letter in find(settings, of_topic) if wanted in (letter.source, letter.origin)]
    groups = {letter.group for letter in found}
    if not found:
        raise SettingError(f"{place}: no dead letter is of that record; see 'sentio dead list'")
    if len(groups) > 1:
        raise SettingError(f"{place} was refused by {', '.join(sorted(groups))}: say which with --group")
    return found[-1]  # the newest refusal, where a redriven record was refused again


class Sent:
    """What was redriven, by the records that lie in redrive topics."""

    def __init__(self, records: Iterable[DeadLetter]) -> None:
        self._edited: dict[tuple[object, ...], bool] = {}
        self._replaced: set[tuple[object, ...]] = set()
        for each in records:
            is_edited = letters.EDITED_FROM in each.names
            self._edited[each.identity] = is_edited
            if is_edited and each.origin is not None:
                self._replaced.add((each.group, *each.origin))

    def has(self, letter: DeadLetter) -> bool:
        """The letter was redriven, or edited."""
        return letter.identity in self._edited

    def has_edit(self, letter: DeadLetter) -> bool:
        """An edited event was sent in its place, or in that of a later letter of the same record."""
        if not letter.is_edit and (letter.group, *(letter.origin or ())) in self._replaced:
            return True
        return self._edited.get(letter.identity, False)


def redriven(settings: Settings) -> Sent:
    """What was redriven already."""
    prefix = f"{settings.topic_prefix}."
    names = [name for name in _topic_names(settings) if name.startswith(prefix) and letters.is_redrive_topic(name)]
    return Sent(of_message(message) for messages in _read(settings, names, None) for message in messages)


def of_message(message: Message) -> DeadLetter:
    headers: letters.Headers = list(message.headers() or ())  # type: ignore[arg-type] # never a dict
    place = message.topic() or "", message.partition() or 0, message.offset() or 0
    return DeadLetter(place, int(message.timestamp()[1]), message.key(), message.value(), headers)


def folded(reason: str) -> str:
    """A reason without what differs from record to record."""
    return _NUMBER.sub("#", _UUID.sub("#", reason))


def house_topic(name: str, prefix: str) -> Topic | None:
    """The topic of the house with this full name."""
    return topics().get(name.removeprefix(f"{prefix}.")) if name.startswith(f"{prefix}.") else None


def text_of(place: Record, prefix: str) -> str:
    """As `at` takes it."""
    topic, partition, offset = place
    return f"{topic.removeprefix(f'{prefix}.')}:{partition}:{offset}"


def _dead_topics(settings: Settings, topic: str | None) -> list[str]:
    """Topics of dead letters: ours, and those of topics that a bridge may read. Not another platform's."""
    prefix = f"{settings.topic_prefix}."
    names = [name for name in _topic_names(settings) if name.endswith(letters.DEAD_SUFFIX)]
    if topic is not None:
        wanted = topic.removesuffix(letters.DEAD_SUFFIX) + letters.DEAD_SUFFIX
        if not (found := [name for name in names if name in (wanted, prefix + wanted)]):
            raise SettingError(f"--topic {topic}: there is no topic {prefix}{wanted.removeprefix(prefix)}")
        return found
    others = tuple(f".{name}{letters.DEAD_SUFFIX}" for name in topics())
    return [name for name in names if name.startswith(prefix) or not name.endswith(others)]


def _topic_names(settings: Settings) -> list[str]:
    admin = AdminClient(kafka.client(settings.kafka))
    try:
        return sorted(admin.list_topics(timeout=kafka.REQUEST_TIMEOUT_S).topics)
    except KafkaException as failure:
        raise Retryable(f"kafka at {settings.kafka} (SENTIO_KAFKA): {failure.args[0].str()}") from failure


def _read(settings: Settings, names: Iterable[str], since_ms: int | None) -> Iterator[list[Message]]:
    states = kafka.describe(settings.kafka, names)
    places = [(name, partition) for name, state in states.items() for partition in range(state.partitions)]
    consumer = Consumer(kafka.reader(settings.kafka))
    try:
        spans = kafka.ends(consumer, places)
        if since_ms is not None and places:
            starts = kafka.offsets_at(consumer, places, since_ms)
            spans = {place: (starts[place], end) for place, (_, end) in spans.items()}
    finally:
        consumer.close()
    return kafka.read(settings.kafka, spans)


def _parsed(settings: Settings, place: str) -> Record:
    topic, _, rest = place.partition(":")
    partition, offset = map(_number, (rest + ":").split(":")[:2])
    if not topic or partition is None or offset is None:
        raise SettingError(f"{place}: a place is TOPIC:PARTITION:OFFSET, such as trades.executed.dead:0:17")
    prefix = f"{settings.topic_prefix}."
    base = letters.base_topic(topic.removesuffix(letters.DEAD_SUFFIX))
    full = topic if topic.startswith(prefix) or base not in topics() else prefix + topic
    return full, partition, offset


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) <= len(str(2**63)) else None


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
