"""Contestants that are processes: started, warmed up, frozen while the log is filled, and then timed until all is done.

So start-up, imports and a cold JVM count for nobody, and everybody finds a full log.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks import clocks
from benchmarks.harness import Measured, Unavailable
from benchmarks.stage import Stage

LIMIT_S = 240.0
POLL_S = 0.02


@dataclass(frozen=True)
class Program:
    """A running process and its children, in a session of their own."""

    pid: int
    log: Path
    ended: Callable[[], int | None]

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def wait(self, condition: Callable[[], bool], *, what: str, limit_s: float = LIMIT_S) -> None:
        """Until the condition holds. Raises `Unavailable` when the program ends before, or the limit is over."""
        deadline_s = time.monotonic() + limit_s
        while not condition():
            if (code := self.ended()) is not None:
                raise Unavailable(f"ended with {code} before {what}: {self._last_line()}")
            if time.monotonic() > deadline_s:
                raise Unavailable(f"given up: not {what} within {limit_s:.0f} s: {self._last_line()}")
            time.sleep(POLL_S)

    def _last_line(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        told = [line for line in lines if "Error" in line or "Exception" in line] or lines or ["no word"]
        return told[-1].strip()[:300]


def end_in_order() -> None:
    """Have SIGTERM end this process as Ctrl-C does, through every ``finally``: what it started must not outlive it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


@contextmanager
def started(stage: Stage, name: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[Program]:
    """Run a program until the block is left; its words go to a log in the scratch folder."""
    log = stage.root / f"{name}.log"
    with log.open("w") as words:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=subprocess.STDOUT,
            cwd=stage.root,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    program = Program(process.pid, log, process.poll)
    try:
        yield program
    finally:
        program.signal(signal.SIGCONT)
        program.signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            program.signal(signal.SIGKILL)
            process.wait(10)


def consume(
    stage: Stage,
    program: Program,
    *,
    append: Callable[[int, int], None],
    done: Callable[[int], bool],
    watcher: int | None = None,
    jvm: bool = False,
) -> Measured:
    """Time a program that consumes: ``append(first, end)`` puts trades into its log, ``done(end)`` says that it is
    through with the first ``end`` of them. ``watcher`` is the database's process that answers `done`, not counted.

    With ``jvm`` what its compiler takes is the part "compiler" and not the client's: it compiles for longer than a
    round lasts. It needs a JVM with -XX:-UseDynamicNumberOfCompilerThreads, of which no such thread ends.
    """
    append(0, stage.warm_up)
    program.wait(lambda: done(stage.warm_up), what=f"through with the first {stage.warm_up:,} events")
    program.signal(signal.SIGSTOP)
    append(stage.warm_up, len(stage.trades))
    done(len(stage.trades))  # once before the clock starts: a question may have to be prepared
    watch = stage.watch(clocks.tree(program.pid), without=watcher)
    if jvm:
        watch = clocks.Watch({**watch.parts, "compiler": lambda: clocks.compilers(program.pid)})
    watch.start()
    program.signal(signal.SIGCONT)
    program.wait(lambda: done(len(stage.trades)), what=f"through with {stage.events:,} events")
    cpu_s, wall_s = watch.stop()
    cpu_s["client"] -= cpu_s.get("compiler", 0.0)
    return Measured(stage.events, cpu_s, wall_s)
