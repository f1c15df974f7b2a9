"""The work of `sentio tail`: reads a topic without a group, decodes, filters, prints."""

import json
import re
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from confluent_kafka import OFFSET_END, Consumer, Message, TopicPartition
from rich.console import Console
from rich.text import Text

from schemas.codec import decode
from schemas.columns import HEADER, arrow_schema
from schemas.topics import Topic, topics
from sentio import kafka
from sentio.config import Settings, load
from sentio.errors import Fatal, SettingError

_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Tail:
    """One run of the command; see `sentio tail --help` for the arguments."""

    def __init__(
        self,
        topic: str,
        *,
        since: str | None,
        offset: int | None,
        where: Sequence[str],
        limit: int | None,
        as_json: bool,
        follow: bool,
    ) -> None:
        self._settings = load(Settings)
        self._topic = _topic(topic.removeprefix(f"{self._settings.topic_prefix}."))
        self._name = self._topic.full_name(self._settings.topic_prefix)
        self._since_ms = None if since is None else int(time.time() * 1000) - parse_duration_ms(since)
        self._offset = offset
        self._where = [_condition(self._topic, text) for text in where]
        self._limit = limit
        self._as_json = as_json
        self._follow = follow
        self._console = Console()

    def run(self) -> None:
        consumer = Consumer(kafka.reader(self._settings.kafka, name="sentio-tail"))
        try:
            shown = 0
            for messages in self._read(consumer):
                for row in self._rows(messages):
                    self._print(row)
                    shown += 1
                    if shown == self._limit:
                        return
        finally:
            consumer.close()

    def _read(self, consumer: Consumer) -> Iterator[list[Message]]:
        state = kafka.describe(self._settings.kafka, [self._name]).get(self._name)
        if state is None:
            raise Fatal(f"topic {self._name} does not exist; create it with 'sentio topics apply'")
        places = [(self._name, partition) for partition in range(state.partitions)]
        ends = kafka.ends(consumer, places)
        starts = self._starts(consumer, ends)
        consumer.assign([TopicPartition(*place, starts[place]) for place in places])
        left = {place for place in places if starts[place] not in (OFFSET_END, ends[place][1])}
        while self._follow or left:
            messages = []
            for message in consumer.consume(1_000, 0.1):
                place = (message.topic() or "", message.partition() or 0)
                if message.error() is None:
                    messages.append(message)
                if (message.offset() or 0) >= ends[place][1] - 1:
                    left.discard(place)
            if messages:
                yield messages

    def _starts(self, consumer: Consumer, ends: dict[kafka.Place, tuple[int, int]]) -> dict[kafka.Place, int]:
        if self._since_ms is not None:
            return kafka.offsets_at(consumer, ends, self._since_ms)
        if self._offset is not None:
            return {place: min(max(self._offset, low), high) for place, (low, high) in ends.items()}
        if self._follow:
            return dict.fromkeys(ends, OFFSET_END)
        return {place: low for place, (low, _) in ends.items()}

    def _rows(self, messages: list[Message]) -> Iterator[dict[str, Any]]:
        decoded = decode(self._topic.event, [message.value() for message in messages])
        reasons = dict(decoded.poison)
        rows = iter(decoded.records.to_pylist())
        for index, message in enumerate(messages):
            place = {
                "partition": message.partition(),
                "offset": message.offset(),
                "at_ms": message.timestamp()[1],
            }
            if index in reasons:
                yield {**place, "undecodable": reasons[index]}
                continue
            row = {name: plain(value) for name, value in next(rows).items()}
            if all(str(row[name]) == value for name, value in self._where):
                yield {**place, **row}

    def _print(self, row: dict[str, Any]) -> None:
        if self._as_json:
            print(json.dumps(row), flush=True)
            return
        at = datetime.fromtimestamp(row.pop("at_ms") / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
        place = f"{row.pop('partition')}:{row.pop('offset')}"
        line = Text.assemble((at, "cyan"), (f" {place:>8}", "dim"))
        for name, value in row.items():
            if name not in HEADER:
                # One event is one line, whatever its text holds.
                line.append(f"  {name} ", "dim").append(str(value).encode("unicode_escape").decode("ascii"))
        self._console.print(line, soft_wrap=True)
        self._console.file.flush()


def parse_duration_ms(text: str, option: str = "--from") -> int:
    """Milliseconds of 30s, 10m, 1h or 2d; raises `SettingError`."""
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise SettingError(f"{option} {text}: a number and s, m, h or d, such as 1h")
    return int(match[1]) * _UNITS_S[match[2]] * 1000


def _topic(name: str) -> Topic:
    if name not in topics():
        raise SettingError(f"topic {name}: it may be one of {', '.join(topics())}")
    return topics()[name]


def _condition(topic: Topic, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    names = arrow_schema(topic.event).names
    if not equals or name not in names:
        raise SettingError(f"--where {text}: FIELD=VALUE with one of {', '.join(names)}")
    return name, value


def plain(value: object) -> object:
    """A field's value as JSON holds it."""
    match value:
        case bytes():
            return str(UUID(bytes=value))
        case UUID():
            return str(value)
        case Decimal():
            return f"{value:f}".rstrip("0").rstrip(".") if value.as_tuple().exponent else str(value)
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
    return value
