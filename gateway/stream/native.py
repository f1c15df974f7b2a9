"""What happens on a channel in the stream's own words (`gateway.stream.protocol`)."""

from collections.abc import Sequence

from gateway.stream import protocol
from gateway.stream.channels import Channel
from gateway.stream.cursor import Positions
from gateway.stream.ring import Entry


class Native:
    """`gateway.stream.dialect.Dialect`, with cursors."""

    def update(self, entry: Entry, channel: Channel, positions: Positions, *, conflate: bool) -> bytes:
        return protocol.update(
            channel,
            partition=entry.partition,
            offset=entry.offset,
            prev=None if conflate else entry.previous_in(channel),
            cursor=positions.token,
            body=entry.body,
        )

    def snapshot(self, channel: Channel, positions: Positions, documents: Sequence[str], *, truncated: bool) -> bytes:
        return protocol.snapshot(channel, positions.token, documents, truncated=truncated)

    def resume_failed(self, channel: Channel, reason: str, message: str) -> bytes:
        return protocol.resume_failed(channel, reason, message)


NATIVE = Native()
