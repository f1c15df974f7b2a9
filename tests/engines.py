"""C programs for tests, built with clients/c/sentio.h, and an engine that does what it is told."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

HEADER = Path(__file__).parents[1] / "clients/c/sentio.h"
SOURCES = Path(__file__).parent / "engine"
LIMIT_S = 120

C = ("cc", "-std=c99")
CPP = ("c++", "-std=c++17", "-x", "c++")
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror")
MEMORY = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
# Of copies that the compiler makes itself, in place of memcpy(), gcc's ThreadSanitizer knows nothing.
THREADS = ("-O1", "-g", "-fsanitize=thread", "-fno-builtin")

Answer = int
OK, FULL, DROPPED, NOT_OPEN, BAD_TEXT, BAD_WORD, BAD_AMOUNT, BAD_FRACTION, BAD_TIME = 0, 1, 2, -1, -2, -3, -4, -5, -6


def needs(compiler: str) -> None:
    """Skip where it is not installed, unless `SENTIO_TEST_CLIENTS=required`."""
    if shutil.which(compiler) is None:
        if os.environ.get("SENTIO_TEST_CLIENTS") == "required":
            pytest.fail(f"missing: {compiler}")
        pytest.skip(f"missing: {compiler}")


def built(folder: Path, source: Path, language: Sequence[str] = C, *flags: str) -> Path:
    """The program of a C file."""
    needs(language[0])
    folder.mkdir(exist_ok=True)
    program = folder / "-".join([source.stem, language[0], *(flag.strip("-").replace(",", "-") for flag in flags)])
    if not program.exists():
        command = [*language, *STRICT, "-O2", *flags, "-pthread", f"-I{HEADER.parent}", str(source), "-o", str(program)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
        assert done.returncode == 0, done.stderr
    return program


def ran(*command: object, status: int = 0, cwd: Path | None = None) -> str:
    """What a program says that ends with this status."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=LIMIT_S, cwd=cwd)
    assert done.returncode == status, f"{done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


class Stats(NamedTuple):
    published: int
    dropped: int
    refused: int
    unread: int
    capacity: int


class Engine:
    """A running tests/engine/driver.c."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin
        assert process.stdout
        self.process = process
        self._input, self._output = process.stdin, process.stdout
        self.opened = self._answer()
        """"open", or why not."""

    def tell(self, *words: object) -> str:
        self._input.write("|".join("~" if word is None else str(word) for word in words) + "\n")
        self._input.flush()
        return self._answer()

    def trade(self, **changed: object) -> Answer:
        fields: dict[str, object] = {
            "account": "paper-1",
            "strategy": "rotation",
            "symbol": "TQQQ",
            "action": 1,
            "side": 1,
            "quantity": 100_00000000,
            "price": 101_2500000000,
            "has_realized_pnl": 0,
            "realized_pnl": 0,
            "fees": 350000,
            "reason": "signal turned LONG",
            "order_id": None,
            "executed_at": 1_760_106_600_000_000,
        }
        return int(self.tell("trade", *(fields | changed).values()))

    def signal(self, bar: int = 1, **changed: object) -> Answer:
        fields: dict[str, object] = {
            "symbol": "TQQQ",
            "direction": 2,
            "probability": 0.75,
            "confidence": 0.5,
            "bar_id": bar,
            "generated_at": 1_760_106_600_000_000 + bar,
        }
        return int(self.tell("signal", *(fields | changed).values()))

    def position(self, **changed: object) -> Answer:
        fields: dict[str, object] = {
            "account": "paper-1",
            "symbol": "TQQQ",
            "quantity": -5_00000000,
            "average_entry": 100_0000000000,
            "mark": 101_0000000001,
            "unrealized_pnl": -5000000,
            "realized_pnl": 1,
            "updated_at": 1_760_106_600_000_000,
        }
        return int(self.tell("position", *(fields | changed).values()))

    def performance(self, **changed: object) -> Answer:
        fields: dict[str, object] = {
            "account": "paper-1",
            "equity": 100_000_250000,
            "day_return": -25000,
            "open_positions": 3,
            "realized_pnl": 250000,
            "unrealized_pnl": -1,
            "minute_at": 1_760_106_600_000_000,
        }
        return int(self.tell("performance", *(fields | changed).values()))

    def stats(self) -> Stats:
        return Stats(*map(int, self.tell("stats").split()))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(LIMIT_S)

    def die_halfway(self) -> None:
        """In the middle of a publish()."""
        self._input.write("half\n")
        self._input.flush()
        assert self.process.wait(LIMIT_S) < 0

    def _answer(self) -> str:
        return self._output.readline().rstrip("\n")


@contextmanager
def engine(
    program: Path,
    ring: Path,
    *,
    name: str = "engine",
    capacity: int = 64,
    drop: bool = False,
    version: str = "",
    mode: str = "",
) -> Iterator[Engine]:
    command = [str(program), str(ring), name, str(capacity), str(int(drop)), version, mode]
    # What is not UTF-8 goes to it as it is.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", errors="surrogateescape"
    ) as process:
        try:
            yield Engine(process)
        finally:
            process.kill()
