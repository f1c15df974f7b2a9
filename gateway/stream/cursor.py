"""Where a reader stands in the log of one topic, and the opaque text of it that clients keep.

A cursor is the log's epoch (from Kafka's topic id, which changes when a topic is made again) and the next
offset of every partition. It is good on any gateway and after any restart. Nothing here reads or waits.
"""

import binascii
import hashlib
import zlib
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

VERSION = 1
EPOCH_BYTES = 8
CHECK_BYTES = 4
MAX_PARTITIONS = 10_000
MAX_OFFSET = (1 << 63) - 1
LOW_BITS, MORE = 0x7F, 0x80  # of a byte of a varint


class BadCursor(ValueError):
    """The text is not a cursor that a gateway wrote."""


class CannotResume(Exception):
    """A place in the log from which no updates can follow without a gap."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Cursor:
    """What a client's text says."""

    epoch: bytes
    offsets: tuple[int, ...]


@lru_cache(maxsize=256)
def epoch_of(topic_id: str) -> bytes:
    """Short identity of a log."""
    return hashlib.blake2b(topic_id.encode(), digest_size=EPOCH_BYTES).digest()


class Positions:
    """Next offset of each partition of one log. Only ever moves forward, and grows with the topic.

    The token is asked for with many messages, so only the parts that moved are written again.
    """

    __slots__ = ("_moved", "_parts", "_prefix", "_token", "epoch", "offsets")

    def __init__(self, epoch: bytes, offsets: Iterable[int]) -> None:
        self.epoch = epoch
        self.offsets = list(offsets)
        self._prefix = bytes([VERSION]) + epoch
        self._parts = [_varint(offset) for offset in self.offsets]
        self._token: str | None = None
        self._moved: set[int] = set()
        """Partitions whose part is not written again yet."""

    def copy(self) -> "Positions":
        return Positions(self.epoch, self.offsets)

    def next(self, partition: int) -> int:
        """Next offset of a partition; 0 for one that the topic gained since."""
        return self.offsets[partition] if partition < len(self.offsets) else 0

    def advance(self, partition: int, offset: int) -> None:
        """Move a partition to ``offset``, unless it is there or beyond."""
        while partition >= len(self.offsets):
            self.offsets.append(0)
            self._parts.append(_varint(0))
            self._token = None
        if offset > self.offsets[partition]:
            self.offsets[partition] = offset
            self._moved.add(partition)
            self._token = None

    @property
    def token(self) -> str:
        if self._token is None:
            for partition in self._moved:
                self._parts[partition] = _varint(self.offsets[partition])
            self._moved.clear()
            body = self._prefix + _varint(len(self._parts)) + b"".join(self._parts)
            check = zlib.crc32(body).to_bytes(CHECK_BYTES, "big")
            self._token = b64encode(body + check, b"-_").rstrip(b"=").decode()
        return self._token


def encode(cursor: Cursor) -> str:
    return Positions(cursor.epoch, cursor.offsets).token


def decode(token: str) -> Cursor:
    """What a token says; raises `BadCursor` for any text that `Positions.token` did not make."""
    try:
        standard = token.encode("ascii").translate(_TO_STANDARD)
        raw = binascii.a2b_base64(standard + b"=" * (-len(standard) % 4), strict_mode=True)
    except (UnicodeEncodeError, binascii.Error) as failure:
        raise BadCursor("not base64url") from failure
    body = raw[:-CHECK_BYTES]
    if len(body) <= 1 + EPOCH_BYTES:
        raise BadCursor("too short")
    if body[0] != VERSION:
        raise BadCursor(f"version {body[0]} is unknown")
    count, at = _read_varint(body, 1 + EPOCH_BYTES)
    if count > MAX_PARTITIONS:
        raise BadCursor("too many partitions")
    offsets = []
    for _ in range(count):
        offset, at = _read_varint(body, at)
        offsets.append(offset)
    cursor = Cursor(body[1 : 1 + EPOCH_BYTES], tuple(offsets))
    if encode(cursor) != token:  # another check sum, bytes left over, or a number longer than it needs
        raise BadCursor("not as a gateway writes it")
    return cursor


# "-" and "_" become "+" and "/"; those two themselves become "!", which is in no alphabet.
_TO_STANDARD = bytes.maketrans(b"-_+/", b"+/!!")


def _varint(number: int) -> bytes:
    """LEB128: seven bits a byte, lowest first."""
    written = bytearray()
    while number > LOW_BITS:
        written.append(number & LOW_BITS | MORE)
        number >>= 7
    written.append(number)
    return bytes(written)


def _read_varint(raw: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(raw):
        byte = raw[at]
        at += 1
        number |= (byte & LOW_BITS) << shift
        if number > MAX_OFFSET:
            break
        if not byte & MORE:
            return number, at
        shift += 7
    raise BadCursor("a number ends too early or is too large")
