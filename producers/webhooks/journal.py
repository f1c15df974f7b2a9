"""What was accepted, on disk: the prices that Kafka does not have yet, and the signatures of those it was given.

Both are written in one transaction, so that a signature is known if and only if its price is kept. A price's place in
the journal is its sequence, which is given once: what is sent again after a crash is the same record, and readers know
it. Knows nothing of Kafka or HTTP. Used by one thread.
"""

import sqlite3
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import time
from typing import Any
from uuid import UUID

import pyarrow as pa
from uuid_utils import uuid7

from producers.webhooks import packets, signatures
from producers.webhooks.packets import Packet
from producers.webhooks.prices import Price
from producers.webhooks.signatures import Recent, newest
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

AT_HAND_BYTES = 16 << 20
"""So much of what waits is in memory too; the rest is read from the file when its turn comes."""

LOADED = 20
"""Packets read from the file at once."""

VERSION = 2

_TABLES = f"""
    create table self (producer text not null, next_sequence integer not null, turned_at_s integer not null);
    {packets.TABLE};
    {signatures.TABLE.format("seen")};
    {signatures.TABLE.format("seen_before")};
    pragma user_version = {VERSION};
"""
_TURN = f"""
    drop table seen_before;
    alter table seen rename to seen_before;
    {signatures.TABLE.format("seen")};
"""


class JournalFull(Retryable):
    """There is no room for more before Kafka takes some."""


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
        rows = self._database.execute(f"select {packets.COLUMNS} from waiting order by last limit 1").fetchall()
        size_bytes, has_before = self._row(
            "select (select coalesce(sum(size), 0) from waiting), exists (select 1 from seen_before)"
        )
        self._size_bytes: int = size_bytes
        self._has_before: bool = has_before
        self._recent = Recent(newest(self._database, RECENT), most=RECENT)
        self._first: int = packets.packet(rows[0]).first if rows else next_sequence
        self._done: int = self._first - 1
        self._at_hand: dict[int, Packet] = {}
        """Packets that wait, by their first sequence."""

        self._at_hand_bytes = 0

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
            digests = [signatures.digest(price.signature) for price in prices]
            fresh = self._fresh(database, prices, digests)
            added = self._add(database, [prices[place] for place in fresh], now_s) if fresh else None
        self._forget_done(freed)
        self._next += len(fresh)
        if fresh:
            self._recent.add(max(prices[place].slot for place in fresh), [digests[place] for place in fresh])
        if added:
            self._have_at_hand(added)
        return fresh

    def read(self, after: int, at_most: int) -> Packet | None:
        """The records behind a sequence, if there are any. Raises `Retryable` when the disk does not give them."""
        try:
            return self._read(after, at_most)
        except sqlite3.Error as failure:
            raise Retryable(f"{self._path} cannot be read: {failure}") from failure

    def _read(self, after: int, at_most: int) -> Packet | None:
        found: list[Packet] = []
        after, room = max(after, self._done), at_most
        while room and after + 1 < self._next:
            at_hand = self._at_hand.get(after + 1)
            loaded = [at_hand] if at_hand else self._load(after)
            if not loaded:
                break
            for each in loaded:
                found.append(each.behind(after).up_to(room))
                after, room = found[-1].last, room - len(found[-1].values)
                if not room:
                    break
        return packets.joined(found) if found else None

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
            self._forget_done(freed)

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
            # It may have come to pass all the same: from now on every signature is looked for in the file.
            self._recent.doubt()
            raise Retryable(f"{self._path} cannot be written: {failure}") from failure

    def _drop_done(self, database: sqlite3.Connection) -> int:
        """How many bytes that frees."""
        if self._first > self._done:
            return 0
        [freed] = self._row("select coalesce(sum(size), 0) from waiting where last <= ?", [self._done])
        database.execute("delete from waiting where last <= ?", [self._done])
        if self._done + 1 < self._next and self._done + 1 not in self._at_hand:
            [part] = self._load(self._done, 1)
            if part.first <= self._done:
                rest = part.behind(self._done)
                database.execute("replace into waiting values (?, ?, ?, ?, ?, ?)", rest.row())
                freed += part.size_bytes - rest.size_bytes
        return int(freed)

    def _forget_done(self, freed: int) -> None:
        if self._first <= self._done:
            for first in [first for first in self._at_hand if first <= self._done]:
                self._at_hand_bytes -= self._at_hand.pop(first).size_bytes
        self._first = self._done + 1
        self._size_bytes -= freed

    def _have_at_hand(self, packet: Packet) -> None:
        size_bytes = packet.size_bytes
        self._size_bytes += size_bytes
        if self._at_hand_bytes + size_bytes <= AT_HAND_BYTES:
            self._at_hand[packet.first] = packet
            self._at_hand_bytes += size_bytes

    def _load(self, after: int, at_most: int = LOADED) -> list[Packet]:
        """What the file has behind a sequence, from the packet on in which that ends."""
        rows = self._database.execute(
            f"select {packets.COLUMNS} from waiting where last > ? order by last limit ?", [after, at_most]
        )
        return list(map(packets.packet, rows))

    def _fresh(self, database: sqlite3.Connection, prices: Sequence[Price], digests: Sequence[bytes]) -> list[int]:
        """The places of those that are the first of their kind; has them in the table."""
        keys = [signatures.key(price.slot, digest) for price, digest in zip(prices, digests, strict=True)]
        late = [key for key, price in zip(keys, prices, strict=True) if self._recent.may_lack(price.slot)]
        known = signatures.among(database, "seen", late)
        if self._has_before:
            known |= signatures.among(database, "seen_before", late)
        fresh, here = [], set()
        for place, (key, digest) in enumerate(zip(keys, digests, strict=True)):
            if key not in known and digest not in self._recent and digest not in here:
                fresh.append(place)
                here.add(digest)
        signatures.insert(database, [keys[place] for place in fresh])
        return fresh

    def _add(self, database: sqlite3.Connection, prices: Sequence[Price], now_s: float) -> Packet:
        last = self._next + len(prices) - 1
        values = encode(EVENT, _events(prices, self.producer, self._next))
        keys = [price.symbol.encode() for price in prices]
        added = Packet(keys, values, int(now_s * 1_000), last)
        database.execute("insert into waiting values (?, ?, ?, ?, ?, ?)", added.row())
        database.execute("update self set next_sequence = ?", [last + 1])
        return added


