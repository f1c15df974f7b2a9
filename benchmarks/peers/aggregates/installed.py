"""Peers in environments of their own under .sentio/bench/, made on first use from pinned names."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Unavailable

ROOT = Path(__file__).parents[3] / ".sentio" / "bench"
LIMIT_S = 600.0

PYTHONS = (sys.executable, "python3.12", "python3.11")
"""Tried in this order: not every peer has wheels for the newest."""


def python(requirements: Path) -> Path:
    """The interpreter of an environment with exactly these packages. Raises `Unavailable` with pip's word."""
    folder = ROOT / requirements.stem
    found = folder / "bin" / "python"
    if _is_made(folder, [requirements]):
        return found
    reasons = []
    for interpreter in PYTHONS:
        if not shutil.which(interpreter):
            continue
        shutil.rmtree(folder, ignore_errors=True)
        try:
            _run([interpreter, "-m", "venv", str(folder)])
            _run([str(found), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(requirements)])
        except Unavailable as failure:
            reasons.append(str(failure))
        else:
            _note_made(folder, [requirements])
            return found
    raise Unavailable("; ".join(dict.fromkeys(reasons)))


def java(sources: Path) -> str:
    """The class path of a folder's Java classes and the jars of its pom.xml. Raises `Unavailable`."""
    folder = ROOT / sources.name
    files = sorted([*sources.glob("*.java"), sources / "pom.xml"])
    if missing := [name for name in ("mvn", "javac", "java") if not shutil.which(name)]:
        raise Unavailable(f"there is no {missing[0]} on the PATH")
    if not _is_made(folder, files):
        shutil.rmtree(folder, ignore_errors=True)
        jars = f"-DoutputDirectory={folder / 'jars'}"
        pom = str(sources / "pom.xml")
        _run(["mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", jars, "-DincludeScope=runtime"])
        classes = [str(file) for file in files if file.suffix == ".java"]
        _run(["javac", "-cp", str(folder / "jars" / "*"), "-d", str(folder / "classes"), *classes])
        _note_made(folder, files)
    return f"{folder / 'classes'}:{folder / 'jars' / '*'}"


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except subprocess.TimeoutExpired as failure:
        raise Unavailable(f"{Path(command[0]).name} did not end within {LIMIT_S:.0f} s") from failure
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if "rror" in line] or ["no word"]
        raise Unavailable(f"{Path(command[0]).name}: {lines[-1].strip()[:200]}")


def _is_made(folder: Path, files: Sequence[Path]) -> bool:
    made = folder / ".complete"
    return made.is_file() and made.read_text() == _digest(files)


def _note_made(folder: Path, files: Sequence[Path]) -> None:
    (folder / ".complete").write_text(_digest(files))


def _digest(files: Sequence[Path]) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
