"""The work of `sentio dead redrive` and `edit`: letters back to the one group that refused them, by its redrive topic.

Whatever is sent twice is applied once: the group knows the event by its id (consumers.ledger).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from sentio import kafka, letters, topics
from sentio.cli.buried import WEBHOOK, DeadLetter, house_topic, redriven
from sentio.config import RedriveSettings
from sentio.errors import Fatal, Retryable

FLUSH_S = 30.0
TO_BE_READ = "which reads them within seconds ('sentio lag')"
AT_MOST = 1_000
"""Records under way at a time."""


class Obstacle(Exception):
    """Why a letter is not redriven, and what to do instead."""


@dataclass(slots=True)
class Plan:
    """What of some letters is to be redriven, and why not the others."""

    letters: list[DeadLetter] = field(default_factory=list)
    obstacles: Counter[str] = field(default_factory=Counter)
    """By reason, how many."""

    already: int = 0
    """Left out, since they were redriven already, or an edited event in their place."""


@dataclass(frozen=True, slots=True)
class Edit:
    """What goes in the place of a letter's own record."""

    key: bytes
    value: bytes
    edited_from: str


def plan(settings: RedriveSettings, found: Iterable[DeadLetter], *, again: bool, limit: int | None = None) -> Plan:
    """Sort letters into what can be redriven and what cannot, up to ``limit`` of the former."""
    known = redriven(settings)
    made = Plan()
    for letter in found:
        if len(made.letters) == limit:
            break
        if known.has_edit(letter) or (known.has(letter) and not again):
            made.already += 1
            continue
        try:
            check(settings, letter)
            value_of(settings, letter)
        except Obstacle as obstacle:
            made.obstacles[str(obstacle)] += 1
        else:
            made.letters.append(letter)
    return made


def check(settings: RedriveSettings, letter: DeadLetter) -> None:
    """Raises `Obstacle` for a letter that no group of the house can take, or that went round too often."""
    prefix = f"{settings.topic_prefix}."
    if letter.group.startswith(WEBHOOK):
        raise Obstacle(
            "it came by a webhook and never was a record: mend what it says (SENTIO_WEBHOOK_TOKENS), and have its"
            " sender send it again"
        )
    if letter.group.startswith(f"{prefix}bridge."):
        raise Obstacle(
            "a bridge refused it, which reads on by itself: mend its map for what is to come, and send what this should"
            " have been by 'sentio sidecar http'"
        )
    source = letter.source
    if source is None or not letter.group.startswith(prefix):
        raise Obstacle(f"its headers do not say which group of {settings.topic_prefix} refused which record")
    if house_topic(letters.base_topic(source[0]), settings.topic_prefix) is None:
        raise Obstacle(f"{source[0]} is no topic of the house")
    if letters.redrive_pattern(letters.base_topic(source[0]), _group(settings, letter)) is None:
        raise Obstacle(f"no topic can be named after its group {letter.group}")
    if letter.count >= settings.redrive_most:
        raise Obstacle(
            f"it was redriven {letter.count} times, as often as SENTIO_REDRIVE_MOST={settings.redrive_most} allows:"
            " look at it with 'sentio dead show'"
        )


def value_of(settings: RedriveSettings, letter: DeadLetter) -> bytes:
    """The record's bytes; those that were too large for the letter come from the record's own topic, if it has them."""
    if letter.value is not None:
        return letter.value
    if letter.dropped_bytes is None:
        raise Obstacle(
            "it has no value (a tombstone): there is nothing to redrive, but 'sentio dead edit' may give it one"
        )
    for place in (letter.source, letter.origin):
        if place is not None and (value := _record(settings, *place)) is not None:
            return value
    raise Obstacle(
        f"its value of {letter.dropped_bytes:,} bytes was too large for a letter, and its topic has it no longer:"
        " 'sentio dead edit --json-file' may give it one"
    )


def send(settings: RedriveSettings, found: Sequence[DeadLetter], edit: Edit | None = None) -> str:
    """Redrive the letters, or the one with its edit; the id of this redrive.

    Raises `Retryable` for what Kafka has not taken; the others are redriven.
    """
    names = {_topic(settings, letter) for letter in found}
    topics.make_redrive_topics(settings, names)
    redrive_id = str(uuid4())
    producer = Producer(
        kafka.client(settings.kafka, name="sentio-redrive")
        | {"enable.idempotence": True, "acks": "all", "message.max.bytes": 16 << 20}
    )
    sending = _Sending(producer)
    for letter in found:
        value = edit.value if edit else value_of(settings, letter)
        headers = _headers(letter, redrive_id)
        if edit:
            headers.append((letters.EDITED_FROM, edit.edited_from.encode()))
        sending.send(_topic(settings, letter), edit.key if edit else letter.key, value, headers)
    sending.end()
    return redrive_id


class _Sending:
    """Records that are sent, a bounded number at a time, and counted when Kafka has them."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._acknowledged = 0
        self._refused: list[str] = []

    def send(self, topic: str, key: bytes | None, value: bytes, headers: letters.Headers) -> None:
        if len(self._producer) >= AT_MOST:
            self.end()
        try:
            self._producer.produce(topic, value, key, headers=headers, on_delivery=self._delivered)
        except KafkaException as failure:
            raise Fatal(f"redrive to {topic}: {failure.args[0].str()}") from failure

    def end(self) -> None:
        left = self._producer.flush(FLUSH_S)
        if left or self._refused:
            self._producer.purge()
            cause = ", ".join(sorted(set(self._refused))) or f"no answer in {FLUSH_S:.0f} s"
            raise Retryable(
                f"{self._acknowledged} redriven, {left + len(self._refused)} not: {cause};"
                " the same command goes on there"
            )

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is None:
            self._acknowledged += 1
        else:
            self._refused.append(error.str())


def _headers(letter: DeadLetter, redrive_id: str) -> letters.Headers:
    """What the record had, where it comes from, and how often it was redriven with this time."""
    ours = {letters.REDRIVE_COUNT, letters.REDRIVE_ID, *letters.ORIGIN}
    source, origin = letter.source, letter.origin
    assert source is not None
    assert origin is not None
    return [
        *((name, value) for name, value in letters.own(letter.headers) if name not in ours),
        *letters.source(letter.group, *source),
        *((name, str(part).encode()) for name, part in zip(letters.ORIGIN, origin, strict=True)),
        (letters.REDRIVE_COUNT, str(letter.count + 1).encode()),
        (letters.REDRIVE_ID, redrive_id.encode()),
    ]


def _topic(settings: RedriveSettings, letter: DeadLetter) -> str:
    source = letter.source
    assert source is not None
    return letters.redrive_topic(letters.base_topic(source[0]), _group(settings, letter))


def _group(settings: RedriveSettings, letter: DeadLetter) -> str:
    return letter.group.removeprefix(f"{settings.topic_prefix}.")


def _record(settings: RedriveSettings, topic: str, partition: int, offset: int) -> bytes | None:
    """A record's value; None when the log has it no longer."""
    place = topic, partition
    state = kafka.describe(settings.kafka, [topic]).get(topic)
    if state is None or partition >= state.partitions:
        return None
    [(oldest, end)] = kafka.spans(settings.kafka, [place]).values()
    if not oldest <= offset < end:
        return None
    for messages in kafka.read(settings.kafka, {place: (offset, offset + 1)}, at_most=1):
        return messages[0].value()
    return None
