"""What happens on a channel as events of Pusher's: named after what they tell, with JSON as text in ``data``."""

from collections.abc import Sequence

from gateway.pusher.words import channel_event
from gateway.stream.channels import Channel
from gateway.stream.cursor import Positions
from gateway.stream.ring import Entry
from gateway.wire import dumps

PRIVATE_PREFIX = "private-"


class Events:
    """`gateway.stream.dialect.Dialect`. No cursors: Pusher's clients have nowhere to put one when they come back."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def update(self, entry: Entry, channel: Channel, _: Positions, *, conflate: bool) -> bytes:
        """The event's own fields, with `seq`, `prev` and `at` before them."""
        prev = None if conflate else entry.previous_in(channel)
        previous = "null" if prev is None else f'"{entry.partition}:{prev}"'
        place = f'"seq":"{entry.partition}:{entry.offset}","prev":{previous},"at":"{entry.at}"'
        return channel_event(channel.topic.event, self._name(channel), f"{{{place},{entry.document[1:]}")

    def snapshot(self, channel: Channel, _: Positions, documents: Sequence[str], *, truncated: bool) -> bytes:
        data = f'{{"truncated":{dumps(truncated)},"data":[{",".join(documents)}]}}'
        return channel_event("snapshot", self._name(channel), data)

    def resume_failed(self, channel: Channel, reason: str, message: str) -> bytes:
        return channel_event("resume_failed", self._name(channel), dumps({"reason": reason, "message": message}))

    def _name(self, channel: Channel) -> str:
        return self._prefix + channel.name


PUBLIC = Events("")
PRIVATE = Events(PRIVATE_PREFIX)
