"""Starting and stopping server processes so that none is ever left behind.

What a server is told and when it is ready is the business of its own file; here is only the process.
"""

import errno
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from sentio.errors import Fatal

POLL_S = 0.02
TAIL_BYTES = 64 * 1024

# Below the ports the system gives to outgoing connections: a client that reconnects to a killed server
# could otherwise be given that very port, connect to itself, and keep the server from coming back.
PORTS = range(20_000, 30_000)

# Runs between fork and the server. A new interpreter instead of preexec_fn, which may deadlock (and warns)
# in a process with threads. PR_SET_PDEATHSIG comes after setuid, which would clear it; what it needs is
# imported before, since the user may not be able to read our Python.
LAUNCHER = """
import ctypes, os, sys
death_signal, parent, uid, gid = map(int, sys.argv[1:5])
libc = ctypes.CDLL(None)
os.setsid()
os.chdir(sys.argv[5])
if uid >= 0:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
if death_signal and sys.platform == "linux":
    libc.prctl(1, death_signal, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent died before the server started")
os.execvp(sys.argv[6], sys.argv[6:])
"""


@dataclass(frozen=True)
class User:
    """Whom a server runs as, where it refuses to run as root."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Record:
    """A started server as its record file keeps it: pid and start time together are its identity."""

    name: str
    command: str
    pid: int
    started: str
    port: int

    @property
    def running(self) -> bool:
        now = _process(self.pid)
        if now is None or now.started != self.started:
            return False
        if now.zombie:
            with suppress(ChildProcessError):  # not ours to reap
                os.waitpid(self.pid, os.WNOHANG)
        return not now.zombie


@dataclass(frozen=True)
class _Process:
    started: str  # in the system's own words
    zombie: bool


@cache
def _spawner() -> ThreadPoolExecutor:
    """The thread that starts every server.

    Linux sends the parent-death signal when the *thread* that forked ends: a server started by a
    short-lived thread would die with that thread.
    """
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="sentio-spawner")


def spawn(
    command: Sequence[str],
    *,
    name: str,
    port: int,
    record: Path,
    log: Path,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    user: User | None = None,
    death_signal: signal.Signals | None = None,
) -> Record:
    """Start a server in a session of its own (Ctrl-C is not for it) and write its record file.

    ``death_signal`` is what Linux sends it when this process dies, however it dies; elsewhere it is
    ignored. The log of the run before is kept as ``<log>.1``.
    """
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))
    uid, gid = (user.uid, user.gid) if user else (-1, -1)
    settings = [*map(str, (int(death_signal or 0), os.getpid(), uid, gid)), str(cwd)]
    launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, *settings, *command]
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    # Not subprocess: its objects complain of a process that outlives them, as ours may.
    pid = _spawner().submit(os.posix_spawn, launcher[0], launcher, dict(env or os.environ), file_actions=files).result()
    process = _process(pid)
    assert process, "a child stays at least as a zombie until it is reaped"
    started = Record(name, Path(command[0]).name, pid, process.started, port)
    unfinished = record.with_name(f"{record.name}.new")
    unfinished.write_text(json.dumps(asdict(started)))
    unfinished.replace(record)
    return started


def leftover(record: Path) -> Record | None:
    """The process of a record file if it still runs; the record of one that is gone is removed."""
    try:
        found = Record(**json.loads(record.read_text()))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        found = None
    if found and found.running:
        return found
    record.unlink(missing_ok=True)
    return None


def stop(server: Record, how: signal.Signals = signal.SIGTERM, *, timeout_s: float = 20.0) -> None:
    """Ask a server to end, and kill it when it has not after ``timeout_s``; returns once it is gone."""
    _send(server, how)
    if not until(lambda: not server.running, timeout_s=timeout_s):
        kill(server)


def kill(server: Record) -> None:
    """SIGKILL, and wait until the process is gone."""
    _send(server, signal.SIGKILL)
    if not until(lambda: not server.running, timeout_s=10.0):
        raise Fatal(f"{server.name} (pid {server.pid}) does not end, not even by SIGKILL")


def kill_all_in(folder: Path, executable: str) -> None:
    """SIGKILL every process of that program whose working directory is ``folder`` (where there is /proc)."""

    def none_left() -> bool:
        found = _working_in(folder, executable)
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not found

    if not until(none_left, timeout_s=10.0):
        raise Fatal(f"processes of {executable} in {folder} do not end, not even by SIGKILL")


def _working_in(folder: Path, executable: str) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile, or is not ours
            if (entry / "cwd").readlink() == folder and (entry / "exe").readlink().name == executable:
                found.append(int(entry.name))
    return found


def until(condition: Callable[[], bool], *, timeout_s: float) -> bool:
    """Wait for a condition; false when it did not come true in time."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(POLL_S)
    return True


def answered(server: Record, answers: Callable[[int], bool], *, timeout_s: float) -> bool:
    """Wait until a server answers on its port; false if it ends or takes too long."""
    found = False

    def settled() -> bool:
        nonlocal found
        found = server.running and answers(server.port)
        return found or not server.running

    until(settled, timeout_s=timeout_s)
    return found


def check_lost_its_port(server: Record, log: Path, errors: tuple[str, ...], timeout_s: float) -> None:
    """Of a server that did not answer: raises `Fatal` with its own word, unless its port was taken meanwhile.

    ``errors`` are the words by which its log tells what is wrong; without them its last line says how far it came.
    """
    lines = tail(log).splitlines()
    if any("Address already in use" in line for line in lines):
        return
    said = [line for line in lines if any(word in line for word in errors)]
    what = f"did not answer in {timeout_s:.0f} s" if server.running else "ended before it answered"
    raise Fatal(f"{server.name} {what}: {(said or lines[-1:] or ['no message'])[0][:300]} (log: {log})")


def free_port(previous: int | None) -> int:
    """The previous port if it is free, so that clients find a restarted server; else another."""
    # A port is taken twice only if two starts race for it, which the caller notices and tries again.
    choices = random.sample(PORTS, 100)
    for port in [previous, *choices] if previous else choices:
        if not taken(port):
            return port
    raise Fatal(f"no free port on 127.0.0.1 between {PORTS.start} and {PORTS.stop}")


def taken(port: int) -> bool:
    """Whether someone listens on that port of 127.0.0.1, or could not be replaced there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError as failure:
            if failure.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            return True
    return False


def answers(port: int) -> bool:
    """Whether something accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def tail(log: Path) -> str:
    """The end of a log."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        return file.read().decode(errors="replace")


def size_bytes(folder: Path) -> int:
    """What the files of a folder take on disk (Kafka's indexes are sparse: their length says nothing)."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # a running server removes files
                total += os.lstat(Path(parent, name)).st_blocks * 512
    return total


def _send(server: Record, how: signal.Signals) -> None:
    if server.running:
        with suppress(ProcessLookupError):
            os.kill(server.pid, how)


def _process(pid: int) -> _Process | None:
    """What the system knows of a process; none if it is gone."""
    if sys.platform != "linux":
        shown = subprocess.run(
            ["ps", "-o", "state=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        state, _, started = shown.stdout.strip().partition(" ")
        return _Process(started.strip(), state.startswith("Z")) if state else None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name before may hold spaces. What is left begins with field 3 of proc(5), the state; 20 is the
    # number of threads: the first may be a zombie while others still run and hold the port.
    fields = stat.rpartition(")")[2].split()
    return _Process(started=fields[19], zombie=fields[0] in "ZX" and int(fields[17]) <= 1)
