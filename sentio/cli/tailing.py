"""The work of `sentio tail`: reads a topic without a group, decodes, filters, prints."""

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, Message, TopicPartition
from rich.console import Console
from rich.text import Text

from schemas.codec import decode
from schemas.columns import HEADER
from sentio import kafka
from sentio.asked import duration_ms, log_time, topic_of
from sentio.conditions import all_met, condition
from sentio.config import Settings, load
from sentio.errors import Fatal
from sentio.rows import documents


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
        self._topic = topic_of(topic, self._settings.topic_prefix)
        self._name = self._topic.full_name(self._settings.topic_prefix)
        self._since_ms = None if since is None else int(time.time() * 1000) - duration_ms("--from", since)
        self._offset = offset
        self._where = [condition(self._topic.event, text) for text in where]
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
        wanted = iter(all_met(self._where, decoded.records).to_pylist() if self._where else [True] * len(decoded.kept))
        rows = documents(decoded.records)
        for index, message in enumerate(messages):
            place = {
                "partition": message.partition(),
                "offset": message.offset(),
                "at_ms": message.timestamp()[1],
            }
            if index in reasons:
                yield {**place, "undecodable": reasons[index]}
                continue
            row = next(rows)
            if next(wanted):
                yield place | row

    def _print(self, row: dict[str, Any]) -> None:
        if self._as_json:
            print(json.dumps(row), flush=True)
            return
        at = log_time(row.pop("at_ms")).strftime("%H:%M:%S.%f")[:-3]
        place = f"{row.pop('partition')}:{row.pop('offset')}"
        line = Text.assemble((at, "cyan"), (f" {place:>8}", "dim"))
        for name, value in row.items():
            if name not in HEADER:
                # One event is one line, whatever its text holds.
                line.append(f"  {name} ", "dim").append(str(value).encode("unicode_escape").decode("ascii"))
        self._console.print(line, soft_wrap=True)
        self._console.file.flush()
