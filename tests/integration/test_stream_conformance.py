"""RFC 6455 and 7692 at the server's end, frame by frame: in the order of Autobahn's categories, on real sockets."""

import asyncio
import json
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from gateway.stream.descriptors import PythonDescriptors
from tests.gateways import DEADLINE_S
from tests.stages import HANDSHAKE, stage

pytestmark = pytest.mark.anyio

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN, RSV1, RSV2, RSV3 = 0x80, 0x40, 0x20, 0x10
MASK = b"\x12\x34\x56\x78"
MIB = 1 << 20


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0, masked: bool = True) -> bytes:
    """As a client writes it, right or wrong."""
    head = bytes([(FIN if fin else 0) | reserved | opcode])
    bit = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([bit | len(payload)])
    elif len(payload) < 1 << 16:
        head += bytes([bit | 126]) + struct.pack(">H", len(payload))
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", len(payload))
    if not masked:
        return head + payload
    return head + MASK + bytes(byte ^ MASK[place % 4] for place, byte in enumerate(payload))


def asked(number: int, length: int = 0) -> bytes:
    """A request that is answered by a pong of this stream's own, padded to a length."""
    return json.dumps({"op": "ping", "id": number}).encode().ljust(length)


def closing(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack(">H", code) + reason)


@dataclass
class Peer:
    """Reads what the server writes: frames, not masked and whole."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    pongs: list[bytes] = field(default_factory=list)
    answers: list[dict[str, object]] = field(default_factory=list)
    closed: bytes | None = None

    async def next(self) -> int:
        """The kind of the next frame."""
        first, second = await self.reader.readexactly(2)
        assert first & FIN
        assert not first & (RSV1 | RSV2 | RSV3)
        assert second < 128, "a server does not mask"
        length = second
        if second == 126:
            [length] = struct.unpack(">H", await self.reader.readexactly(2))
        elif second == 127:
            [length] = struct.unpack(">Q", await self.reader.readexactly(8))
        payload = await self.reader.readexactly(length)
        opcode = first & 0x0F
        match opcode:
            case 0x1:
                self.answers.append(json.loads(payload))
            case 0xA:
                self.pongs.append(payload)
            case 0x8:
                self.closed = payload
        return opcode

    async def answered(self, count: int) -> list[object]:
        """Ids of the requests that were followed, or the codes of those that were not."""
        while len(self.answers) < count:
            await self.next()
        return [one["id"] if one["type"] == "pong" else one["code"] for one in self.answers]

    async def code(self) -> int | None:
        """Of the close frame, behind which nothing comes."""
        while self.closed is None:
            await self.next()
        if not (self.writer.transport.is_closing()):
            self.writer.write(frame(CLOSE, self.closed))
        assert await self.reader.read() == b""
        return struct.unpack(">H", self.closed[:2])[0] if self.closed else None


@asynccontextmanager
async def peer(handshake: bytes = HANDSHAKE) -> AsyncIterator[Peer]:
    async with stage(PythonDescriptors()) as running, asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=4 * MIB)
        writer.write(handshake)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        made = Peer(reader, writer)
        await made.next()
        made.answers.clear()  # the greeting
        try:
            yield made
        finally:
            writer.close()


@pytest.mark.parametrize("length", [0, 125, 126, 127, 128, 65_535, 65_536])
async def test_1_frames_of_every_length(length: int) -> None:
    async with peer() as one:
        one.writer.write(frame(TEXT, asked(1, length)))
        assert await one.answered(1) == [1]


@pytest.mark.parametrize("chop", [1, 7, 100])
async def test_1_frames_cut_anywhere(chop: int) -> None:
    async with peer() as one:
        data = b"".join(frame(TEXT, asked(number, 200)) for number in range(5))
        for place in range(0, len(data), chop):
            one.writer.write(data[place : place + chop])
            await one.writer.drain()
            await asyncio.sleep(0)
        assert await one.answered(5) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("payload", [b"", b"\0\xff" * 100, b'{"op":"ping"}'])
async def test_1_binary_messages_are_refused_and_the_connection_goes_on(payload: bytes) -> None:
    async with peer() as one:
        one.writer.write(frame(BINARY, payload) + frame(TEXT, asked(2)))
        assert await one.answered(2) == ["bad_json", 2]


@pytest.mark.parametrize("payload", [b"", b"hello", b"\0\xff\xfe\xfd", b"\xfe" * 125])
async def test_2_a_ping_comes_back_as_it_is(payload: bytes) -> None:
    async with peer() as one:
        one.writer.write(frame(PING, payload))
        assert await one.next() == PONG
        assert one.pongs == [payload]


async def test_2_pings_come_back_in_order_and_pongs_that_nobody_asked_for_are_ignored() -> None:
    async with peer() as one:
        one.writer.write(frame(PONG, b"unasked") + b"".join(frame(PING, bytes([number])) for number in range(10)))
        for _ in range(10):
            assert await one.next() == PONG
        assert one.pongs == [bytes([number]) for number in range(10)]


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(frame(PING, b"x" * 126), id="2 long ping"),
        *[pytest.param(frame(TEXT, asked(1), reserved=bit), id=f"3 reserved {bit}") for bit in (RSV1, RSV2, RSV3)],
        pytest.param(frame(PING, reserved=RSV1), id="3 reserved bit of a ping"),
        pytest.param(frame(CLOSE, reserved=RSV2), id="3 reserved bit of a close"),
        *[pytest.param(frame(opcode, b"x"), id=f"4 opcode {opcode}") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)],
        pytest.param(frame(PING, b"x", fin=False), id="5 ping in parts"),
        pytest.param(frame(PONG, b"x", fin=False), id="5 pong in parts"),
        pytest.param(frame(CLOSE, fin=False), id="5 close in parts"),
        pytest.param(frame(CONT, asked(1)), id="5 nothing to go on with"),
        pytest.param(frame(CONT, asked(1), fin=False), id="5 nothing to go on with, in parts"),
        pytest.param(frame(TEXT, b"{", fin=False) + frame(TEXT, asked(1)), id="5 text within a text"),
        pytest.param(frame(TEXT, b"{", fin=False) + frame(BINARY, b"x"), id="5 binary within a text"),
        pytest.param(frame(CLOSE, b"\x03"), id="7 half a code"),
        pytest.param(closing(1000, b"x" * 124), id="7 long close"),
        *[
            pytest.param(closing(code), id=f"7 code {code}")
            for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
        ],
        pytest.param(frame(TEXT, asked(1), masked=False), id="not masked"),
    ],
)
async def test_what_breaks_the_protocol_is_closed_with_1002(bad: bytes) -> None:
    async with peer() as one:
        one.writer.write(frame(TEXT, asked(7)) + bad + frame(TEXT, asked(8)))
        assert await one.code() == 1002
        # What came before in the same bytes may be answered; what comes behind never is.
        assert {answer["id"] for answer in one.answers} <= {7}


async def test_5_a_message_in_parts_with_pings_between_them() -> None:
    async with peer() as one:
        whole = asked(1, 300)
        one.writer.write(frame(TEXT, whole[:1], fin=False) + frame(PING, b"a"))
        for byte in whole[1:-1]:
            one.writer.write(frame(CONT, bytes([byte]), fin=False))
        one.writer.write(frame(PING, b"b") + frame(CONT, b"", fin=False) + frame(CONT, whole[-1:]))
        while len(one.pongs) < 2:
            await one.next()
        assert one.pongs == [b"a", b"b"]
        assert await one.answered(1) == [1]


async def test_5_an_empty_message_in_parts_is_one_message() -> None:
    async with peer() as one:
        one.writer.write(frame(TEXT, fin=False) + frame(CONT, fin=False) + frame(CONT) + frame(TEXT, asked(1)))
        assert await one.answered(2) == ["bad_json", 1]


async def test_6_characters_may_be_cut_by_frames() -> None:
    text = json.dumps({"op": "ping", "id": "κόσμε \U0001f600"}, ensure_ascii=False).encode()
    async with peer() as one:
        for place in range(len(text) - 1):
            one.writer.write(frame(CONT if place else TEXT, text[place : place + 1], fin=False))
        one.writer.write(frame(CONT, text[-1:]))
        assert await one.answered(1) == ["κόσμε \U0001f600"]


@pytest.mark.parametrize(
    "text",
    [
        b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80edited",  # a surrogate
        b"\xf4\x90\x80\x80",  # beyond U+10FFFF
        b"\xc0\xaf",  # longer than it needs
        b"\xe2\x82",  # cut
        b"\x80",
        b"\xff",
        b"\xf8\x88\x80\x80\x80",
    ],
)
async def test_6_what_is_not_utf_8_is_closed_with_1007(text: bytes) -> None:
    for bad in (frame(TEXT, text), frame(TEXT, text[:1], fin=False) + frame(CONT, text[1:])):
        async with peer() as one:
            one.writer.write(bad)
            assert await one.code() == 1007
    async with peer() as one:
        one.writer.write(closing(1000, text))
        assert await one.code() in {1007, 1002}


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999])
async def test_7_a_close_is_answered_with_its_own_code(code: int) -> None:
    async with peer() as one:
        one.writer.write(closing(code, b"enough") + frame(TEXT, asked(1)) + frame(PING))
        assert await one.code() == code
        assert one.answers == []
        assert one.pongs == []


async def test_7_a_close_without_a_code_is_answered_without_one() -> None:
    async with peer() as one:
        one.writer.write(frame(CLOSE))
        assert await one.code() is None


async def test_7_a_close_within_a_message_in_parts_ends_it() -> None:
    async with peer() as one:
        one.writer.write(frame(TEXT, b"{", fin=False) + closing(1000))
        assert await one.code() in {1000, 1002}  # `websockets` calls it a message that was not finished


@pytest.mark.parametrize("parts", [1, 32])
async def test_9_a_message_beyond_the_limit_is_closed_with_1009(parts: int) -> None:
    async with peer() as one:
        part = b" " * (MIB // parts + 1)
        for number in range(parts):
            one.writer.write(frame(CONT if number else TEXT, part, fin=number == parts - 1))
        assert await one.code() == 1009


async def test_9_a_length_that_nobody_could_send_costs_nothing() -> None:
    async with peer() as one:
        one.writer.write(bytes([FIN | TEXT, 0x80 | 127]) + struct.pack(">Q", 1 << 62) + MASK)
        assert await one.code() == 1009


DEFLATE = HANDSHAKE.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")


def deflated(text: bytes, level: int = 6) -> bytes:
    compress = zlib.compressobj(level, zlib.DEFLATED, -15)
    return (compress.compress(text) + compress.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


async def test_12_compressed_requests_are_read_whole_and_in_parts() -> None:
    async with peer(DEFLATE) as one:
        text = deflated(asked(1, 5_000))
        one.writer.write(frame(TEXT, deflated(asked(0)), reserved=RSV1))
        one.writer.write(frame(TEXT, text[:9], fin=False, reserved=RSV1) + frame(PING, b"a") + frame(CONT, text[9:]))
        one.writer.write(frame(TEXT, asked(2)))  # one that is not compressed among those that are
        assert await one.answered(3) == [0, 1, 2]


@pytest.mark.parametrize(
    ("bad", "codes"),
    [
        pytest.param(frame(TEXT, b"\xff" * 20, reserved=RSV1), {1002, 1007}, id="no deflate stream"),
        pytest.param(
            frame(TEXT, b"{", fin=False) + frame(CONT, b"}", reserved=RSV1), {1002}, id="bit on a continuation"
        ),
        pytest.param(frame(PING, b"x", reserved=RSV1), {1002}, id="bit on a ping"),
        pytest.param(frame(TEXT, deflated(b" " * (64 * MIB), 9), reserved=RSV1), {1009}, id="64 MiB in 64 KiB"),
    ],
)
async def test_12_what_cannot_be_inflated_is_closed(bad: bytes, codes: set[int]) -> None:
    async with peer(DEFLATE) as one:
        one.writer.write(bad)
        assert await one.code() in codes
