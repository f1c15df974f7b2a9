"""The processes of the chaos test: started, killed, frozen and woken. None outlives the test."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from producers.spool import Spool
from sentio.stack.processes import LAUNCHER
from tests.pipeline import until

REPOSITORY = Path(__file__).parents[2]
SENTIO = (sys.executable, "-m", "sentio")
WAIT_S = 90.0
LAST_LINES = 25

QUICK, SLOW = 2_000, 400
"""Events a second of all who publish: on the way to the next step, and while a step is taken."""

T = TypeVar("T")


def wait(condition: Callable[[], T], check: Callable[[], None], timeout_s: float = WAIT_S) -> T:
    """What ``condition`` gives once it is true; fails when ``check`` does, or when the time is over."""

    def met() -> T:
        check()
        return condition()

    found: T = until(met, timeout_s=timeout_s)
    return found


def write_pace(path: Path, events_per_s: float) -> None:
    """Say in a file how many events a second are wanted; whoever reads it meanwhile sees a whole number."""
    draft = path.with_suffix(".new")
    draft.write_text(str(events_per_s))
    draft.replace(path)


class Actor:
    """One process of ours, which dies with the test."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        launch = [LAUNCHER, str(int(signal.SIGKILL)), str(os.getpid()), "-1", "-1", str(REPOSITORY)]
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", *launch, *command],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(WAIT_S)

    def ended(self) -> int:
        """Its exit code, once it ends by its own decision."""
        try:
            return self._process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} does not end:\n{self.last_words()}") from None

    def stop(self) -> None:
        """Have it end in order."""
        self._process.terminate()
        assert self.ended() == 0, f"{self.name} did not end in order: {self.last_words()}"

    def last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LAST_LINES:])

    def check(self) -> None:
        assert self.running, f"{self.name} ended by itself with {self._process.returncode}:\n{self.last_words()}"


class Fleet:
    """The members of consumer groups. Each has a database role of its own, so that the ledger can say who wrote."""

    def __init__(self, folder: Path, environment: Mapping[str, str], database: str) -> None:
        self._folder = folder
        self._environment = environment
        self._database = database
        self._started = 0
        self.wanted: dict[str, int] = {}
        self.members: dict[str, list[Actor]] = {}

    def scale(self, group: str, size: int) -> None:
        """Have the group consist of so many members; those that are too many leave in order."""
        self.wanted[group] = size
        while len(self.members.get(group, ())) > size:
            self.members[group].pop(0).stop()
        self.restore(group)

    def restore(self, group: str) -> None:
        """Start as many members as are missing."""
        members = self.members.setdefault(group, [])
        while len(members) < self.wanted[group]:
            self._started += 1
            name = f"{group}{self._started}"
            dsn = self._database.replace("://sentio@", f"://{name}@")
            environment = {**self._environment, "SENTIO_DATABASE": dsn}
            members.append(Actor(name, [*SENTIO, "run", group], environment, self._folder / f"{name}.log"))

    def kill(self, group: str, member: Actor) -> None:
        member.kill()
        self.members[group].remove(member)

    def check(self) -> None:
        """Fail when a member ended by itself: chaos is no reason to give up."""
        for member in self.everyone():
            member.check()

    def everyone(self) -> list[Actor]:
        return [member for members in self.members.values() for member in members]


@dataclass(frozen=True, slots=True)
class Run:
    """What is known of one run of the publisher after its end."""

    producer: str
    published: int
    acknowledged: int
    closed: bool
    """It ended in order, and not by SIGKILL."""

    accepted: frozenset[bytes]
    """Ids of the events that its spool held when it ended."""


class Publisher:
    """An engine in Python: run after run on one spool."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *, seed: int, base: datetime) -> None:
        self._folder = folder
        self._spool = folder / "spool"
        self._environment = {**environment, "SENTIO_SPOOL": str(self._spool)}
        self._seed = seed
        self._pace = folder / "pace"
        self._arguments = [base.isoformat(), str(self._pace)]
        self._actor: Actor | None = None
        self.runs: list[Run] = []
        self.pace(0)
        self.start()

    def start(self) -> None:
        name = f"publisher{len(self.runs)}"
        self._report = self._folder / f"{name}.jsonl"
        arguments = [
            sys.executable,
            "-m",
            "tests.chaos.publish",
            str(self._report),
            f"{self._seed}/{name}",
            *self._arguments,
        ]
        self._actor = Actor(name, arguments, self._environment, self._folder / f"{name}.log")

    def pace(self, events_per_s: float) -> None:
        write_pace(self._pace, events_per_s)

    @property
    def published(self) -> int:
        """Events given to `publish` in all runs."""
        return sum(run.published for run in self.runs) + int(self._last_report().get("published", 0))

    @property
    def acknowledged(self) -> int:
        """At least so many events are in the log."""
        return sum(run.acknowledged for run in self.runs) + int(self._last_report().get("acknowledged", 0))

    def kill_and_start(self) -> None:
        """SIGKILL, note what its spool holds, and start the next run on it."""
        self._end(closed=False)
        self.start()

    def close(self) -> None:
        self._end(closed=True)

    def check(self) -> None:
        assert self._actor is not None
        self._actor.check()
        assert not self._last_report().get("failed"), self._actor.last_words()

    def kill(self) -> None:
        if self._actor is not None:
            self._actor.kill()

    def _end(self, *, closed: bool) -> None:
        assert self._actor is not None
        wait(self._last_report, self.check)  # it is at work, and no more a Python that starts
        if closed:
            self._actor.stop()
        else:
            self._actor.kill()
        last = self._last_report()
        assert not last["failed"], self._actor.last_words()
        self.runs.append(Run(last["producer"], last["published"], last["acknowledged"], closed, self._in_spool()))
        self._report = self._folder / "none"

    def _last_report(self) -> dict[str, Any]:
        """Its newest whole line; none yet just after a start."""
        try:
            whole, _, _ = self._report.read_bytes().rpartition(b"\n")
        except FileNotFoundError:
            return {}
        report: dict[str, Any] = json.loads(whole.rpartition(b"\n")[2] or b"{}")
        return report

    def _in_spool(self) -> frozenset[bytes]:
        """Event ids in a copy of the spool, read as the next run will read it."""
        copy = self._folder / "spool-at-death"
        shutil.copytree(self._spool, copy)
        spool = Spool(copy, max_bytes=1 << 40)
        assert not spool.lost_bytes
        found = set()
        while records := spool.read(10_000):
            # The id is the first field of every event, after the frame's five bytes.
            found |= {record.value[5:21] for _, record in records}
        spool.close()
        shutil.rmtree(copy)
        return frozenset(found)
