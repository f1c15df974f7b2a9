"""Processor time of processes, from /proc: user and system, with all their children."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Clock = Callable[[], float]
"""Seconds of processor time so far."""


def own() -> float:
    """This process, all threads."""
    return time.process_time()


def exact(pid: int) -> Clock:
    """One process, all threads, to the nanosecond: clock_getcpuclockid(3), as Linux numbers it."""
    return lambda: time.clock_gettime(~pid << 3 | 2)


def tree(pid: int, *, without: int | None = None) -> Clock:
    """A process and its descendants, also those that have ended (their parents' cutime and cstime hold them).

    ``without`` leaves one out: the server process that answers the questions of whoever watches.
    """
    return lambda: sum(_total_s(each) for each in _descendants(pid) if each != without)


def compilers(pid: int) -> float:
    """A JVM's compiling threads, C1 and C2, so far; those that have ended are not in it."""
    stats = [(entry / "stat").read_text() for entry in Path(f"/proc/{pid}/task").iterdir()]
    compiling = [stat.rpartition(")")[2].split() for stat in stats if " CompilerThre" in stat]
    return sum(int(fields[11]) + int(fields[12]) for fields in compiling) / TICKS_PER_S


@dataclass
class Watch:
    """Processor time by part, and wall time, between `start` and `stop`."""

    parts: Mapping[str, Clock]
    _cpu_s: dict[str, float] = field(default_factory=dict)
    _wall_s: float = 0.0

    def start(self) -> Self:
        self._cpu_s = {part: clock() for part, clock in self.parts.items()}
        self._wall_s = time.perf_counter()
        return self

    def stop(self) -> tuple[dict[str, float], float]:
        """(processor seconds by part, wall seconds) since `start`."""
        wall_s = time.perf_counter() - self._wall_s
        return {part: clock() - self._cpu_s[part] for part, clock in self.parts.items()}, wall_s


def _stat(pid: int) -> list[str]:
    """Fields of proc(5)'s stat from the third on: the name before them may hold spaces."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _total_s(pid: int) -> float:
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) / TICKS_PER_S  # utime, stime, cutime, cstime


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        if fields := _stat(int(entry.name)):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found
