"""Centrifugo, where the environment names its program (CENTRIFUGO=path): in memory, with tokens, history and recovery.

It is published to by its HTTP API, what belongs together as one batch.
"""

import http.client
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Unavailable

CHANNEL = "trades"
API_KEY = "bench"
PATH = "/connection/websocket"
LIVE = '"id":2,"subscribe":'


def program() -> str:
    """Raises `Unavailable` when there is none."""
    named = os.environ.get("CENTRIFUGO")
    if not named:
        raise Unavailable("no package registry has it; CENTRIFUGO=path names its program")
    found = shutil.which(named)
    if not found:
        raise Unavailable("CENTRIFUGO names no program")
    return found


def version() -> str:
    said = subprocess.run([program(), "version"], capture_output=True, text=True, check=False, timeout=20).stdout
    words = said.replace("\n", " ").split()
    return next((word.lstrip("v") for word in words if word.lstrip("v")[:1].isdigit()), "?")


def configured(folder: Path, port: int, secret: str) -> Path:
    """A file of its settings: what is not said is as shipped."""
    path = folder / "centrifugo.json"
    settings = {
        "http_server": {"address": "127.0.0.1", "port": port},
        "http_api": {"key": API_KEY},
        "client": {"token": {"hmac_secret_key": secret}},
        "channel": {
            "without_namespace": {
                "allow_subscribe_for_client": True,
                "history_size": 1_000,
                "history_ttl": "300s",
                "force_recovery": True,
            }
        },
        "health": {"enabled": True},
        "log": {"level": "error"},
        "usage_stats": {"disabled": True},
    }
    path.write_text(json.dumps(settings))
    return path


def first_words(token: str) -> list[str]:
    """What a client says to hear the channel."""
    said = [{"id": 1, "connect": {"token": token}}, {"id": 2, "subscribe": {"channel": CHANNEL}}]
    return [json.dumps(each, separators=(",", ":")) for each in said]


class Api:
    """Its HTTP API, on one connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def publish(self, messages: Sequence[bytes]) -> None:
        commands = ",".join(
            f'{{"publish":{{"channel":"{CHANNEL}","data":{message.decode()}}}}}' for message in messages
        )
        headers = {"X-API-Key": API_KEY, "Content-Type": "application/json"}
        self._connection.request("POST", "/api/batch", f'{{"commands":[{commands}]}}', headers)
        answer = self._connection.getresponse()
        said = answer.read()
        if answer.status != http.client.OK or b'"error"' in said:
            raise Unavailable(f"its API answered {answer.status}: {said[:200]!r}")
