"""Carries out a schedule: kills, freezes and scales what it is told to, while events are published."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import psycopg

from sentio.errors import Fatal
from sentio.stack.kafka import KafkaServer
from sentio.stack.postgres import PostgresServer
from tests.chaos import retention
from tests.chaos.actors import QUICK, SLOW, Actor, Fleet, Publisher, wait
from tests.chaos.engine import Line
from tests.chaos.schedule import Step
from tests.chaos.witness import Witness

ENGINE_PART = 0.25
"""Of all events; the rest is the publisher's."""


class Storm:
    """One step at a time; what a step needs (who is frozen, who takes over) it waits for."""

    def __init__(
        self,
        broker: KafkaServer,
        database: PostgresServer,
        fleet: Fleet,
        publisher: Publisher,
        line: Line,
        witness: Witness,
        folder: Path,
        seed: int,
        fills: str,
    ) -> None:
        self.declared_lost = 0
        self._servers: dict[str, KafkaServer | PostgresServer] = {"broker": broker, "database": database}
        self._fleet = fleet
        self._publisher = publisher
        self._line = line
        self._witness = witness
        self._folder = folder
        self._random = Random(seed)
        self._dsn = database.address or ""
        self._fills = fills

    def take(self, step: Step, say: Callable[[str], None]) -> None:
        """Wait for the moment of a step, and do it."""
        self.pace(QUICK)
        wait(lambda: self.published >= step.at, self.check, timeout_s=600)
        self.pace(SLOW)  # a slow machine takes its time, and the next step is not to be behind its moment
        say(f"at {self.published:,}: {step}")
        match step.verb, step.whom:
            case "scale", size:
                self.end_outages()
                self._fleet.scale("store", int(size))
            case "kill", "publisher":
                self._publisher.kill_and_start()
            case "kill", ("broker" | "database") as server:
                self._start(server)
                self._servers[server].kill()
            case "start", ("broker" | "database") as server:
                self._start(server)
            case verb, ("engine" | "sidecar") as victim:
                self._meet(verb, victim)
            case "kill", group:
                self._fleet.restore(group)
                self._fleet.kill(group, self._random.choice(self._fleet.members[group]))
            case "start", group:
                self._fleet.restore(group)
            case verb, whom:
                self.end_outages()
                self._take_time(verb, whom)

    @property
    def published(self) -> int:
        """Events of all who publish."""
        return self._publisher.published + self._line.published

    @property
    def acknowledged(self) -> int:
        """At least so many of them are in the log."""
        return self._publisher.acknowledged + self._line.acknowledged

    def pace(self, events_per_s: float) -> None:
        self._line.pace(events_per_s * ENGINE_PART)
        self._publisher.pace(events_per_s * (1 - ENGINE_PART))

    def _meet(self, verb: str, victim: str) -> None:
        """What happens to the engine or the sidecar."""
        match verb:
            case "kill":
                self._line.kill(victim)
            case "start":
                self._line.victims[victim].start()
            case "freeze":
                self._line.victims[victim].freeze()
            case "wake":
                self._line.victims[victim].wake()
            case _:
                raise ValueError(verb)

    def _take_time(self, verb: str, whom: str) -> None:
        """Faults that wait for what follows from them."""
        match verb:
            case "freeze":
                self._freeze(whom)
            case "freeze-in-transaction":
                self._freeze_in_transaction(whom)
            case "cut":
                self.declared_lost += self._cut()
            case _:
                raise ValueError(verb)

    def end_outages(self) -> None:
        """Everything that is down comes back."""
        for server in self._servers:
            self._start(server)
        for group in self._fleet.wanted:
            self._fleet.restore(group)
        self._line.end_outages()

    def check(self) -> None:
        """Nobody ended by itself."""
        self._fleet.check()
        self._publisher.check()
        self._line.check()

    def _start(self, server: str) -> None:
        if self._servers[server].pid is not None:
            return
        try:
            self._servers[server].start()
        except Fatal:  # a busy machine may need longer than a start is given
            self._servers[server].start()

    def _freeze(self, group: str) -> None:
        """Stop a member that owns partitions, let the others take them, and wake it: a zombie."""
        owners = wait(lambda: [m for m in self._fleet.members[group] if self._witness.owned(group, m.name)], self.check)
        zombie = self._random.choice(owners)
        zombie.freeze()
        self._wake_after_takeover(group, zombie)

    def _freeze_in_transaction(self, group: str) -> None:
        """Freeze a member that has written fills and not committed: its marks wait for a lock that this test holds.

        Fills, since they are what counts twice when they are merged twice; equity is not.
        """
        with psycopg.connect(self._dsn) as holder:
            waiting = wait(lambda: self._witness.hold_up(holder, group, self._fills), self.check)
            zombie = next(member for member in self._fleet.members[group] if member.name in waiting)
            zombie.freeze()
        # The lock is free now: whatever the member asked for is done, and it can neither commit nor roll back.
        wait(lambda: self._witness.state(group, zombie.name) == "idle in transaction", self.check)
        wait(lambda: not self._witness.state(group, zombie.name), self.check)
        self._wake_after_takeover(group, zombie)

    def _wake_after_takeover(self, group: str, zombie: Actor) -> None:
        wait(lambda: not self._witness.owned(group, zombie.name), self.check)
        before = self._witness.last()
        zombie.wake()
        wait(lambda: self._witness.moved(zombie.name, before), self.check)

    def _cut(self) -> int:
        address = self._servers["broker"].address or ""
        return retention.cut(address, self._dsn, self._folder, self._random)
