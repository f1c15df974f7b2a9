"""A Redis of one's own, in memory only and on loopback: what tests run on."""

import shutil
import signal

from sentio.errors import Fatal
from sentio.stack.server import Server


class RedisServer(Server):
    """One server, `redis-server` of the PATH. It keeps nothing: a second start is at the same address, and empty."""

    NAME = "redis"
    ERRORS = ("#", "error")
    TIMEOUT_S = 20.0
    DIES_BY = signal.SIGKILL

    @property
    def address(self) -> str:
        """URL, also of a server that is stopped; raises `Fatal` before the first start."""
        if (port := self._previous_port()) is None:
            raise Fatal(f"the Redis of {self.root} was never started")
        return f"redis://127.0.0.1:{port}/0"

    def start(self) -> str:
        """Start, wait until it answers, and return the URL.

        Raises `Fatal` when there is no redis-server, or it ends before it answers.
        """
        self.stop()
        if not shutil.which("redis-server"):
            raise Fatal("no redis-server on the PATH (Debian: apt-get install redis-server)")
        self.root.mkdir(parents=True, exist_ok=True)
        nothing_kept = ["--save", "", "--appendonly", "no"]
        self._run(
            lambda port: ["redis-server", "--bind", "127.0.0.1", "--port", str(port), *nothing_kept], cwd=self.root
        )
        return self.address

    def remove(self) -> None:
        """Stop at once and delete all files."""
        self.kill()
        shutil.rmtree(self.root, ignore_errors=True)
