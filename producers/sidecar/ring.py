"""A ring as its reader sees it: what an engine wrote into it with clients/c/sentio.h.

Reading takes nothing away: `acknowledge` does, once what was read is safe elsewhere. Until then a reader that is killed
finds the same records again, with the same ids and sequences. Sending them on is not done here.
"""

import errno
import fcntl
import mmap
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from producers.sidecar import layout, records
from producers.sidecar.records import Records
from producers.sidecar.source import AHEAD
from sentio.errors import RingUnusable

try:
    from producers.sidecar import records_native
except ModuleNotFoundError:
    records_native = None  # type: ignore[assignment] # not built here

DECODERS = {"python": records.decode} | ({} if records_native is None else {"native": records_native.decode})
"""What is built here; the last one reads."""

_HELD = {errno.EAGAIN, errno.EACCES}
NOTHING = Records((), ())

decode = list(DECODERS.values())[-1]

_HEAD = Struct("<8sQQQ40s40s32s32s16s")
_LOCK = Struct("@hhqqi")
"""fcntl's struct flock."""
_ID_BYTES = 36

# Of the producer's and of the reader's line, in words.
_WRITTEN, _DROPPED, _REFUSED, _READ = 32, 33, 34, 48

_AHEAD_US = AHEAD // timedelta(microseconds=1)
_MOST = 1 << 62
"""Positions that no ring comes to; those beyond are no sequences."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Figures of a ring since it was made."""

    published: int
    dropped: int
    """Lost since the ring was full and its engine had said to drop."""

    refused: int
    """Not accepted by the header, with a reason for its engine."""

    unread: int
    capacity: int


