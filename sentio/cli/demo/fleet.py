"""The demo's processes: started, watched, started again when they die, stopped. None outlives the demo."""

import json
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sentio.errors import Fatal
from sentio.stack import processes
from sentio.stack.stack import Stack

MOST_STARTS = 20


@dataclass(slots=True)
class Member:
    """One process of the platform: ``sentio ARGUMENTS``, or another program with its arguments."""

    name: str
    arguments: tuple[str, ...]
    port_setting: str
    """Setting that takes the port of its /readyz."""

    program: Path | None = None
    starts: int = 0
    port: int | None = None
    process: processes.Record | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


class Fleet:
    """Processes under one folder: logs in logs/, what runs in run/ (a second start finds what a crash left)."""

    def __init__(self, root: Path, environment: Mapping[str, str], stack: Stack) -> None:
        self._root = root
        self._stack = stack
        self._environment = {**os.environ, **environment}
        self.members: dict[str, Member] = {}
        for folder in ("logs", "run"):
            (root / folder).mkdir(parents=True, exist_ok=True)

    def stop_leftovers(self) -> None:
        """Stop what an earlier demo that was killed could not stop."""
        for record in (self._root / "run").glob("*.json"):
            if found := processes.leftover(record):
                processes.stop(found, timeout_s=5)

    def start(self, member: Member) -> None:
        self.members[member.name] = member
        self._spawn(member)

    def tend(self) -> None:
        """Start again what died; raises `Fatal` with its last word when it ended by its own decision."""
        for server in (self._stack.kafka, self._stack.database):
            if server.process is None:
                server.start()
        for member in self.members.values():
            if member.process is not None and not member.process.running:
                self._check_last_word(member)
                if member.starts >= MOST_STARTS:
                    raise Fatal(f"{member.name} died {member.starts} times; its log is {self.log(member.name)}")
                self._spawn(member)

    def ready(self, name: str) -> bool:
        """Whether the process says that it can do its work."""
        url = f"http://127.0.0.1:{self.members[name].port}/readyz"
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return bool(answer.status == 200)  # noqa: PLR2004 - OK
        except (urllib.error.URLError, OSError):
            return False

    def result(self, name: str, holds: str) -> dict[str, Any] | None:
        """The JSON document with a name in it that a process which has done its work leaves as its last line."""
        member = self.members[name]
        if member.process is None or member.process.running:
            return None
        try:
            document = json.loads(self._last_line(name))
        except json.JSONDecodeError:
            return None
        if holds not in document:
            return None
        member.process = None
        return dict(document)

    def retire(self, name: str) -> None:
        """End a process whose work is done, and do not start it again."""
        member = self.members.pop(name, None)
        if member is not None and member.process is not None:
            processes.stop(member.process, timeout_s=8)

    def stop(self) -> None:
        """Ask all to end, then wait for each."""
        running = [m.process for m in self.members.values() if m.process is not None]
        for process in running:
            if process.running:
                os.kill(process.pid, signal.SIGTERM)
        for process in running:
            processes.stop(process, timeout_s=8)

    def log(self, name: str) -> Path:
        return self._root / "logs" / f"{name}.log"

    def _spawn(self, member: Member) -> None:
        member.port = processes.free_port(member.port)
        member.starts += 1
        member.process = processes.spawn(
            [*([str(member.program)] if member.program else [sys.executable, "-m", "sentio"]), *member.arguments],
            name=member.name,
            port=member.port,
            record=self._root / "run" / f"{member.name}.json",
            log=self.log(member.name),
            cwd=Path.cwd(),
            env={**self._environment, **member.environment, member.port_setting: str(member.port)},
            death_signal=signal.SIGTERM,
        )

    def _check_last_word(self, member: Member) -> None:
        last, speaker = self._last_line(member.name), f"{member.program.name if member.program else 'sentio'}: "
        if last.startswith(speaker):
            raise Fatal(f"{member.name}: {last.removeprefix(speaker)}")

    def _last_line(self, name: str) -> str:
        return (processes.tail(self.log(name)).strip().splitlines() or [""])[-1]
