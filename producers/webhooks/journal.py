"""What was accepted, on disk: the prices that Kafka does not have yet, and the signatures of those it was given.

Both are written in one transaction, so that a signature is known if and only if its price is kept. A price's place in
the journal is its sequence, which is given once: what is sent again after a crash is the same record, and readers know
it. Knows nothing of Kafka or HTTP. Used by one thread.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from time import time
from typing import Any, TypeVar
from uuid import UUID

import pyarrow as pa
from uuid_utils import uuid7

from producers.webhooks.prices import Price
from schemas.codec import encode
from schemas.columns import arrow_schema
from sentio.errors import Retryable, SettingError

FILE = "webhooks.sqlite"
NAME = "webhooks"
EVENT = "PriceUpdated"
SOURCE = "helius"

RECENT = 200_000
"""So many signatures are known whatever slot they come with again; a transaction is in one slot for good, so that the
others are looked for where they would be.
"""

WORD_BYTES = 100
"""Of a waiting record beside its key and value, for the bound on the size."""

VERSION = 1
_SLOT, _DIGEST = 8, 16
"""Bytes of each in a key."""

_SIZES = (16, 128, 1024)
"""Rows of a statement. Each step of SQLite's lets go of the interpreter, and while the event loop is busy it takes
milliseconds to have it back: so a few statements for all rows, instead of one a row.
"""

_TABLES = f"""
    create table self (producer text not null, next_sequence integer not null, turned_at_s integer not null);
    create table waiting (sequence integer primary key, key blob not null, value blob not null, at_ms integer not null);
    create table seen (slot_and_signature blob primary key) without rowid;
    create table seen_before (slot_and_signature blob primary key) without rowid;
    pragma user_version = {VERSION};
"""
_TURN = """
    drop table seen_before;
    alter table seen rename to seen_before;
    create table seen (slot_and_signature blob primary key) without rowid;
"""


Row = TypeVar("Row")


class JournalFull(Retryable):
    """There is no room for more before Kafka takes some."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Records as Kafka is to have them, in the order of their sequences; the lists are of one length."""

    keys: list[bytes]
    values: list[bytes]
    at_ms: int
    """When the first of them was accepted."""

    last: int
    """Sequence of the last."""


