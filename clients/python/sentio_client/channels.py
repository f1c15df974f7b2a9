"""What a client has heard of each channel, over all its connections: requests to send, frames to items. No I/O."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sentio_client.decoding import decode, event_of, time
from sentio_client.errors import BadFrame, Refused
from sentio_client.events import Event
from sentio_client.items import Gap, Item, Resumed, Snapshot, Update

MOST_REQUEST_BYTES = 32 * 1024  # of 64 KiB that a gateway takes


@dataclass(slots=True)
class _Channel:
    name: str
    kind: type[Event]
    cursor: str | None = None
    last: dict[str, int] = field(default_factory=dict)
    """Offset of the last update of each partition on this connection."""

    request: int | None = None
    """The newest that asked for it on this connection."""

    live: bool = False
    """That one is acknowledged: what comes now is what it asked for."""

    resuming: bool = False
    """Asked for with a cursor, and not a word yet."""

    refetched: str | None = None
    """The cursor from which a missing message was asked for."""

    due_s: float | None = None
    """When to ask for it (again); none: it was asked for."""


class Channels:
    """The subscriptions of one stream."""

    def __init__(
        self,
        names: Sequence[str],
        *,
        cursors: Mapping[str, str],
        since: datetime | None = None,
        conflate: bool = True,
        lowest_latency: bool = False,
    ) -> None:
        self._all = {name: _Channel(name, event_of(name), cursors.get(name)) for name in names}
        self._options: dict[str, Any] = {}
        if since is not None:
            self._options["from"] = since.astimezone(UTC).isoformat().replace("+00:00", "Z")
        if not conflate:
            self._options["conflate"] = False
        if lowest_latency:
            self._options["latency"] = "lowest"
        self._id = 0

    @property
    def cursors(self) -> dict[str, str]:
        """Behind all that `heard` has given."""
        return {channel.name: channel.cursor for channel in self._all.values() if channel.cursor}

    @property
    def due_s(self) -> float | None:
        """When `requests` has something to say, on the clock of ``now_s``."""
        return min((one.due_s for one in self._all.values() if one.due_s is not None), default=None)

    def next_id(self) -> int:
        self._id += 1
        return self._id

    def connected(self) -> None:
        """A new connection knows of nothing: what came before is in the cursor."""
        for channel in self._all.values():
            channel.last.clear()
            channel.request, channel.live, channel.due_s = None, False, 0.0

    def requests(self, now_s: float) -> list[str]:
        """Frames that ask for what is due; several where one would be too large."""
        due = [channel for channel in self._all.values() if channel.due_s is not None and channel.due_s <= now_s]
        made = []
        while due:
            size = 0
            some: list[_Channel] = []
            while due and (not some or size < MOST_REQUEST_BYTES):
                some.append(due.pop(0))
                size += 2 * len(json.dumps(some[-1].name)) + len(some[-1].cursor or "") + 8
            made.append(self._request(some))
        return made

    def _request(self, channels: Sequence[_Channel]) -> str:
        request = self.next_id()
        cursors = {}
        for channel in channels:
            channel.request, channel.live, channel.due_s = request, False, None
            channel.resuming = channel.cursor is not None
            if channel.cursor:
                cursors[channel.name] = channel.cursor
        names = [channel.name for channel in channels]
        said = {"id": request, "op": "subscribe", "channels": names, "cursor": cursors, **self._options}
        return json.dumps(said, separators=(",", ":"))

    def heard(self, frame: Mapping[str, Any], now_s: float) -> Iterator[Item]:
        """What a frame gives to the application; raises `StreamError`."""
        try:
            match frame["type"]:
                case "update":
                    yield from self._update(frame, now_s)
                case "snapshot":
                    yield from self._snapshot(frame)
                case "resume_failed":
                    yield from self._resume_failed(frame)
                case "heartbeat":
                    yield from self._heartbeat(frame["cursors"])
                case "ack":
                    for channel in self._all.values():
                        if channel.request == frame["id"]:
                            channel.live = True
                case "error":
                    self._error(frame, now_s)
        except (KeyError, TypeError, ValueError, AttributeError) as failure:
            raise BadFrame(f"{failure!r} in {str(frame)[:500]}") from failure

    def _live(self, name: str) -> _Channel | None:
        """None where the frame is of a subscription that was replaced meanwhile."""
        if name not in self._all:
            raise BadFrame(f"the gateway speaks of {name}, to which this client did not subscribe")
        channel = self._all[name]
        return channel if channel.live else None

    def _update(self, frame: Mapping[str, Any], now_s: float) -> Iterator[Item]:
        channel = self._live(frame["channel"])
        if channel is None:
            return
        partition, _, offset_text = frame["seq"].partition(":")
        offset = int(offset_text)
        if frame["prev"] is not None and partition in channel.last:
            if offset <= channel.last[partition]:
                return  # had it
            # Not "differs from": the gateway leaves out what was published twice, and a client that caught up may
            # have had the second one.
            if int(frame["prev"].partition(":")[2]) > channel.last[partition]:
                place = f"{frame['prev']} of {channel.name} did not come before {frame['seq']}"
                if channel.refetched != channel.cursor:
                    channel.refetched, channel.live, channel.due_s = channel.cursor, False, now_s
                    yield Gap(channel.name, "missing", place)
                    return
                yield Gap(channel.name, "lost", place)
        event = decode(channel.kind, frame["data"])
        update = Update(channel.name, event, frame["seq"], frame["cursor"], time(frame["at"]))
        channel.last[partition] = offset
        channel.cursor = update.cursor
        if channel.resuming:
            channel.resuming = False
            yield Resumed(channel.name)
        yield update

    def _snapshot(self, frame: Mapping[str, Any]) -> Iterator[Item]:
        channel = self._live(frame["channel"])
        if channel is None:
            return
        events = tuple(decode(channel.kind, data) for data in frame["data"])
        channel.last.clear()
        channel.cursor, channel.resuming = frame["cursor"], False
        yield Snapshot(channel.name, events, bool(frame["truncated"]), frame["cursor"])

    def _resume_failed(self, frame: Mapping[str, Any]) -> Iterator[Item]:
        channel = self._live(frame["channel"])
        if channel is None:
            return
        channel.cursor, channel.resuming = None, False
        yield Gap(channel.name, frame["reason"], frame["message"])

    def _heartbeat(self, cursors: Mapping[str, str]) -> Iterator[Item]:
        for name, cursor in cursors.items():
            channel = self._live(name)
            if channel is None:
                continue
            channel.cursor = cursor
            if channel.resuming:
                channel.resuming = False
                yield Resumed(name)

    def _error(self, frame: Mapping[str, Any], now_s: float) -> None:
        code, name, request = frame["code"], frame.get("channel"), frame.get("id")
        concerned = [one for one in self._all.values() if one.request == request and name in (None, one.name)]
        if code in ("unavailable", "too_many_requests"):
            for channel in concerned:
                channel.live, channel.due_s = False, now_s + float(frame["retry_s"])
        elif code != "unauthorized":  # of a newer token: the former one holds until it ends, and then 4401 is said
            raise Refused(code, frame["message"])
