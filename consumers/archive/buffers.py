"""Records that wait to be written, of one partition, as columns."""

import time

import pyarrow as pa
import pyarrow.compute as pc

from consumers.archive.manifests import Owned
from sentio.batch import Range

CHUNKS = 64
"""A quiet topic comes in batches of a few records, each of which costs some kilobytes: they are joined by so many."""


class Buffer:
    """Records of a partition from where its archive ends; ``owned`` is that archive's head."""

    def __init__(self, owned: Owned) -> None:
        self.owned = owned
        self.next = owned.head.next_offset
        """Offset that comes next; None where any may."""

        self.size_bytes = 0
        self.since_s = 0.0
        """When the first record came."""

        self._first: int | None = self.next
        self._chunks: list[pa.RecordBatch] = []

    @property
    def first(self) -> int:
        assert self._first is not None
        return self._first

    @property
    def waits(self) -> bool:
        """There are offsets to be written down."""
        return self.next != self._first

    @property
    def end(self) -> int | None:
        """Up to where it would be written now; None where that is not yet here.

        What an earlier owner, or an earlier try, was about to write is written under the same names.
        """
        if self.next is None or not self.waits:
            return None
        pending = self.owned.head.pending
        if pending is None:
            return self.next
        return pending.next if pending.next <= self.next else None

    def add(self, rows: pa.RecordBatch, span: Range) -> None:
        """Take rows in the order of their offsets."""
        if not self.waits:
            self.since_s = time.monotonic()
        if self._first is None:
            self._first = span.first
        self.next = span.next
        if not len(rows):
            return
        self._chunks.append(rows)
        self.size_bytes += rows.nbytes
        if len(self._chunks) >= CHUNKS:
            self._chunks = pa.Table.from_batches(self._chunks).combine_chunks().to_batches()

    def before(self, end: int) -> pa.Table | None:
        """Its rows below an offset; None where there are none."""
        if not self._chunks:
            return None
        rows = pa.Table.from_batches(self._chunks)
        if end != self.next:
            rows = rows.filter(pc.less(rows["kafka_offset"], end))
        return rows.combine_chunks() if len(rows) else None

    def drop(self, end: int) -> None:
        """Forget what is below an offset: it is written."""
        if end == self.next or not self._chunks:
            self._chunks = []
        else:
            rows = pa.Table.from_batches(self._chunks)
            self._chunks = rows.filter(pc.greater_equal(rows["kafka_offset"], end)).to_batches()
        self._first = end
        self.size_bytes = sum(chunk.nbytes for chunk in self._chunks)
        self.since_s = time.monotonic()
