"""`sentio sidecar follow`, `listen` and `http` as processes that are killed: all that was sent is there, and once."""

import json
import random
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from sentio.config import SidecarSettings
from sentio.testing.servers import Kafka
from tests.pipeline import until
from tests.ways import records, settings_for, sidecar_process

COUNT = 6_000
TOKEN = "a token of sixteen"
SIGNAL = {"type": "SignalGenerated", "symbol": "TQQQ", "direction": "LONG", "probability": 0.75, "confidence": 1}


@pytest.fixture
def settings(kafka: Kafka) -> SidecarSettings:
    return settings_for(kafka.bootstrap, kafka.prefix)


def line(bar: int) -> bytes:
    return json.dumps(SIGNAL | {"bar_id": bar, "generated_at_ms": 1_760_103_000_000 + bar}).encode() + b"\n"


def bars(settings: SidecarSettings) -> list[int]:
    """What readers take, who know repeats by their sequences."""
    newest, found = -1, []
    for row in records(settings, "SignalGenerated"):
        if row["sequence"] > newest:
            newest = row["sequence"]
            found.append(row["bar_id"])
    return found


def has_more(settings: SidecarSettings, than: int) -> bool:
    return len(bars(settings)) > than


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def reached(attempt: Callable[[], object]) -> object:
    """What it gives once somebody is there."""
    deadline_s = time.monotonic() + 40
    while True:
        try:
            return attempt()
        except (OSError, httpx.TransportError):
            assert time.monotonic() < deadline_s


def connected(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    try:
        made.connect(str(path))
    except OSError:
        made.close()
        raise
    made.settimeout(20)
    return made


def test_lines_over_a_socket(settings: SidecarSettings, tmp_path: Path) -> None:
    source, path = str(uuid4()), tmp_path / "socket"
    safe = 0
    for goal in (COUNT // 3, 2 * COUNT // 3, COUNT):
        with sidecar_process(settings, tmp_path / "log", "listen", path):
            engine = reached(lambda: connected(path))
            assert isinstance(engine, socket.socket)
            with engine, engine.makefile("rb") as answers:
                greeting = {"engine": "rotation", "source": source, "line": safe + 1, "acknowledge": True}
                engine.sendall(json.dumps(greeting).encode() + b"\n")
                engine.sendall(b"".join(line(bar) for bar in range(safe + 1, min(goal + 1_000, COUNT) + 1)))
                while safe < goal:
                    safe = json.loads(answers.readline())["acknowledged"]
        # Killed with lines under way.
    assert bars(settings) == list(range(1, COUNT + 1))


def test_posted_bodies(settings: SidecarSettings, tmp_path: Path) -> None:
    source, port = str(uuid4()), free_port()
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/x-ndjson", "Sentio-Source": source}
    bodies = list(range(1, COUNT + 1, 500))

    def posted(first: int) -> object:
        with httpx.Client(timeout=20) as client:
            return client.post(
                f"http://127.0.0.1:{port}/v1/events",
                content=b"".join(line(bar) for bar in range(first, first + 500)),
                headers=headers | {"Sentio-Line": str(first)},
            )

    def lives() -> Iterator[int]:
        """The bodies, through three lives of the sidecar; the last of each life is sent again in the next."""
        for life in (bodies[:4], bodies[3:8], bodies[7:]):
            with sidecar_process(settings, tmp_path / "log", "http", f"127.0.0.1:{port}", SENTIO_EVENTS_TOKEN=TOKEN):
                yield from life

    for first in lives():
        answer = reached(partial(posted, first))
        assert isinstance(answer, httpx.Response)
        assert (answer.status_code, answer.json()["acknowledged"]) == (200, 500)
    assert bars(settings) == list(range(1, COUNT + 1))


def test_log_files(settings: SidecarSettings, tmp_path: Path) -> None:
    moments = random.Random(1)
    logs = tmp_path / "logs"
    logs.mkdir()
    words = {"signal": 1, "symbol": "TQQQ", "probability": 0.75, "confidence": 0.5}
    written = 0
    with (logs / "signals.jsonl").open("ab") as file:
        for _ in range(4):
            with sidecar_process(settings, tmp_path / "log", "follow", logs, "--settle-s", "0.05"):
                for bar in range(written, written + COUNT // 4):
                    text = json.dumps(words | {"bar_id": bar, "timestamp_ms": 1_760_103_000_000 + bar * 10})
                    file.write(text.encode() + b"\n")
                file.flush()
                seen = written + moments.randrange(COUNT // 4)
                written += COUNT // 4
                until(partial(has_more, settings, seen), timeout_s=40)
        with sidecar_process(settings, tmp_path / "log", "follow", logs, "--settle-s", "0.05"):
            until(lambda: len(bars(settings)) >= COUNT, timeout_s=40)
    assert bars(settings) == list(range(COUNT))
