"""WebSocket frames of what the gateway says: text messages, whole, as a server sends them (RFC 6455, 5.2). No I/O."""

from collections.abc import Iterable, Iterator

TEXT, COMPRESSED, FINAL = 0x01, 0x40, 0x80
SHORT, OF_TWO_BYTES, OF_EIGHT_BYTES = 125, 126, 127


def framed(message: bytes, *, compressed: bool = False) -> bytes:
    """A text message as one frame; ``compressed`` says that it is, as RFC 7692 has it."""
    size = len(message)
    head = FINAL | COMPRESSED | TEXT if compressed else FINAL | TEXT
    if size <= SHORT:
        return bytes((head, size)) + message
    if size < 1 << 16:
        return bytes((head, OF_TWO_BYTES)) + size.to_bytes(2, "big") + message
    return bytes((head, OF_EIGHT_BYTES)) + size.to_bytes(8, "big") + message


def parts(messages: Iterable[bytes], most_bytes: int) -> Iterator[list[bytes]]:
    """The messages in their order, so many at a time as have ``most_bytes`` together; at least one."""
    part: list[bytes] = []
    size = 0
    for message in messages:
        if part and size + len(message) > most_bytes:
            yield part
            part, size = [], 0
        part.append(message)
        size += len(message)
    if part:
        yield part
