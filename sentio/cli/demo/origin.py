"""Where the demo's events come from, and what they must amount to; here is the player's recorded or simulated day."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from producers.source import Source, dump
from sentio.cli.demo.fleet import Fleet, Member
from sentio.cli.demo.source_check import Figures, figures


class Origin(Protocol):
    """Plays one trading day of one account."""

    @property
    def name(self) -> str:
        """Of what is played, e.g. simulated-42."""

    @property
    def root(self) -> Path:
        """Folder for all that the demo of it keeps."""

    @property
    def says(self) -> str:
        """Who tells the figures that all others are held against."""

    @property
    def ids_tell_when(self) -> bool:
        """Whether events' ids have the time of publish(), as latency needs it; else they have the engine's time."""

    @property
    def results(self) -> Path | None:
        """A file with statistics that an engine wrote at the end of that day, where there is one."""

    def goes_on(self) -> bool:
        """Whether what a run that was cut off has left can be gone on with."""

    def start(self, fleet: Fleet) -> None:
        """Begin, or go on."""

    def is_played(self, fleet: Fleet) -> bool:
        """Whether all of the day is on the log."""

    def figures(self) -> Figures:
        """What the day amounts to, once it is played."""


@dataclass(frozen=True, slots=True)
class Played:
    """The player's: a recorded day, or without a session the simulator's."""

    source: Source
    folder: Path
    session: Path | None
    seed: int
    speed: str
    skip_bad: bool

    says = "source"
    ids_tell_when = True

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def root(self) -> Path:
        return self.folder / self.name

    @property
    def results(self) -> Path | None:
        return self.session if self.session and self.session.is_file() else None

    def goes_on(self) -> bool:
        return True

    def start(self, fleet: Fleet) -> None:
        if self.session is None:
            arguments = ("simulate", "--seed", str(self.seed))
        else:
            arguments = ("play", "--session", str(self.session.absolute()))
        skip = ("--skip-bad",) if self.skip_bad else ()
        fleet.start(Member("play", (*arguments, "--speed", self.speed, *skip), "SENTIO_METRICS_PORT"))

    def is_played(self, fleet: Fleet) -> bool:
        return fleet.result("play", "acknowledged") is not None

    def figures(self) -> Figures:
        if self.session is not None:
            return figures(self.session)
        path = self.root / "source.jsonl"
        dump(self.source.events(), path)
        return figures(path)
