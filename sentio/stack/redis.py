"""A Redis of one's own, in memory only and on loopback: what tests run on."""

import shutil
import signal
from pathlib import Path

from sentio.errors import Fatal
from sentio.stack import processes
from sentio.stack.processes import Record

START_TIMEOUT_S = 20.0
ATTEMPTS = 5  # a port may be taken between choosing it and the server's bind


class RedisServer:
    """One server, `redis-server` of the PATH. It keeps nothing: a second start is at the same address, and empty.

    With ``dies_with_parent`` the server ends when this process does, however it ends.
    """

    def __init__(self, root: Path, *, dies_with_parent: bool = False) -> None:
        self.root = root.absolute()
        self.dies_with_parent = dies_with_parent
        self.log = self.root / "server.log"
        self._port: int | None = None
        self._record = self.root / "process.json"

    @property
    def process(self) -> Record | None:
        """The running server."""
        return processes.leftover(self._record)

    @property
    def pid(self) -> int | None:
        return process.pid if (process := self.process) else None

    @property
    def address(self) -> str:
        """URL, also of a server that is stopped; raises `Fatal` before the first start."""
        if self._port is None:
            raise Fatal(f"the Redis of {self.root} was never started")
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> str:
        """Start, wait until it answers, and return the URL.

        Raises `Fatal` when there is no redis-server, or it ends before it answers.
        """
        self.stop()
        if not shutil.which("redis-server"):
            raise Fatal("no redis-server on the PATH (Debian: apt-get install redis-server)")
        self.root.mkdir(parents=True, exist_ok=True)
        for _ in range(ATTEMPTS):
            port = processes.free_port(self._port)
            server = processes.spawn(
                ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"],
                name="redis",
                port=port,
                record=self._record,
                log=self.log,
                cwd=self.root,
                death_signal=signal.SIGKILL if self.dies_with_parent else None,
            )
            try:
                answered = processes.answered(
                    server, processes.answers, timeout_s=START_TIMEOUT_S
                ) or processes.lost_its_port(server, self.log, ("#", "error"), START_TIMEOUT_S)
            except BaseException:
                processes.kill(server)
                raise
            if answered:
                self._port = port
                return self.address
        raise Fatal(f"redis finds no free port in {ATTEMPTS} attempts; its log: {self.log}")

    def stop(self) -> None:
        """End it; nothing happens when it does not run."""
        if process := self.process:
            processes.stop(process)
        self._record.unlink(missing_ok=True)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if process := self.process:
            processes.kill(process)

    def remove(self) -> None:
        """Stop at once and delete all files."""
        self.kill()
        shutil.rmtree(self.root, ignore_errors=True)