def _events(prices: Sequence[Price], producer: str, first_sequence: int) -> pa.RecordBatch:
    """Rows of `EVENT`. Most columns are made of their bytes: objects for the values would cost more."""
    count = len(prices)
    sequences = array("q", range(first_sequence, first_sequence + count))
    times_us = array("q", [price.at_s * 1_000_000 for price in prices])
    columns: dict[str, bytes | list[str] | str] = {
        "event_id": b"".join([price.event_id for price in prices]),
        "producer": producer,
        "sequence": sequences.tobytes(),
        "symbol": [price.symbol for price in prices],
        "price": b"".join([price.units.to_bytes(16, "little") for price in prices]),
        "source": SOURCE,
        "observed_at": times_us.tobytes(),
    }
    schema = arrow_schema(EVENT)
    return pa.RecordBatch.from_arrays([_column(columns[field.name], field, count) for field in schema], schema=schema)


def _column(values: bytes | list[str] | str, field: pa.Field, count: int) -> pa.Array:
    """Of the bytes of all its values, of a list of them, or of one text for all."""
    if isinstance(values, bytes):
        return pa.Array.from_buffers(field.type, count, [None, pa.py_buffer(values)])
    # With the type: to find it out takes longer than all the rest.
    return pa.array(values, field.type) if isinstance(values, list) else pa.repeat(pa.scalar(values, field.type), count)


def _make(database: sqlite3.Connection) -> None:
    """Make the tables, where there are none; raises sqlite3.DatabaseError for those of another release."""
    [version] = database.execute("pragma user_version").fetchone()
    if version not in {0, 1, VERSION}:
        raise sqlite3.DatabaseError(f"it is of version {version}, this release knows {VERSION}")
    if version == 1:
        packets.repack(database)
        database.execute(f"pragma user_version = {VERSION}")
    if version == 0:
        for statement in _TABLES.split(";"):
            database.execute(statement)
        producer = f"{NAME}@{UUID(bytes=uuid7().bytes)}"
        database.execute("insert into self values (?, 0, ?)", [producer, int(time())])
