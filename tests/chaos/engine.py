"""The engine in C and the sidecar of the chaos test: life after life on one ring, which is often full."""

import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from producers.sidecar.ring import Ring
from tests import engines
from tests.chaos.actors import SENTIO, WAIT_S, Actor, wait, write_pace

CAPACITY = 512
_HEAD_BYTES = 512
_WRITTEN, _READ = 256, 384


class Victim:
    """A process that is killed and started again, and frozen and woken."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self._name = name
        self._command = command
        self._environment = environment
        self._folder = folder
        self._lives = 0
        self._actor: Actor | None = None

    def start(self) -> None:
        """Unless it runs."""
        if self._actor is None:
            self._lives += 1
            log = self._folder / f"{self._name}{self._lives}.log"
            self._actor = Actor(self._name, self._command, self._environment, log)

    def kill(self) -> None:
        if self._actor is not None:
            self._actor.kill()
        self._actor = None

    def freeze(self) -> None:
        self.start()
        if self._actor is not None:
            self._actor.freeze()

    def wake(self) -> None:
        """If it is frozen."""
        if self._actor is not None:
            self._actor.wake()

    def stop(self) -> None:
        """Have it end in order."""
        if self._actor is not None:
            self._actor.stop()
        self._actor = None

    def check(self) -> None:
        """Fail when it ended by itself."""
        if self._actor is not None:
            self._actor.check()


class Line:
    """What lies between an engine in C and the log: the engine, its ring, the sidecar."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *, seed: int, base: datetime) -> None:
        self.path = folder / "market.ring"
        self._pace = folder / "market.pace"
        self._told = folder / "market.told"
        self._told.write_bytes(bytes(4_096))
        self.seed = seed
        self.base = base
        program = engines.built(folder / "programs", engines.SOURCES / "market.c")
        base_us = (base - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        words = (program, self.path, CAPACITY, seed, base_us, self._pace, self._told)
        self.victims = {
            "engine": Victim("market", [str(word) for word in words], {}, folder),
            "sidecar": Victim("sidecar", [*SENTIO, "sidecar", str(self.path)], environment, folder),
        }
        self.end_outages()

    def pace(self, events_per_s: float) -> None:
        write_pace(self._pace, events_per_s)

    @property
    def published(self) -> int:
        """Events that are in the ring or were."""
        return self._word(_WRITTEN)

    @property
    def acknowledged(self) -> int:
        """Events before the reader's mark."""
        return self._word(_READ)

    @property
    def full(self) -> int:
        """How often the engine found no room."""
        return self._answers()[1]

    def kill(self, whom: str) -> None:
        """SIGKILL. The engine's last answer was of the last event, or of the one before: it dies before it notes it."""
        self.victims[whom].start()
        self.victims[whom].kill()
        if whom == "engine":
            yes, _ = self._answers()
            assert yes <= self.published <= yes + 1, f"{yes} answered with SENTIO_OK, {self.published} in the ring"

    def end_outages(self) -> None:
        """Whoever is dead or frozen comes back."""
        for victim in self.victims.values():
            victim.start()
            victim.wake()

    def check(self) -> None:
        """Nobody ended by itself."""
        for victim in self.victims.values():
            victim.check()

    def close(self) -> str:
        """Have the engine end, then the sidecar once all is read; the producer of the ring's events."""
        self.victims["engine"].stop()
        wait(lambda: self.acknowledged == self.published, self.check, WAIT_S)
        self.victims["sidecar"].stop()
        with Ring(self.path) as ring:
            return ring.producer

    def abandon(self) -> None:
        for victim in self.victims.values():
            victim.kill()

    def _word(self, at: int) -> int:
        try:
            with self.path.open("rb") as file:
                (word,) = struct.unpack_from("<Q", file.read(_HEAD_BYTES), at)
        except FileNotFoundError:  # just started
            return 0
        return int(word)

    def _answers(self) -> tuple[int, int]:
        """Answers SENTIO_OK and SENTIO_FULL."""
        yes, full = struct.unpack_from("<QQ", self._told.read_bytes())
        return yes, full
