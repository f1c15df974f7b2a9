"""Records kept on disk while they cannot be sent: append-only, checksummed segments, read back in order.

What was appended survives SIGKILL (and, with ``fsync``, a power loss). Knows nothing of Kafka.

On disk: ``NNNNNNNNNN.seg`` files in the order of their numbers, each a run of records (length, CRC-32, body), and
``acknowledged``, the place up to which everything has been delivered. A record cut off by a crash is dropped when
the spool is opened: it was never accepted. A body is the time, the sizes of topic and key, a `traceparent` where the
highest bit of the topic's size says so (topics have 249 bytes at most), topic, key and value.
"""

import fcntl
import os
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sentio import log
from sentio.errors import SettingError

SEGMENT_BYTES = 16 << 20
_FIRST_SEGMENT = 1_000_000_000  # leaves room below for `prepend`
_FRAME = struct.Struct(">II")
_HEAD = struct.Struct(">qHI")
_TRACED = 1 << 15
_TRACEPARENT_BYTES = 55  # W3C's version 00


class Record(NamedTuple):
    """One encoded event, ready for Kafka."""

    topic: str
    key: bytes
    value: bytes
    timestamp_ms: int
    traceparent: str | None = None
    """Of the span that it was first sent in."""


Place = tuple[int, int]
"""(segment number, byte offset) just after a record."""


