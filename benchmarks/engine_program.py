"""The engine of the ring's benchmark: benchmarks/engine/publish.c with clients/c/sentio.h, built once."""

import hashlib
import subprocess
from pathlib import Path

from benchmarks.harness import Unavailable
from benchmarks.peers import installed

SOURCE = Path(__file__).parent / "engine" / "publish.c"
HEADER = Path(__file__).parents[1] / "clients" / "c" / "sentio.h"


def command(path: Path, capacity: int, events: int, rate: int, kind: str, core: int) -> list[str]:
    """Of the engine: so many trades or signals a second into the ring; a rate of 0 is as fast as it goes."""
    return [str(word) for word in (built(), path, capacity, events, rate, kind, core)]


def built() -> Path:
    """With the machine's C compiler; raises `Unavailable` when it cannot be."""
    digest = hashlib.sha256(SOURCE.read_bytes() + HEADER.read_bytes()).hexdigest()[:12]
    program = installed.FOLDER / f"publish-{digest}"
    if not program.exists():
        installed.FOLDER.mkdir(parents=True, exist_ok=True)
        flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-std=gnu11", f"-I{HEADER.parent}"]
        try:
            done = subprocess.run(
                ["cc", *flags, "-o", str(program), str(SOURCE)],
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
        except OSError as failure:
            raise Unavailable("no C compiler (cc) for the engine") from failure
        if done.returncode:
            raise Unavailable(f"the engine: {done.stderr[:300]}")
    return program
