"""What the peers need, fetched once by name into .sentio/bench/: a virtual environment or a folder of jars each.

Never in our own lock, and from the indexes that pip and Maven know on this machine.
"""

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Unavailable

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / ".sentio" / "bench"
LIMIT_S = 600


def python(requirements: str) -> Path:
    """Interpreter of the environment of peers/requirements-NAME.txt; raises `Unavailable` when it cannot be made."""
    wanted = HERE / requirements
    folder = FOLDER / wanted.stem
    if not _complete(folder, wanted):
        shutil.rmtree(folder, ignore_errors=True)
        _do([sys.executable, "-m", "venv", str(folder)], requirements)
        _do([str(folder / "bin" / "pip"), "install", "--quiet", "-r", str(wanted)], requirements)
        _mark(folder, wanted)
    return folder / "bin" / "python"


def jars(pom: str) -> Path:
    """Folder with the dependencies of peers/POM; raises `Unavailable` when they cannot be had."""
    wanted = HERE / pom
    folder = FOLDER / wanted.stem
    if not _complete(folder, wanted):
        shutil.rmtree(folder, ignore_errors=True)
        maven = ["mvn", "--quiet", "--batch-mode", "-f", str(wanted), "dependency:copy-dependencies"]
        _do([*maven, f"-DoutputDirectory={folder}", "-DincludeScope=runtime"], pom)
        _mark(folder, wanted)
    return folder


def pinned(file: str) -> dict[str, str]:
    """Names and versions in a requirements file or a pom."""
    text = (HERE / file).read_text()
    found = re.findall(r"^([\w-]+)(?:\[[^]]*\])?==([^\s;]+)", text, re.MULTILINE)
    found += re.findall(r"<artifactId>([^<]+)</artifactId>\s*<version>([^<]+)</version>", text)
    return {name: version for name, version in found if version != "1"}  # a pom's own


def _do(command: Sequence[str], what: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except (OSError, subprocess.TimeoutExpired) as failure:
        raise Unavailable(f"{what}: {type(failure).__name__}") from failure
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line] or ["no word"]
        raise Unavailable(f"{what}: {said[0][:300]}")


def _complete(folder: Path, wanted: Path) -> bool:
    mark = folder / ".complete"
    return mark.exists() and mark.read_text() == _digest(wanted)


def _mark(folder: Path, wanted: Path) -> None:
    (folder / ".complete").write_text(_digest(wanted))


def _digest(wanted: Path) -> str:
    return hashlib.sha256(wanted.read_bytes()).hexdigest()
