"""What nobody expected is reported to a tracker that is there; what has a name of its own is not."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from pydantic import SecretStr

from sentio.errors import SettingError
from sentio.tracker import configure
from tests.receivers import Received, receiver

PROGRAM = """
import threading
from sentio import log
from sentio.cli.starting import start
from sentio.config import Settings, load
from sentio.errors import Fatal

start(load(Settings), process="store", codec=False)
secret = "the password"

def fail(failure):
    hidden = "of a local variable"
    raise failure

thread = threading.Thread(target=fail, args=(KeyError("in a thread"),))
thread.start()
thread.join()
try:
    fail(ValueError("in the log"))
except ValueError:
    log.get().exception("it goes on")
try:
    fail(Fatal("expected"))
except Fatal:
    log.get().exception("as it says")
fail(RuntimeError("at the end"))
"""


def reported(received: Received) -> list[dict[str, Any]]:
    """The events in the envelopes: lines of JSON, each item behind its header."""
    found = []
    for _, body in received.requests:
        lines = [json.loads(line) for line in body.splitlines() if line.startswith(b"{")]
        found += [line for line in lines if "exception" in line]
    return found


def run(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr


def test_unexpected_exceptions_are_reported_and_no_others() -> None:
    with receiver() as tracker:
        said = run(SENTIO_ERRORS_DSN=f"http://key@127.0.0.1:{tracker.port}/1")

    assert {path for path, _ in tracker.requests} == {"/api/1/envelope/"}
    events = reported(tracker)
    values = [event["exception"]["values"][-1]["value"] for event in events]
    assert sorted(values) == ["'in a thread'", "at the end", "in the log"]
    assert {event["tags"]["process"] for event in events} == {"store"}
    assert all(
        "vars" not in frame
        for event in events
        for value in event["exception"]["values"]
        for frame in value["stacktrace"]["frames"]
    )
    assert "as it says" in said


def test_without_a_tracker_they_are_in_the_log_only() -> None:
    assert "RuntimeError: at the end" in run(SENTIO_ERRORS_DSN="")


def test_a_dsn_that_is_none_is_named() -> None:
    with pytest.raises(SettingError, match="SENTIO_ERRORS_DSN"):
        configure(SecretStr("nowhere"), process="store")