class Journal:
    """The journal in ``folder``, for one process at a time.

    A signature is remembered for ``remember_s`` at least, and for twice as long at most. Raises `SettingError` where
    the file is used by another process or cannot be used at all.
    """

    def __init__(self, folder: Path, *, max_bytes: int, remember_s: float) -> None:
        self._max_bytes = max_bytes
        self._remember_s = remember_s
        self._path = folder / FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._database = self._open()
        except sqlite3.OperationalError as failure:
            why = "another process is using it" if "locked" in str(failure) else str(failure)
            raise SettingError(f"SENTIO_SPOOL={folder}: {FILE}: {why}") from None
        except (sqlite3.DatabaseError, OSError) as failure:
            raise SettingError(f"SENTIO_SPOOL={folder}: {FILE}: {failure}; see docs/webhooks.md") from None
        producer, next_sequence = self._row("select producer, next_sequence from self")
        self.producer: str = producer
        self._next: int = next_sequence
        first, size = self._row(
            "select min(sequence), total(length(key) + length(value) + ?) from waiting", [WORD_BYTES]
        )
        [self._has_before] = self._row("select exists (select 1 from seen_before)")
        self._recent: dict[bytes, None] = {}
        self._remember(self._newest_digests())
        self._first: int = next_sequence if first is None else first
        self._size_bytes = int(size)
        self._done: int = self._first - 1

    @property
    def size_bytes(self) -> int:
        """Of what Kafka does not have yet, or is not known to have."""
        return self._size_bytes

    @property
    def is_full(self) -> bool:
        """Nothing is kept before Kafka takes something."""
        return self._size_bytes > self._max_bytes

    @property
    def waiting(self) -> int:
        """How many records that are."""
        return self._next - 1 - self._done

    def keep(self, prices: Sequence[Price]) -> list[int]:
        """Keep those whose signature is not known, in their order; returns the places of these.

        They outlive a SIGKILL, and a loss of power, when this returns. Raises `JournalFull`, or `Retryable` when the
        disk does not take them; then none is kept.
        """
        now_s = time()
        with self._transaction() as database:
            freed = self._drop_done(database)
            if self._size_bytes - freed > self._max_bytes:
                raise JournalFull(f"{self.waiting} prices wait for Kafka, all that SENTIO_SPOOL_MAX_BYTES has room for")
            # Read again: a commit whose outcome was unknown may have come to pass.
            self._next, turned_at_s = self._row("select next_sequence, turned_at_s from self")
            if now_s - turned_at_s > self._remember_s:
                for statement in _TURN.split(";"):
                    database.execute(statement)
                database.execute("update self set turned_at_s = ?", [int(now_s)])
                self._has_before = True
            digests = [blake2b(price.signature.encode(), digest_size=_DIGEST).digest() for price in prices]
            fresh = self._fresh(database, prices, digests)
            added = self._add(database, [prices[place] for place in fresh], now_s) if fresh else 0
        self._first = self._done + 1
        self._next += len(fresh)
        self._remember(digests[place] for place in fresh)
        self._size_bytes += added - freed
        return fresh

    def read(self, after: int, at_most: int) -> Waiting | None:
        """The records behind a sequence, if there are any."""
        last, at_ms, keys, values = self._row(
            "select max(sequence), min(at_ms), group_concat(hex(key)), group_concat(hex(value)) from"
            " (select * from waiting where sequence > ? order by sequence limit ?)",
            [after, at_most],
        )
        if last is None:
            return None
        return Waiting(
            list(map(bytes.fromhex, keys.split(","))), list(map(bytes.fromhex, values.split(","))), at_ms, last
        )

    def acknowledge(self, last: int) -> None:
        """Kafka has all up to this sequence. They leave the file with the next prices, or with `settle`."""
        self._done = last

    @property
    def acknowledged(self) -> int:
        """The last sequence that Kafka has."""
        return self._done

    def settle(self) -> None:
        """Take out what Kafka has; raises `Retryable` when the disk does not take it."""
        if self._first <= self._done:
            with self._transaction() as database:
                freed = self._drop_done(database)
            self._first = self._done + 1
            self._size_bytes -= freed

    def close(self) -> None:
        self._database.close()

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, isolation_level=None, timeout=1.0, check_same_thread=False)
        try:
            for pragma in (
                "locking_mode = exclusive",
                "journal_mode = wal",
                "synchronous = full",
            ):
                database.execute(f"pragma {pragma}").fetchall()
            database.execute("begin immediate")
            _make(database)
            database.execute("commit")
        except BaseException:
            database.close()
            raise
        return database

    def _row(self, query: str, values: Sequence[object] = ()) -> tuple[Any, ...]:
        found: tuple[Any, ...] = self._database.execute(query, values).fetchone()
        return found

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._database.execute("begin immediate")
            try:
                yield self._database
                self._database.execute("commit")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("rollback")
                raise
        except sqlite3.Error as failure:
            raise Retryable(f"{self._path} cannot be written: {failure}") from failure

    def _drop_done(self, database: sqlite3.Connection) -> int:
        """How many bytes that frees."""
        if self._first > self._done:
            return 0
        span = [self._first, self._done]
        [freed] = self._row(
            "select total(length(key) + length(value) + ?) from waiting where sequence between ? and ?",
            [WORD_BYTES, *span],
        )
        database.execute("delete from waiting where sequence between ? and ?", span)
        return int(freed)

    def _fresh(self, database: sqlite3.Connection, prices: Sequence[Price], digests: Sequence[bytes]) -> list[int]:
        """The places of those that are the first of their kind; has them in the table."""
        # Slots first: so those of a moment share a page.
        keys = [price.slot.to_bytes(_SLOT) + digest for price, digest in zip(prices, digests, strict=True)]
        known = set(_among(database, "seen", keys))
        if self._has_before:
            known |= set(_among(database, "seen_before", keys))
        fresh, here = [], set()
        for place, (key, digest) in enumerate(zip(keys, digests, strict=True)):
            if key not in known and digest not in self._recent and digest not in here:
                fresh.append(place)
                here.add(digest)
        _insert(database, "seen", [(keys[place],) for place in fresh])
        return fresh

    def _remember(self, digests: Iterable[bytes]) -> None:
        self._recent.update(dict.fromkeys(digests))
        for digest in list(islice(self._recent, max(0, len(self._recent) - RECENT))):
            del self._recent[digest]

    def _newest_digests(self) -> list[bytes]:
        """Of the highest slots, those last."""
        found: list[bytes] = []
        for table in ("seen", "seen_before"):
            rows = self._database.execute(
                f"select slot_and_signature from {table} order by 1 desc limit ?", [RECENT - len(found)]
            )
            found += [key[_SLOT:] for (key,) in rows]
        return found[::-1]

    def _add(self, database: sqlite3.Connection, prices: Sequence[Price], now_s: float) -> int:
        """How many bytes they take."""
        sequences = range(self._next, self._next + len(prices))
        columns = {
            "event_id": [price.event_id for price in prices],
            "producer": [self.producer] * len(prices),
            "sequence": list(sequences),
            "symbol": [price.symbol for price in prices],
            "price": [price.usd for price in prices],
            "source": [SOURCE] * len(prices),
            "observed_at": [price.at_s * 1_000_000 for price in prices],
        }
        values = encode(EVENT, pa.RecordBatch.from_pydict(columns, schema=arrow_schema(EVENT)))
        keys = [price.symbol.encode() for price in prices]
        at_ms = [int(now_s * 1_000)] * len(prices)
        _insert(database, "waiting", list(zip(sequences, keys, values, at_ms, strict=True)))
        database.execute("update self set next_sequence = ?", [self._next + len(prices)])
        return sum(map(len, keys)) + sum(map(len, values)) + WORD_BYTES * len(prices)


