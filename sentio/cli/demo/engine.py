"""The day of the engine in examples/engine-cpp: built here, it publishes into a ring that `sentio sidecar` sends on."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from struct import Struct
from typing import Any

from producers.sidecar import layout
from producers.source import SIMULATED_DAY
from sentio.cli.demo.fleet import Fleet, Member
from sentio.cli.demo.source_check import Figures
from sentio.errors import Fatal, SettingError

SOURCES = Path(__file__).parents[3] / "examples" / "engine-cpp"
PATIENCE_S = 1_000_000
"""For room in its ring: of a day that can be computed again nothing need be lost."""

BUILD_S = 600
BOOT = Path("/proc/sys/kernel/random/boot_id")
_HEAD = Struct("<72x36s148xQ120xQ")
"""Of `struct sentio_head` in clients/c/sentio.h: boot, written, read."""


def build(folder: Path) -> Path:
    """The engine's program, built in ``folder``; quick when nothing has changed.

    Raises `SettingError` where the tools are missing, `Fatal` with the compiler's words where it does not build.
    """
    if sys.platform != "linux":
        raise SettingError("--engine cpp: clients/c/sentio.h is for Linux")
    compilers = [os.environ["CXX"]] if "CXX" in os.environ else ["c++", "g++", "clang++"]
    wanted = {"cmake": ["cmake"], "a C++17 compiler": compilers, "make": ["make", "ninja"]}
    missing = [what for what, programs in wanted.items() if not any(map(shutil.which, programs))]
    if missing:
        raise SettingError(f"--engine cpp: missing {', '.join(missing)} (Debian: apt-get install cmake g++ make)")
    unity = ("-DCMAKE_UNITY_BUILD=ON", "-DCMAKE_UNITY_BUILD_BATCH_SIZE=0")  # takes half the time
    configure = ("-S", str(SOURCES), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release", *unity)
    for step in (configure, ("--build", str(folder))):
        done = subprocess.run(["cmake", *step], capture_output=True, text=True, check=False, timeout=BUILD_S)
        if done.returncode:
            raise Fatal(f"examples/engine-cpp does not build: cmake {' '.join(step)}\n{done.stdout}{done.stderr}")
    return folder / "rotation"


@dataclass(slots=True)
class CppEngine:
    """A day that the engine simulates and trades."""

    program: Path
    folder: Path
    seed: int
    speed: float | None
    totals: dict[str, Any] | None = None
    """What the engine says at its end."""

    says = "engine"
    ids_tell_when = False
    results = None

    @property
    def name(self) -> str:
        return f"engine-cpp-{self.seed}"

    @property
    def root(self) -> Path:
        return self.folder / self.name

    @property
    def ring(self) -> Path:
        return self.root / "ring"

    def goes_on(self) -> bool:
        """The engine goes on by what its ring has had, and a ring belongs to one start of the machine."""
        return not self.ring.exists() or _head(self.ring)[0] == BOOT.read_text().strip()

    def start(self, fleet: Fleet) -> None:
        fleet.start(Member("sidecar", ("sidecar", str(self.ring)), "SENTIO_METRICS_PORT"))
        speed = "max" if self.speed is None else str(self.speed)
        simulated = ("--simulate", str(self.seed), "--from", str(SIMULATED_DAY), "--days", "1", "--speed", speed)
        ring = ("--ring", str(self.ring), "--patience", str(PATIENCE_S), "--resume")
        fleet.start(Member("engine", (*simulated, *ring), "SENTIO_METRICS_PORT", program=self.program))

    def is_played(self, fleet: Fleet) -> bool:
        self.totals = self.totals or fleet.result("engine", "days")
        if self.totals is None:
            return False
        _, written, read = _head(self.ring)
        if read < written:
            return False
        fleet.retire("sidecar")
        return True

    def figures(self) -> Figures:
        assert self.totals, "it is played"
        [day] = self.totals["days"]
        return figures(day)


def figures(day: dict[str, Any]) -> Figures:
    """A day of the line that the engine prints at its end."""
    return Figures(
        account=day["account"],
        signals=day["signals"],
        prices=0,
        fills=day["fills"],
        round_trips=day["trades"],
        wins=day["wins"],
        losses=day["losses"],
        volume=Decimal(day["volume"]),
        notional=Decimal(day["notional"]),
        fees=Decimal(day["fees"]),
        realized_pnl=Decimal(day["realized_pnl"]),
        realized_pnl_unrounded=Decimal(day["realized_pnl"]),
        gross_profit=Decimal(day["gross_profit"]),
        gross_loss=Decimal(day["gross_loss"]),
        positions=day["positions"],
        performance_minutes=day["minutes"],
        final_equity=Decimal(day["equity_close"]),
        max_drawdown=Decimal(day["max_drawdown"]),
        bad_lines=0,
    )


def _head(ring: Path) -> tuple[str, int, int]:
    """Boot id of the machine's start, records written and records read of a ring; nothing of it is locked."""
    with ring.open("rb") as file:
        boot, written, read = _HEAD.unpack(file.read(layout.HEAD_BYTES)[: _HEAD.size])
    return boot.decode(), written, read
