"""Records that were kept together and wait for Kafka together: a packet is one row of the journal.

A row for each record would have SQLite find its place, write it and take it out again one by one.
"""

import sqlite3
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

WORD_BYTES = 100
"""Of a record beside its key and value, for the bound on the journal's size."""

PACKED = 2_000
"""Records of a packet that is made of an older journal's."""

TABLE = """create table waiting (
    last integer primary key, at_ms integer not null, size integer not null,
    keys blob not null, sizes blob not null, records blob not null)"""
COLUMNS = "last, at_ms, keys, sizes, records"

Row = tuple[int, int, bytes, bytes, bytes]
"""Of `COLUMNS`."""


@dataclass(frozen=True, slots=True)
class Packet:
    """Records as Kafka is to have them, in the order of their sequences; the lists are of one length, and not empty."""

    keys: list[bytes]
    """Symbols, none of which has a line's end in it."""

    values: list[bytes]
    at_ms: int
    """When the first of them was accepted."""

    last: int
    """Sequence of the last."""

    @property
    def first(self) -> int:
        """Sequence of the first."""
        return self.last - len(self.values) + 1

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.keys)) + sum(map(len, self.values)) + WORD_BYTES * len(self.values)

    def behind(self, sequence: int) -> "Packet":
        """What is behind a sequence, which is not that of the last."""
        done = max(0, sequence - self.first + 1)
        return Packet(self.keys[done:], self.values[done:], self.at_ms, self.last) if done else self

    def up_to(self, count: int) -> "Packet":
        """At most so many from the first on."""
        left = max(0, len(self.values) - count)
        return Packet(self.keys[:count], self.values[:count], self.at_ms, self.last - left) if left else self

    def row(self) -> tuple[int, int, int, bytes, bytes, bytes]:
        """Of the table, all its columns."""
        sizes = array("I", map(len, self.values)).tobytes()
        return self.last, self.at_ms, self.size_bytes, b"\n".join(self.keys), sizes, b"".join(self.values)


def packet(row: Row) -> Packet:
    """Of a row of `COLUMNS`."""
    last, at_ms, keys, sizes, records = row
    return Packet(keys.split(b"\n"), list(_cut(records, array("I", sizes))), at_ms, last)


def joined(packets: Sequence[Packet]) -> Packet:
    """One of several, each behind the other."""
    if len(packets) == 1:
        return packets[0]
    return Packet(
        [key for each in packets for key in each.keys],
        [value for each in packets for value in each.values],
        min(each.at_ms for each in packets),
        packets[-1].last,
    )


def repack(database: sqlite3.Connection) -> None:
    """From the journal's first version, which had a row for each record that waits."""
    rows = database.execute("select key, value, at_ms, sequence from waiting order by sequence").fetchall()
    database.execute("drop table waiting")
    database.execute(TABLE)
    for start in range(0, len(rows), PACKED):
        keys, values, times_ms, sequences = zip(*rows[start : start + PACKED], strict=True)
        made = Packet(list(keys), list(values), times_ms[0], sequences[-1])
        database.execute("insert into waiting values (?, ?, ?, ?, ?, ?)", made.row())


def _cut(records: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    for start, end in pairwise(accumulate(sizes, initial=0)):
        yield records[start:end]
