"""One round after the other: has everyone who has read the same said the same?"""

import time
from collections.abc import Mapping, Sequence
from datetime import date, datetime

from gateway.database import Pool
from gateway.watch.book import Account, beginning
from gateway.watch.comparing import Difference, Side, differences
from gateway.watch.lateness import Lateness
from gateway.watch.probe import Heard, Probe
from gateway.watch.stored import AGGREGATES, OF_AGGREGATES, stored
from gateway.watch.tape import Tape
from sentio.config import WatchSettings
from sentio.kafka import Place

WAIT_S = 0.5
"""How long a round waits for one side's part of the log; what is missing then is there in a later round."""

ENGINE = "engine"


class Rounds:
    """Keeps a tape for each who is compared, and one for the engine as it is now. Of one thread; `close` it."""

    def __init__(self, settings: WatchSettings, connections: Pool, probes: Sequence[Probe]) -> None:
        self._settings = settings
        self._connections = connections
        self._probes = probes
        self._tapes: dict[str, Tape] = {}
        self._known: dict[str, list[Difference]] = {}
        self._lateness = {probe.url: Lateness() for probe in probes}
        self.sides: list[Side] = []
        self.heard: dict[str, Heard] = {}
        self.late_s: dict[str, Mapping[Place, float]] = {}
        """For how long nothing came to a probe, by partition of which there is more."""

    def close(self) -> None:
        """The tapes begin anew with the next round."""
        for tape in self._tapes.values():
            tape.close()
        self._tapes = {}

    @property
    def accounts(self) -> dict[str, Account]:
        """As the engine tells them now, the one heard last first."""
        return dict(reversed(self._tapes[ENGINE].book.accounts.items())) if self._tapes else {}

    @property
    def differing(self) -> list[Difference]:
        return [one for some in self._known.values() for one in some]

    def run(self) -> bool:
        """Compare once; whether the engine's words were read to their end. Raises `Retryable`."""
        engine = self._tape(ENGINE)
        ended = engine.drain(WAIT_S)
        days = {name: account.day for name, account in self.accounts.items()}
        sides = []
        for name, said in stored(self._connections, days).items():
            side = Side(name, figures=said.figures)
            if name == AGGREGATES:
                side.names = OF_AGGREGATES
            tape = self._tape(name)
            side.level = bool(said.offsets) and tape.advance(said.offsets, WAIT_S)
            if side.level:
                self._compare(side, tape, None if tape.whole else tape.since, days)
            else:
                side.detail = (
                    "has not read anything yet" if not said.offsets else "has read less than the log still holds"
                )
            sides.append(side)
        for probe in self._probes:
            heard = self.heard[probe.url] = probe.heard()
            self.late_s[probe.url] = self._lateness[probe.url].look(engine.said, heard, time.monotonic())
            side = Side(probe.url, figures=heard.figures, partial=heard.partial, detail=heard.detail or heard.state)
            tape = self._tape(probe.url)
            side.level = heard.state == "open" and tape.advance(heard.offsets, WAIT_S)
            if side.level:
                side.detail = ""
                since = None if tape.whole and heard.since <= tape.since else max(tape.since, heard.since)
                self._compare(side, tape, since, None)
            sides.append(side)
        self.sides = sides
        return ended

    def _compare(self, side: Side, tape: Tape, since: datetime | None, days: dict[str, date] | None) -> None:
        self._known[side.name] = differences(
            side, tape.book, heard_since=since, known=self._known.get(side.name, ()), days=days
        )

    def _tape(self, name: str) -> Tape:
        if name not in self._tapes:
            self._tapes[name] = Tape(self._settings, beginning())
        return self._tapes[name]
