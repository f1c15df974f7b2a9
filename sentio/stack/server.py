"""What servers of one's own have in common: one process, its record, its log, and a port that stays when it can."""

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from sentio import log
from sentio.errors import Fatal
from sentio.stack import processes
from sentio.stack.processes import Record, User

ATTEMPTS = 5  # a port may be taken between choosing it and the server's bind


class Server:
    """One server with all it keeps under ``root``; a second start is at the same port when that is free.

    With ``dies_with_parent`` it ends when this process does, however it ends.
    """

    NAME: ClassVar[str]
    ERRORS: ClassVar[tuple[str, ...]]
    """Words by which its log tells what is wrong."""

    TIMEOUT_S: ClassVar[float] = 60.0
    """Longest wait for its answer."""

    STOPS_BY: ClassVar[signal.Signals] = signal.SIGTERM
    DIES_BY: ClassVar[signal.Signals] = signal.SIGTERM
    """What it is sent when this process dies."""

    def __init__(self, root: Path, *, dies_with_parent: bool = False) -> None:
        self.root = root.absolute()
        self.dies_with_parent = dies_with_parent
        self.log = self.root / "server.log"
        self._port_file = self.root / "port"
        self._record = self.root / "process.json"

    @property
    def process(self) -> Record | None:
        """The running server, whichever run of ours started it."""
        return processes.leftover(self._record)

    @property
    def pid(self) -> int | None:
        return process.pid if (process := self.process) else None

    def stop(self) -> None:
        """Shut down in order; nothing happens when it does not run."""
        if process := self.process:
            processes.stop(process, self.STOPS_BY)
        self._record.unlink(missing_ok=True)

    def kill(self) -> None:
        """SIGKILL, as a crash would; what it keeps stays for the next start."""
        if process := self.process:
            processes.kill(process)

    def _run(self, command: Callable[[int], Sequence[str]], *, cwd: Path, user: User | None = None) -> int:
        """Start, and wait until it answers; returns the port. ``command`` is asked with each port that is tried.

        A start that hangs is given up and made anew, once; its log stays as ``server.log.1``. Raises `Fatal` when it
        ends before it answers, or hangs again.
        """
        hung = False
        for _ in range(ATTEMPTS):
            port = processes.free_port(self._previous_port())
            server = processes.spawn(
                command(port),
                name=self.NAME,
                port=port,
                record=self._record,
                log=self.log,
                cwd=cwd,
                user=user,
                death_signal=self.DIES_BY if self.dies_with_parent else None,
            )
            try:
                if self._ready(server):
                    self._port_file.write_text(str(port))
                    return port
                if server.running and not hung:
                    hung = True
                    self._say_it_hangs()
                else:
                    processes.check_lost_its_port(server, self.log, self.ERRORS, self.TIMEOUT_S)
            except BaseException:
                self.kill()
                raise
            self.kill()
        raise Fatal(f"{self.NAME} finds no free port in {ATTEMPTS} attempts; its log: {self.log}")

    def _say_it_hangs(self) -> None:
        """Of a start (Kafka's does, seldom, while it waits for its own controller)."""
        last = processes.tail(self.log).splitlines()[-1:]
        log.get().warning("server hangs, and is started anew", server=self.NAME, after_s=self.TIMEOUT_S, at=last)

    def _ready(self, server: Record) -> bool:
        return processes.answered(server, self._answers, timeout_s=self.TIMEOUT_S)

    @staticmethod
    def _answers(port: int) -> bool:
        """Whether it can be used."""
        return processes.answers(port)

    def _previous_port(self) -> int | None:
        try:
            return int(self._port_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
