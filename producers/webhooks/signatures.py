"""Signatures that the journal knows: the newest in memory, all of the time that is remembered in two tables by age.

In the tables they stand behind their slots, so that those of a moment share a page; a transaction is in one slot for
good, and is looked for there.
"""

import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from hashlib import blake2b

TABLE = "create table {} (slot_and_signature blob primary key) without rowid"

_SLOT, _DIGEST = 8, 16
"""Bytes of each in a key."""

_SIZES = (16, 32, 64, 128, 256, 512, 1024)
"""Rows of a statement. Each step of SQLite's lets go of the interpreter, and while the event loop is busy it takes
milliseconds to have it back: so a few statements for all rows, instead of one a row.
"""

_NEVER = 1 << 63
"""Beyond every slot."""


class Recent:
    """The newest signatures, whatever slot they came with."""

    def __init__(self, newest: Sequence[tuple[int, bytes]], *, most: int) -> None:
        """Slots and digests by rising slot; if they are more than ``most``, the tables have others beside them.

        As many stay at least, of all that are here the last; they go as they came, many together.
        """
        self._most = most
        self._parts: deque[tuple[int, Sequence[bytes]]] = deque()
        """The highest slot of each, and its digests."""

        self._digests: set[bytes] = set()
        self._all_from = newest[0][0] + 1 if len(newest) > most else 0
        """All signatures of this slot and those behind it are here."""

        kept = newest[-most:]
        for first in range(0, len(kept), _SIZES[-1]):
            part = kept[first : first + _SIZES[-1]]
            self.add(part[-1][0], [digest for _, digest in part])

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._digests

    def may_lack(self, slot: int) -> bool:
        """Whether signatures of this slot may be in the tables only."""
        return slot < self._all_from

    def add(self, highest: int, digests: Sequence[bytes]) -> None:
        """Digests, none of which is here, and the highest of their slots."""
        self._parts.append((highest, digests))
        self._digests.update(digests)
        while len(self._digests) - len(self._parts[0][1]) >= self._most:
            slot, gone = self._parts.popleft()
            self._digests.difference_update(gone)
            self._all_from = max(self._all_from, slot + 1)

    def doubt(self) -> None:
        """The tables may have what was not added here: from now on every signature is looked for in them."""
        self._all_from = _NEVER


def digest(signature: str) -> bytes:
    return blake2b(signature.encode(), digest_size=_DIGEST).digest()


def key(slot: int, digest: bytes) -> bytes:
    """As the tables have it."""
    return slot.to_bytes(_SLOT) + digest


def newest(database: sqlite3.Connection, most: int) -> list[tuple[int, bytes]]:
    """Slots and digests of the highest slots, the highest last: one more than ``most``, to tell whether that is all."""
    rows = database.execute(
        "select slot_and_signature from seen union all select slot_and_signature from seen_before"
        " order by 1 desc limit ?",
        [most + 1],
    )
    return [(int.from_bytes(key[:_SLOT]), key[_SLOT:]) for (key,) in rows][::-1]


def insert(database: sqlite3.Connection, keys: Sequence[bytes]) -> None:
    """Those that are not in the table yet; one that is there twice is inserted once."""
    for part in _parts(keys):
        database.execute(f"insert or ignore into seen values {','.join(['(?)'] * len(part))}", part)


def among(database: sqlite3.Connection, table: str, keys: Sequence[bytes]) -> set[bytes]:
    """Those of the keys that a table has."""
    found: set[bytes] = set()
    for part in _parts(keys):
        statement = f"select slot_and_signature from {table} where slot_and_signature in ({','.join('?' * len(part))})"
        found.update(key for (key,) in database.execute(statement, part))
    return found


def _parts(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """In the sizes of statements, the last one filled up with its last key."""
    for first in range(0, len(keys), _SIZES[-1]):
        part = list(keys[first : first + _SIZES[-1]])
        size = next(size for size in _SIZES if size >= len(part))
        yield part + part[-1:] * (size - len(part))
