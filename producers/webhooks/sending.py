"""Deliveries to a receiver, at a rate, as Helius sends them: again after a second where the answer is not 200."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

AGAIN_S = 1.0
MOST_TIMES = 4
"""The first time, and three times again."""

TIMEOUT_S = 5.0


@dataclass(slots=True)
class Sent:
    """What became of the deliveries."""

    requests: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    """Of each try; a failed connection is "none"."""

    given_up: int = 0
    answered: Counter[str] = field(default_factory=Counter)
    """Events by what the receiver said of them."""


class Sender:
    """Posts bodies over a few connections, each due at its time."""

    def __init__(self, url: str, secret: str, *, connections: int, again_s: float = AGAIN_S) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._path = parts.hostname or "", parts.port or 80, parts.path
        self._headers = {"Authorization": secret, "Content-Type": "application/json"}
        self._connections = connections
        self._again_s = again_s
        self._lock = threading.Lock()
        self.sent = Sent()
        self.began_s = 0.0
        """Monotonic; when the first was due."""

        self.answered_s: dict[int, float] = {}
        """Monotonic; when each, by its number, was answered with 200."""

    def run(self, bodies: Iterable[bytes], *, every_s: float, stop: threading.Event) -> Sent:
        """Send all, one ``every_s``; returns when each is answered or given up."""
        numbered = enumerate(bodies)
        self.began_s = time.monotonic()

        def due(number: int) -> float:
            return self.began_s + number * every_s

        threads = [
            threading.Thread(target=self._work, args=(numbered, due, stop), daemon=True)
            for _ in range(self._connections)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.sent

    def _work(self, numbered: Iterator[tuple[int, bytes]], due: Callable[[int], float], stop: threading.Event) -> None:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        while not stop.is_set():
            with self._lock:
                number, body = next(numbered, (-1, b""))
            if number < 0:
                break
            stop.wait(max(0.0, due(number) - time.monotonic()))
            self._deliver(connection, number, body, stop)
        connection.close()

    def _deliver(self, connection: http.client.HTTPConnection, number: int, body: bytes, stop: threading.Event) -> None:
        for _ in range(MOST_TIMES):
            status, answer = self._post(connection, body)
            with self._lock:
                self.sent.requests += 1
                self.sent.statuses[status] += 1
                if status == "200":
                    self.answered_s[number] = time.monotonic()
                    self._note(json.loads(answer))
                    return
            if stop.wait(self._again_s):
                return
        with self._lock:
            self.sent.given_up += 1

    def _post(self, connection: http.client.HTTPConnection, body: bytes) -> tuple[str, bytes]:
        try:
            connection.request("POST", self._path, body, self._headers)
            answer = connection.getresponse()
            return str(answer.status), answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()  # the next request opens it anew
            return "none", b""

    def _note(self, answer: dict[str, object]) -> None:
        counts = {"accepted": answer["accepted"], "repeated": answer["repeated"], "refused": answer["refused_in_all"]}
        ignored = answer["ignored"]
        assert isinstance(ignored, dict)
        self.sent.answered.update({name: int(str(count)) for name, count in counts.items()})
        self.sent.answered["ignored"] += sum(ignored.values())
