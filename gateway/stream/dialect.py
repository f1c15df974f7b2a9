"""In which words a client is told what happens on a channel: the stream's own (`gateway.stream.native`), or others'."""

from collections.abc import Sequence
from typing import Protocol

from gateway.stream.channels import Channel
from gateway.stream.cursor import Positions
from gateway.stream.ring import Entry


class Dialect(Protocol):
    """What is the same for all clients of a channel with the same delivery. Two are equal when they are one."""

    def update(self, entry: Entry, channel: Channel, positions: Positions, *, conflate: bool) -> bytes:
        """One event; who has it has all before ``positions``."""

    def snapshot(self, channel: Channel, positions: Positions, documents: Sequence[str], *, truncated: bool) -> bytes:
        """What there was before ``positions``, as JSON objects."""

    def resume_failed(self, channel: Channel, reason: str, message: str) -> bytes:
        """What was heard so far and what follows may have a gap between them; a snapshot comes next."""