class Ring:
    """The ring in a file, for one reader at a time. Use it as a context manager.

    Raises `RingUnusable` for a file that is none, has another layout or another id than ``identity``, or is damaged,
    and for a second reader.
    """

    def __init__(self, path: Path, *, identity: str | None = None) -> None:
        self.path = path
        with ExitStack() as opened:
            try:
                self._file = file = opened.enter_context(path.open("r+b"))
                head = file.read(layout.HEAD_BYTES)
                self._opened_as = os.fstat(file.fileno())
                self.capacity, self.id, self.engine = _checked(path, head, self._opened_as.st_size)
                if identity not in {None, str(self.id)}:
                    raise RingUnusable(f"ring {path}: its id is {self.id}, not that of its name")
                # Of the open file, so that its end is the lock's, and apart from the producer's, which is flock's.
                fcntl.fcntl(file, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0))
                self._bytes = opened.enter_context(mmap.mmap(file.fileno(), 0))
            except (BlockingIOError, PermissionError) as failure:
                why = "another reader has it open" if failure.errno in _HELD else failure.strerror
                raise RingUnusable(f"ring {path}: {why}") from None
            except OSError as failure:
                raise RingUnusable(f"ring {path}: {failure.strerror}") from None
            # A view of whole words: each is read and written at once, never in part.
            self._view = opened.enter_context(memoryview(self._bytes)[: layout.HEAD_BYTES].cast("Q"))
            self.producer = f"{self.engine}@{self.id}"
            self._next = self._words[_READ]
            self._check()
            self._opened = opened.pop_all()

    @property
    def position(self) -> int:
        """Of the next record to be read."""
        return self._next

    def read(self, most: int = 4_096) -> Records:
        """The next records, in order; those that cannot be used come as refusals, and the rest goes on behind them.

        Raises `RingUnusable` when the head no longer makes sense.
        """
        count = min(self._check(), most)
        if not count:
            return NOTHING
        first, self._next = self._next, self._next + count
        latest_us = time.time_ns() // 1_000 + _AHEAD_US
        found = decode(self._copy(first, count), first, self.id, self.producer, latest_us)
        if found.refused:
            # A processor may show the head's new value before the slot's; by now it does not.
            found = decode(self._copy(first, count), first, self.id, self.producer, latest_us)
        return found

    def watched(self) -> tuple[int, int, memoryview, int]:
        """File, its size, the head in words, and the position that is read next: for those who wait for records."""
        return self._file.fileno(), self._opened_as.st_size, self._view, self._next

    def rewind(self) -> None:
        """Read again from the first record that is not acknowledged."""
        self._next = self._words[_READ]

    def acknowledge(self, position: int) -> None:
        """Records before ``position`` are safe elsewhere; the engine may overwrite them."""
        if not self._words[_READ] <= position <= self._next:
            raise ValueError(f"position {position} was not read; {self._words[_READ]} to {self._next} were")
        self._words[_READ] = position

    def counts(self) -> Counts:
        """The figures of this moment."""
        words = self._words
        written = words[_WRITTEN]
        return Counts(written, words[_DROPPED], words[_REFUSED], written - words[_READ], self.capacity)

    @property
    def version(self) -> str:
        """Of the engine that opened it last, empty if it did not say."""
        return _text(self._head()[-2])

    @property
    def mode(self) -> str:
        """What that engine trades on (live, paper, mock, replay), empty if it did not say."""
        return _text(self._head()[-1])

    def has_producer(self) -> bool:
        """Whether an engine has it open. An engine that opens it at this very moment waits for the look to be over."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._file, fcntl.LOCK_UN)
        return False

    def is_in_place(self) -> bool:
        """Whether the path still names this ring, or nothing that can be seen; an engine may have set it aside."""
        try:
            return os.path.samestat(self.path.stat(), self._opened_as)
        except OSError:
            return True

    def remove(self) -> None:
        """Delete the file of a ring that no engine goes on with, unless there is more to read in it now.

        Raises OSError, of which BlockingIOError when an engine has it open.
        """
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the producer's: nothing is published from here on
        if self._check():
            return
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _words(self) -> memoryview:
        """The head in words."""
        self._check_size()
        return self._view

    def _head(self) -> tuple[Any, ...]:
        self._check_size()
        return _HEAD.unpack_from(self._bytes)

    def _check_size(self) -> None:
        """To touch a page that the file no longer has would end the process, by SIGBUS."""
        if (size := os.fstat(self._file.fileno()).st_size) != self._opened_as.st_size:
            raise RingUnusable(
                f"ring {self.path}: its file was cut from {self._opened_as.st_size} to {size} bytes while it was read; "
                "what it held and was not sent yet is lost"
            )

    def _check(self) -> int:
        """How many records wait."""
        written, read = self._words[_WRITTEN], self._words[_READ]
        if not read <= self._next <= written <= min(read + self.capacity, _MOST):
            raise RingUnusable(
                f"ring {self.path}: its head is damaged: {written} written, {read} read, {self.capacity} slots"
            )
        return written - self._next

    def _copy(self, first: int, count: int) -> bytes:
        """Slots of the positions from ``first`` on."""
        start = first % self.capacity
        end = min(start + count, self.capacity)
        return self._slots(start, end) + self._slots(0, count - (end - start))

    def _slots(self, start: int, end: int) -> bytes:
        at = layout.HEAD_BYTES
        return self._bytes[at + start * layout.SLOT_BYTES : at + end * layout.SLOT_BYTES]


def _checked(path: Path, head: bytes, size: int) -> tuple[int, UUID, str]:
    """Capacity, id and engine's name of a ring."""
    if len(head) < layout.HEAD_BYTES or not head.startswith(layout.MAGIC):
        raise RingUnusable(f"ring {path}: the file is no ring")
    _, version, found, capacity, identity, _, name, _, _ = _HEAD.unpack_from(head)
    if (version, found) != (layout.VERSION, layout.layout_hash()):
        raise RingUnusable(
            f"ring {path} has layout {version}-{found:016x}, this reader {layout.VERSION}-{layout.layout_hash():016x}: "
            "build the engine with the sentio.h of its reader; a ring of another is for the reader that it was made for"
        )
    try:
        ring = UUID(identity[:_ID_BYTES].decode())
        engine = name.rstrip(b"\0").decode()
    except ValueError:
        raise RingUnusable(f"ring {path}: its head is damaged: it has no id or name") from None
    possible = layout.LEAST_CAPACITY <= capacity <= layout.MOST_CAPACITY and capacity.bit_count() == 1
    if not possible or size != layout.HEAD_BYTES + capacity * layout.SLOT_BYTES:
        raise RingUnusable(f"ring {path}: its head is damaged: {capacity} slots in {size} bytes")
    return capacity, ring, engine


def _text(room: bytes) -> str:
    return room.split(b"\0", 1)[0].decode(errors="replace")
