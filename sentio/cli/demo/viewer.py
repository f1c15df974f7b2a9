"""The demo's WebSocket client: receives every channel, keeps what it got on disk, comes back with its cursors."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect

PAUSE_S = 0.2


class Viewer:
    """A client in a thread. ``received`` holds each event by channel and event id; a repeat is counted, not kept.

    There are latencies only where ``ids_tell_when`` events were published; an engine's ids have its own time.
    """

    def __init__(
        self, address: Callable[[], str], channels: list[str], keep: Path, *, ids_tell_when: bool = True
    ) -> None:
        self.received: dict[str, dict[str, dict[str, Any]]] = {channel: {} for channel in channels}
        self.repeats: Counter[str] = Counter()
        self.latencies_ms: list[float] = []
        self._ids_tell_when = ids_tell_when
        self.problems: list[str] = []
        self.connections = 0
        self.subscribed = threading.Event()
        self._address = address
        self._cursors: dict[str, str] = {}
        self._stop = threading.Event()
        self._recall(keep)
        self._file = keep.open("a")
        self._thread = threading.Thread(target=self._run, name="demo-viewer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)
        self._file.close()

    def _recall(self, keep: Path) -> None:
        """What an earlier run of this demo received, so that a crash of the demo loses nothing either."""
        if not keep.exists():
            return
        whole, _, torn = keep.read_text().rpartition("\n")
        if torn:
            keep.write_text(whole + "\n" if whole else "")
        for line in whole.splitlines():
            self._take(json.loads(line))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with connect(self._address(), max_size=None, open_timeout=5, close_timeout=1) as connection:
                    self.connections += 1
                    self._listen(connection)
            except (ConnectionClosed, InvalidHandshake, OSError, TimeoutError):
                # The gateway is gone or not there yet: come back, with what we have.
                self._stop.wait(PAUSE_S)

    def _listen(self, connection: ClientConnection) -> None:
        request: dict[str, Any] = {
            "id": 1,
            "op": "subscribe",
            "channels": list(self.received),
            "latency": "lowest",
            "conflate": False,
        }
        if self._cursors:
            request["cursor"] = self._cursors
        connection.send(json.dumps(request))
        while not self._stop.is_set():
            try:
                text = connection.recv(timeout=0.2)
            except TimeoutError:
                continue
            now_ms = time.time() * 1000
            frame = json.loads(text)
            match frame["type"]:
                case "update":
                    self._time(frame["data"]["event_id"], now_ms)
                    self._note(frame)
                case "snapshot":
                    if frame["data"]:
                        self.problems.append(f"{frame['channel']}: a snapshot where history was to come")
                    self._note(frame)
                case "resume_failed":
                    self.problems.append(f"{frame['channel']}: resume failed: {frame['reason']}")
                case "error":
                    # The gateway cannot serve us yet; the connection is made anew.
                    return
            if self._cursors.keys() == self.received.keys():
                self.subscribed.set()

    def _time(self, event_id: str, now_ms: float) -> None:
        if self._ids_tell_when:
            self.latencies_ms.append(now_ms - _published_ms(event_id))

    def _note(self, frame: dict[str, Any]) -> None:
        self._file.write(json.dumps(frame) + "\n")
        self._file.flush()
        self._take(frame)

    def _take(self, frame: dict[str, Any]) -> None:
        channel = frame["channel"]
        self._cursors[channel] = frame["cursor"]
        if frame["type"] == "update":
            event = frame["data"]
            if event["event_id"] in self.received[channel]:
                self.repeats[channel] += 1
            self.received[channel][event["event_id"]] = event


def _published_ms(event_id: str) -> int:
    """When publish() took the event: the first 48 bits of its UUIDv7."""
    return int.from_bytes(UUID(event_id).bytes[:6], "big")
