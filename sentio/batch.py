"""The unit of work of every consumer: the records of one topic from one poll, as columns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from schemas.topics import Topic


@dataclass(frozen=True, slots=True)
class Range:
    """Offsets of one partition that a batch accounts for: from ``first`` up to, not including, ``next``.

    Gaps inside are normal (transaction markers, compaction, dead letters).
    """

    first: int
    next: int
    refused: tuple[int, ...] = ()
    """Offsets in it of what became dead letters."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one topic; row i of every array and of ``records`` is the same message."""

    topic: Topic
    records: pa.RecordBatch
    """Columns of the topic's event, newest schema (`schemas.columns.arrow_schema`)."""

    partitions: pa.Int32Array
    offsets: pa.Int64Array
    timestamps_ms: pa.Int64Array
    """Kafka's record timestamps, milliseconds since 1970 UTC."""

    ranges: Mapping[int, Range]
    """By partition. Covers messages that were dropped or dead-lettered too, so may be wider than the rows."""

    redrive_topic: str | None = None
    """Full name of the topic by which these records came again, having been dead letters of this group."""

    originals: pa.RecordBatch | None = None
    """Key, value and headers of each row as they are in the log, for a consumer that ``wants_originals``."""

    def __len__(self) -> int:
        return int(self.records.num_rows)

    def log_name(self, prefix: str) -> str:
        """Full name of the topic that the offsets are of."""
        return self.redrive_topic or self.topic.full_name(prefix)

    def places(self) -> list[tuple[int, int]]:
        """(partition, offset) of each row."""
        return list(zip(self.partitions.to_pylist(), self.offsets.to_pylist(), strict=True))

    def where(self, keep: Sequence[bool] | pa.BooleanArray) -> "Batch":
        """The rows for which ``keep`` is true; the ranges stay, since the others are accounted for."""
        mask = keep if isinstance(keep, pa.Array) else pa.array(keep, pa.bool_())
        return self._each(lambda column: column.filter(mask))

    def rows(self, first: int, end: int) -> "Batch":
        """Rows [first, end), without a copy; the ranges stay."""
        return self._each(lambda column: column.slice(first, end - first))

    def only(self, partitions: set[int]) -> "Batch":
        """The part of the batch in these partitions, ranges included."""
        kept = self.where([partition in partitions for partition in self.partitions.to_pylist()])
        ranges = {partition: span for partition, span in self.ranges.items() if partition in partitions}
        return replace(kept, ranges=ranges)

    def _each(self, change: Callable[[pa.RecordBatch | pa.Array], pa.RecordBatch | pa.Array]) -> "Batch":
        return replace(
            self,
            records=change(self.records),
            partitions=change(self.partitions),
            offsets=change(self.offsets),
            timestamps_ms=change(self.timestamps_ms),
            originals=None if self.originals is None else change(self.originals),
        )
