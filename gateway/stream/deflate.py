"""permessage-deflate (RFC 7692): compressed once for all clients of an audience, with no state for any of them.

A message may refer to what came before it on its connection, as far back as the client keeps. Ours refer to messages
of the same batch only, which every client of the audience has been sent in a row just before, so that one stream
fits them all: ten trades together take a quarter of what they take one by one. What clients say is compressed
message by message. Whoever wants the same of us ("server_no_context_takeover") gets that.
"""

import zlib
from collections.abc import Iterable, Sequence
from enum import Enum, auto

from websockets.exceptions import NegotiationError
from websockets.extensions import Extension, ServerExtensionFactory
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.typing import ExtensionName, ExtensionParameter

from gateway.stream.framing import framed

WINDOW_BITS = 15
END = b"\x00\x00\xff\xff"
"""Of every message that is compressed, and left out of it."""


class Codec(Enum):
    """How the messages of a batch are written."""

    PLAIN = auto()
    TOGETHER = auto()
    """Compressed, each with reference to those before it in the batch."""

    APART = auto()
    """Compressed, each for itself."""


def payload(messages: Iterable[bytes], codec: Codec) -> bytes:
    """The frames of a batch."""
    if codec is Codec.PLAIN:
        return b"".join(map(framed, messages))
    frames = []
    stream = _stream()
    for message in messages:
        compressed = stream.compress(message) + stream.flush(zlib.Z_SYNC_FLUSH)
        frames.append(framed(compressed[: -len(END)], compressed=True))
        if codec is Codec.APART:
            stream = _stream()
    return b"".join(frames)


def _stream() -> "zlib._Compress":
    return zlib.compressobj(wbits=-WINDOW_BITS)


class Agreed(PerMessageDeflate):
    """What was agreed with a client; decodes what it says."""

    def __init__(self, codec: Codec) -> None:
        super().__init__(
            remote_no_context_takeover=True,
            local_no_context_takeover=True,  # or it would keep a compressor, which nobody uses
            remote_max_window_bits=WINDOW_BITS,
            local_max_window_bits=WINDOW_BITS,
        )
        self.codec = codec


class Offers(ServerExtensionFactory):
    """Takes a client's offer of permessage-deflate, unless it wants a window smaller than the batches'."""

    name = ExtensionName("permessage-deflate")

    def process_request_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> tuple[list[ExtensionParameter], Extension]:
        """What is answered, and what comes of it; raises NegotiationError for an offer that cannot be taken."""
        wishes = dict(params)
        known = {"server_no_context_takeover", "client_no_context_takeover", "client_max_window_bits"}
        if len(wishes) < len(params) or wishes.keys() - known or accepted_extensions:
            raise NegotiationError("not with these parameters")
        answer: list[ExtensionParameter] = [("client_no_context_takeover", None)]
        if "server_no_context_takeover" not in wishes:
            return answer, Agreed(Codec.TOGETHER)
        return [("server_no_context_takeover", None), *answer], Agreed(Codec.APART)


def codec_of(extensions: Iterable[Extension]) -> Codec:
    """How to write for a connection with these."""
    return next((one.codec for one in extensions if isinstance(one, Agreed)), Codec.PLAIN)
