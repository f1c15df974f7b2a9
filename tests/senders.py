"""Engines that send lines and requests, and what takes from an inbox as a sidecar does, without Kafka."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx

from producers.sidecar.inbox import Inbox, Line, line_of
from producers.sidecar.listening import Listener
from producers.sidecar.posting import Receiver
from producers.sidecar.source import Portion
from sentio.config import SidecarSettings, load
from tests.written import columns

SIGNAL = {
    "type": "SignalGenerated",
    "symbol": "TQQQ",
    "direction": "LONG",
    "probability": 0.75,
    "confidence": 1,
    "generated_at_ms": 1_760_103_000_000,
}
TOKEN = "a token of sixteen"
EVENTS = "/v1/events"


def text(bar: int) -> bytes:
    return json.dumps(SIGNAL | {"bar_id": bar}).encode()


def lines(first: int, count: int) -> list[Line]:
    return [line_of(number, text(number)) for number in range(first, first + count)]


class Drain:
    """Takes from an inbox in a thread, as a sidecar does, while it is not held."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.portions: list[Portion] = []
        self.held = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.001):
            if not self.held and (portion := self.inbox.take(1_000)):
                self.portions.append(portion)
                self.inbox.acknowledge()

    def bars(self) -> list[int]:
        return [row["bar_id"] for row in self.rows()]

    def rows(self) -> list[dict[str, Any]]:
        return [row for portion in self.portions for batch in columns(portion).values() for row in batch.to_pylist()]

    def refused(self) -> list[tuple[str, str]]:
        return [(each.place, each.reason) for portion in self.portions for each in portion.refused]

    def close(self) -> None:
        self.inbox.close()
        self._stop.set()
        self._thread.join(10)


def drained(inbox: Inbox) -> closing[Drain]:
    return closing(Drain(inbox))


def nothing() -> None:
    pass


class Engine:
    """A client of a listener."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        self._answers = self.socket.makefile("rb")

    def send(self, *parts: bytes) -> None:
        self.socket.sendall(b"".join(parts))

    def greet(self, **greeting: object) -> None:
        self.send(json.dumps(greeting).encode(), b"\n")

    def answer(self) -> Any:
        return json.loads(self._answers.readline() or "null")

    def close(self) -> None:
        self._answers.close()
        self.socket.close()


def engine(path: Path) -> closing[Engine]:
    return closing(Engine(path))


@contextmanager
def listener(path: Path) -> Iterator[Drain]:
    with closing(Listener(str(path))) as made, drained(made.inbox) as drain:
        yield drain


@contextmanager
def receiver(**more: object) -> Iterator[tuple[Drain, httpx.Client]]:
    made = Receiver("127.0.0.1:0", load(SidecarSettings, events_token=TOKEN, **more))
    thread = threading.Thread(target=made.run)
    with drained(made.inbox) as drain:
        thread.start()
        try:
            with httpx.Client(
                base_url=f"http://127.0.0.1:{made.port}", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20
            ) as client:
                yield drain, client
        finally:
            made.stop()
            thread.join(20)
            assert not thread.is_alive()


def post(client: httpx.Client, content: bytes, kind: str = "application/x-ndjson", **headers: str) -> httpx.Response:
    named = {f"Sentio-{name.title()}": value for name, value in headers.items()}
    return client.post(EVENTS, content=content, headers={"Content-Type": kind, **named})