class Spool:
    """The spool in ``folder``, for one process at a time (`SettingError` for a second).

    ``lost_bytes`` counts what a damaged segment held beyond its damage; it stays beside the spool as ``.damaged``.
    """

    def __init__(self, folder: Path, *, max_bytes: int, fsync: bool = False) -> None:
        self.lost_bytes = 0
        self._folder = folder
        self._max_bytes = max_bytes
        self._fsync = fsync
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / "lock").open("w")
        except OSError as failure:
            raise SettingError(f"SENTIO_SPOOL={folder}: {failure.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise SettingError(f"SENTIO_SPOOL={folder}: another publisher is using this spool") from None
        self._acknowledged = self._read_acknowledged()
        self._segments = sorted(int(path.stem) for path in folder.glob("*.seg"))
        self._drop_acknowledged_segments()
        self._sizes = {number: self._open_and_mend(number) for number in self._segments}
        self._drop_empty_segments()
        self._read_at: Place = max(self._acknowledged, (self._segments[0], 0)) if self._segments else (0, 0)
        self._writer: int | None = None

    @property
    def size_bytes(self) -> int:
        return sum(self._sizes.values())

    @property
    def empty(self) -> bool:
        """Everything ever appended has been acknowledged."""
        return self._acknowledged >= self.end

    @property
    def acknowledged(self) -> Place:
        """Everything up to here has been delivered."""
        return self._acknowledged

    @property
    def end(self) -> Place:
        """Just after the last record."""
        if not self._segments:
            return self._acknowledged
        return (self._segments[-1], self._sizes[self._segments[-1]])

    def append(self, records: Sequence[Record]) -> int:
        """Keep records, in order; returns how many found room. Those are safe from SIGKILL when this returns."""
        accepted = 0
        chunks: list[bytes] = []
        room = self._max_bytes - self.size_bytes
        for record in records:
            data = _pack(record)
            room -= len(data)
            if room < 0:
                break
            chunks.append(data)
            accepted += 1
        return accepted if chunks and self._write(b"".join(chunks)) else 0

    def prepend(self, records: Sequence[Record]) -> None:
        """Keep records that were sent before anything in the spool, so that they are read first."""
        number = (self._segments[0] if self._segments else self._first_number()) - 1
        data = b"".join(map(_pack, records))
        self._write_file(self._path(number), data)
        if self._segments and self._acknowledged[0] == self._segments[0]:
            # Start again at the new front: what lies between is sent once more and known by its sequence.
            self._save_acknowledged((number, 0))
        self._segments.insert(0, number)
        self._sizes[number] = len(data)
        self._read_at = (number, 0)

    def read(self, at_most: int, *, until: Place | None = None) -> list[tuple[Place, Record]]:
        """The next records that were not read yet, each with the place to acknowledge once it is delivered."""
        found: list[tuple[Place, Record]] = []
        end = until or self.end
        while len(found) < at_most and self._segments and self._read_at < end:
            number, offset = self._read_at
            if number not in self._sizes or offset >= self._sizes[number]:
                self._read_at = (next(n for n in self._segments if n > number), 0)
                continue
            with self._path(number).open("rb") as file:
                file.seek(offset)
                while len(found) < at_most and offset < self._sizes[number] and (number, offset) < end:
                    length, _ = _FRAME.unpack(file.read(_FRAME.size))
                    offset += _FRAME.size + length
                    found.append(((number, offset), _unpack(file.read(length))))
            self._read_at = (number, offset)
        return found

    def rewind(self, to: Place | None = None) -> None:
        """Read again from ``to``, or from the first record that is not acknowledged."""
        if self._segments:
            self._read_at = to or max(self._acknowledged, (self._segments[0], 0))

    def acknowledge(self, place: Place) -> None:
        """Everything up to ``place`` is delivered: remember it, and free whole segments."""
        self._save_acknowledged(place)
        self._drop_acknowledged_segments()
        if self._segments and self.empty:
            for number in self._segments:
                self._path(number).unlink()
            self._segments, self._sizes, self._writer = [], {}, None

    def close(self) -> None:
        self._lock.close()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:010d}.seg"

    def _write(self, data: bytes) -> bool:
        """Whether the disk took it; when not, the segment is as it was."""
        number = self._writer
        if number is None or self._sizes[number] + len(data) > SEGMENT_BYTES:
            number = self._writer = self._segments[-1] + 1 if self._segments else self._first_number()
            self._segments.append(number)
            self._sizes[number] = 0
            if len(self._segments) == 1:
                self._read_at = (number, 0)
        path = self._path(number)
        try:
            self._write_file(path, data)
        except OSError as failure:
            log.get().error("the spool cannot write", file=str(path), cause=failure.strerror)
            self._undo(number)
            return False
        self._sizes[number] += len(data)
        return True

    def _undo(self, number: int) -> None:
        """Leave nothing of a write that failed: half a record would hide those after it, and a new segment none."""
        with suppress(OSError):
            if self._sizes[number]:
                os.truncate(self._path(number), self._sizes[number])
            else:
                self._path(number).unlink(missing_ok=True)
        if not self._sizes[number]:
            self._segments.remove(number)
            del self._sizes[number]
            self._writer = None

    def _first_number(self) -> int:
        """Number of the first segment of an empty spool; the one before it is free for `prepend`."""
        return max(_FIRST_SEGMENT, self._acknowledged[0] + 2)

    def _write_file(self, path: Path, data: bytes) -> None:
        with path.open("ab") as file:
            file.write(data)
            file.flush()
            if self._fsync:
                os.fsync(file.fileno())

    def _read_acknowledged(self) -> Place:
        try:
            number, offset = (self._folder / "acknowledged").read_text().split()
            return (int(number), int(offset))
        except (FileNotFoundError, ValueError):
            return (0, 0)

    def _save_acknowledged(self, place: Place) -> None:
        self._acknowledged = place
        draft = self._folder / "acknowledged.new"
        try:
            draft.write_text(f"{place[0]} {place[1]}")
            draft.replace(self._folder / "acknowledged")
        except OSError as failure:
            # A restart would send some records again, which readers know by their sequence.
            log.get().error("the spool cannot note its place", file=str(draft), cause=failure.strerror)

    def _drop_acknowledged_segments(self) -> None:
        while self._segments and self._segments[0] < self._acknowledged[0]:
            number = self._segments.pop(0)
            self._path(number).unlink(missing_ok=True)
            if hasattr(self, "_sizes"):
                self._sizes.pop(number, None)

    def _drop_empty_segments(self) -> None:
        """A kill before the first whole record leaves a segment of nothing, which no reader would ever get past."""
        for number in [number for number in self._segments if not self._sizes[number]]:
            self._segments.remove(number)
            del self._sizes[number]
            self._path(number).unlink(missing_ok=True)

    def _open_and_mend(self, number: int) -> int:
        """Size of the whole records of a segment; what follows them is cut off."""
        path = self._path(number)
        data = path.read_bytes()
        good = 0
        while good + _FRAME.size <= len(data):
            length, checksum = _FRAME.unpack_from(data, good)
            body = data[good + _FRAME.size : good + _FRAME.size + length]
            if len(body) < length or zlib.crc32(body) != checksum:
                break
            good += _FRAME.size + length
        if good < len(data):
            torn = number == self._segments[-1] and _is_torn(data, good)
            if not torn:
                self.lost_bytes += len(data) - good
                path.with_suffix(".damaged").write_bytes(data[good:])
                log.get().error("spool segment is damaged", file=str(path), at_byte=good, lost_bytes=len(data) - good)
            with path.open("r+b") as file:
                file.truncate(good)
        return good


def _is_torn(data: bytes, at: int) -> bool:
    """Whether the last record was cut off by a crash, as opposed to damaged later."""
    if at + _FRAME.size > len(data):
        return True
    (length, _) = _FRAME.unpack_from(data, at)
    return bool(at + _FRAME.size + length > len(data))


def _pack(record: Record) -> bytes:
    topic, trace = record.topic.encode(), (record.traceparent or "").encode()
    head = _HEAD.pack(record.timestamp_ms, len(topic) | (_TRACED if trace else 0), len(record.key))
    body = b"".join((head, trace, topic, record.key, record.value))
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def _unpack(body: bytes) -> Record:
    timestamp_ms, topic_size, key_size = _HEAD.unpack_from(body)
    topic_at = _HEAD.size + (_TRACEPARENT_BYTES if topic_size & _TRACED else 0)
    key_at = topic_at + (topic_size & ~_TRACED)
    value_at = key_at + key_size
    trace = body[_HEAD.size : topic_at].decode() or None
    return Record(body[topic_at:key_at].decode(), body[key_at:value_at], body[value_at:], timestamp_ms, trace)
