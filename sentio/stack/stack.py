"""Kafka and PostgreSQL together, on this machine: what `sentio stack` and the demo run on."""

import fcntl
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sentio.stack.kafka import KafkaServer
from sentio.stack.postgres import PostgresServer
from sentio.stack.server import Server


@dataclass(frozen=True)
class Addresses:
    """Where clients find the servers: bootstrap servers and a DSN."""

    kafka: str
    database: str


@dataclass(frozen=True)
class Component:
    """State of one server; ``address`` is kept over a stop, ``data_bytes`` is what it takes on disk."""

    name: str
    running: bool
    pid: int | None
    address: str | None
    data_bytes: int
    log: Path


class Stack:
    """Both servers, with all they keep under ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.kafka = KafkaServer(self.root / "kafka")
        self.database = PostgresServer(self.root / "postgres")

    def up(self, *, dies_with_parent: bool) -> Addresses:
        """Start what does not run yet, both at once, and wait until they answer.

        With ``dies_with_parent`` those started now end with this process; else they stay until `down`.
        If one cannot start, neither is left running that did not run before.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with self._alone():
            servers = (self.kafka, self.database)
            idle = [server for server in servers if not server.process]
            for server in idle:
                server.dies_with_parent = dies_with_parent
            pool = ThreadPoolExecutor(max_workers=2)
            try:
                kafka = pool.submit(self.kafka.start, reuse=True)
                database = pool.submit(self.database.start, reuse=True)
                return Addresses(kafka.result(), database.result())
            except BaseException:
                _stop(idle)
                pool.shutdown()
                _stop(idle)  # one may have been about to start when the other failed, or at Ctrl-C
                raise
            finally:
                pool.shutdown()

    def down(self) -> None:
        """Stop both; data and addresses stay for the next `up`."""
        if not self.root.exists():
            return
        with self._alone(), ThreadPoolExecutor(max_workers=2) as pool:
            stopped = [pool.submit(self.kafka.stop), pool.submit(self.database.stop)]
        for each in stopped:
            each.result()

    def remove(self) -> None:
        """Stop both at once and delete all they keep."""
        self.kafka.remove()
        self.database.remove()
        shutil.rmtree(self.root, ignore_errors=True)

    def status(self) -> list[Component]:
        servers: list[tuple[str, KafkaServer | PostgresServer]] = [
            ("kafka", self.kafka),
            ("postgres", self.database),
        ]
        return [
            Component(name, (pid := server.pid) is not None, pid, server.address, server.size_bytes, server.log)
            for name, server in servers
        ]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One `up` or `down` at a time, also of different processes; the lock ends with its holder."""
        with (self.root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _stop(servers: Sequence[Server]) -> None:
    for server in servers:
        server.stop()
