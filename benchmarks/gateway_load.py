"""The clients of the gateway's benchmark: the program of benchmarks/load/, built once, and what it is asked."""

import hashlib
import json
import selectors
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.harness import Unavailable
from benchmarks.peers import installed
from benchmarks.stage import Stage

SOURCES = Path(__file__).parent / "load"
ANSWER_S = 30.0
POLL_S = 0.02


class Load:
    """Some thousand clients of one server."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self._process = process
        self._log = log
        assert process.stdin
        assert process.stdout
        self._input, self._output = process.stdin, process.stdout
        self._answers = selectors.DefaultSelector()
        self._answers.register(self._output, selectors.EVENT_READ)

    def ask(self, command: str) -> dict[str, Any]:
        """The answer to a command of load.c. Raises `Unavailable` when it has ended, or does not answer."""
        try:
            self._input.write(f"{command}\n")
            self._input.flush()
        except BrokenPipeError as failure:
            raise Unavailable(f"the clients ended: {self.said()}") from failure
        line = self._output.readline() if self._answers.select(ANSWER_S) else ""
        if not line:
            raise Unavailable(f"the clients gave no answer: {self.said()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def wait(self, what: str, count: int, *, limit_s: float) -> None:
        """Until so many are "live", or so many "updates" have come since the last report."""
        deadline_s = time.monotonic() + limit_s
        while (found := self.ask("count")[what]) < count:
            if time.monotonic() > deadline_s:
                raise Unavailable(f"{found:,} of {count:,} {what} within {limit_s:.0f} s. {self.said()}")
            time.sleep(POLL_S)

    def said(self) -> str:
        """What the clients complain of."""
        return " ".join(self._log.read_text(errors="replace").split())[:300]


@contextmanager
def started(stage: Stage, port: int, clients: int, options: Sequence[str]) -> Iterator[Load]:
    """Clients of the server on this port; they end with the block."""
    log = stage.root / "load.log"
    with (
        log.open("w") as words,
        subprocess.Popen(
            [str(program()), str(port), str(clients), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
            text=True,
        ) as process,
    ):
        try:
            yield Load(process, log)
        finally:
            process.kill()


def program() -> Path:
    """Built with the machine's C compiler; raises `Unavailable` when it cannot be."""
    sources = sorted(SOURCES.glob("*.[ch]"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    built = installed.FOLDER / f"load-{digest}"
    if not built.exists():
        installed.FOLDER.mkdir(parents=True, exist_ok=True)
        code = [str(path) for path in sources if path.suffix == ".c"]
        command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-std=gnu11", "-o", str(built), *code]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        except OSError as failure:
            raise Unavailable("no C compiler (cc) for the load client") from failure
        if done.returncode:
            raise Unavailable(f"the load client: {done.stderr[:300]}")
    return built
