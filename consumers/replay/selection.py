"""Which messages of a replay are written: by field, and by header. Decodes only where something asks for it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from consumers.polled import ClientMessages, Messages
from consumers.replay.source import Part
from schemas.codec import decode
from schemas.topics import Topic, topic_of_name
from sentio.conditions import all_met, condition
from sentio.errors import SettingError
from sentio.kafka import Place

UNDECODABLE = -1


@dataclass(frozen=True, slots=True)
class Chosen:
    """Messages of one topic that are to be written, in the order of each partition; maybe none."""

    topic: Topic
    messages: Messages
    indexes: Sequence[int]
    reached: Mapping[Place, int]
    """Where the replay stands once they are written."""

    read: int
    """Messages looked at for them."""

    inside: Sequence[int] = ()
    """Index of each that was looked at, as long as it is in one piece."""

    undecodable: int = 0
    records: pa.RecordBatch | None = None
    """Decoded, where that was asked for."""

    rows: Sequence[int] = ()
    """Of each message: its row of ``records``, or `UNDECODABLE`."""

    reasons: Mapping[int, str] | None = None
    """By index, of those that cannot be decoded."""

    def slices(self, size: int) -> Iterator["Chosen"]:
        """Of at most ``size`` messages each, together all of it."""
        if len(self.indexes) <= size:
            yield self
            return
        for first in range(0, len(self.indexes), size):
            yield self.between(first, min(first + size, len(self.indexes)))

    def between(self, first: int, end: int) -> "Chosen":
        """Messages [first, end) of the chosen ones; the last such piece has what was read behind them, too."""
        indexes = self.indexes[first:end]
        is_last = end == len(self.indexes)
        partitions, offsets, _ = self.messages.columns()
        topic = next(iter(self.reached))[0]
        stands = {(topic, partitions[index].as_py()): offsets[index].as_py() + 1 for index in indexes}
        return replace(
            self,
            indexes=indexes,
            rows=self.rows[first:end],
            inside=(),
            reached=self.reached if is_last else stands,
            read=len(indexes) + (self.read - len(self.indexes) if is_last else 0),
            undecodable=self.undecodable if is_last else 0,
        )

    def times_us(self) -> list[int]:
        """When each happened, µs since 1970: by the event's own time, else by that of the one before, else Kafka's."""
        logged = self.messages.columns()[2]
        if self.records is None:
            return [logged[index].as_py() * 1_000 for index in self.indexes]
        times = pc.cast(self.records[self.topic.time], pa.int64()).to_pylist()
        found: list[int] = []
        for index, row in zip(self.indexes, self.rows, strict=True):
            if row != UNDECODABLE:
                found.append(times[row])
            else:
                found.append(found[-1] if found else logged[index].as_py() * 1_000)
        return found

    def by_partition(self) -> Iterator[tuple[Place, "Chosen"]]:
        """The same, a partition at a time."""
        if len(self.reached) == 1:
            yield next(iter(self.reached)), self
            return
        partitions = self.messages.columns()[0].to_pylist()
        read = Counter(partitions[index] for index in self.inside)
        for number, (place, reached) in enumerate(self.reached.items()):
            mine = [at for at, index in enumerate(self.indexes) if partitions[index] == place[1]]
            yield (
                place,
                replace(
                    self,
                    indexes=[self.indexes[at] for at in mine],
                    rows=[self.rows[at] for at in mine] if self.rows else (),
                    inside=(),
                    reached={place: reached},
                    read=read[place[1]],
                    undecodable=self.undecodable if number == 0 else 0,
                ),
            )

    def behind(self, other: "Chosen | None") -> "Chosen":
        """Both in one, where neither has a message; it keeps nothing of what they were chosen from."""
        records = None if self.records is None else pa.RecordBatch.from_pylist([], self.records.schema)
        both = replace(self, messages=ClientMessages(()), inside=(), records=records, reasons=None)
        if other is None:
            return both
        return replace(both, read=other.read + self.read, undecodable=other.undecodable + self.undecodable)


class Selection:
    """Of FIELD=VALUE conditions (all have to be met) and KEY=VALUE headers. Raises `SettingError` for a wrong one."""

    def __init__(
        self, topics: Sequence[Topic], prefix: str, *, where: Sequence[str], headers: Sequence[str], decodes: bool
    ) -> None:
        self._prefix = prefix
        self._conditions = {topic.name: [condition(topic.event, text) for text in where] for topic in topics}
        self._headers = [_header(text) for text in headers]
        self._decodes = decodes or bool(where)

    @property
    def is_all(self) -> bool:
        return not self._headers and not any(self._conditions.values())

    def choose(self, part: Part) -> Chosen:
        topic = topic_of_name(part.topic, self._prefix)
        inside = part.inside
        if self._headers:
            inside = [index for index in inside if self._has_headers(part.messages.letter(index)[4])]
        chosen = Chosen(topic, part.messages, inside, part.reached, read=len(part.inside), inside=part.inside)
        return self._decoded(chosen) if self._decodes else chosen

    def _decoded(self, chosen: Chosen) -> Chosen:
        values = chosen.messages.values()
        inside = chosen.indexes
        decoded = decode(chosen.topic.event, values if len(inside) == len(values) else [values[i] for i in inside])
        records = decoded.records
        undecodable = len(decoded.poison)
        if conditions := self._conditions[chosen.topic.name]:
            # One that cannot be decoded meets no condition; it is counted.
            met = all_met(conditions, records)
            indexes = [inside[at] for at, wanted in zip(decoded.kept, met.to_pylist(), strict=True) if wanted]
            rows: Sequence[int] = range(len(indexes))
            return replace(chosen, indexes=indexes, records=records.filter(met), rows=rows, undecodable=undecodable)
        if not undecodable:
            return replace(chosen, records=records, rows=range(len(inside)))
        rows_of = [UNDECODABLE] * len(inside)
        for row, at in enumerate(decoded.kept):
            rows_of[at] = row
        reasons = {inside[at]: reason for at, reason in decoded.poison}
        return replace(chosen, records=records, rows=rows_of, reasons=reasons, undecodable=undecodable)

    def _has_headers(self, headers: Sequence[tuple[str, Any]]) -> bool:
        return all(wanted in headers for wanted in self._headers)


def _header(text: str) -> tuple[str, bytes]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise SettingError(f"--header {text}: KEY=VALUE")
    return name, value.encode()