def _make(database: sqlite3.Connection) -> None:
    """Make the tables, where there are none; raises sqlite3.DatabaseError for those of another release."""
    [version] = database.execute("pragma user_version").fetchone()
    if version not in {0, VERSION}:
        raise sqlite3.DatabaseError(f"it is of version {version}, this release knows {VERSION}")
    if version == 0:
        for statement in _TABLES.split(";"):
            database.execute(statement)
        producer = f"{NAME}@{UUID(bytes=uuid7().bytes)}"
        database.execute("insert into self values (?, 0, ?)", [producer, int(time())])


def _parts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """In the sizes of statements, the last one filled up with its last row."""
    for first in range(0, len(rows), _SIZES[-1]):
        part = list(rows[first : first + _SIZES[-1]])
        size = next(size for size in _SIZES if size >= len(part))
        yield part + part[-1:] * (size - len(part))


def _insert(database: sqlite3.Connection, table: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Rows that are not in the table yet; one that is there twice is inserted once."""
    for part in _parts(rows):
        row = f"({','.join('?' * len(part[0]))})"
        statement = f"insert or ignore into {table} values {','.join([row] * len(part))}"
        database.execute(statement, list(chain.from_iterable(part)))


def _among(database: sqlite3.Connection, table: str, keys: Sequence[bytes]) -> Iterator[bytes]:
    """Those of the keys that the table of signatures has."""
    for part in _parts(keys):
        statement = f"select slot_and_signature from {table} where slot_and_signature in ({','.join('?' * len(part))})"
        for (key,) in database.execute(statement, part):
            yield key
