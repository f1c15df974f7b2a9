"""What a sidecar drains: anything that gives numbered events, and may forget them once Kafka has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple, Protocol

from producers.sidecar.messages import Messages

AHEAD = timedelta(days=1)
"""An event further in the future than this is refused: its engine's clock, or the unit of its time, is wrong."""


QUIET_S = 90.0
"""An engine that decides once a minute has sent something within this time, or is not there."""


class Refused(NamedTuple):
    """Something that cannot be used."""

    place: str
    """Position of a ring, file and line, or connection and line."""

    reason: str


class Beat(NamedTuple):
    """What a source knows of its engine, for `engine.heartbeat`."""

    producer: str
    engine: str
    version: str
    mode: str
    is_there: bool
    """Whether the engine still has its end of the source open."""

    spoke_s: float | None = None
    """When it said something last (monotonic), where one source has several engines."""


@dataclass(frozen=True, slots=True)
class Portion:
    """What came since the last one. Not empty: it has events, something refused, or something to be forgotten."""

    messages: Sequence[Messages] = ()

    refused: Sequence[Refused] = ()


class Source(Protocol):
    """One way in. Used by the thread that drains it, however many write into it."""

    name: str
    """For metrics and the log: a path, an address."""

    def take(self, most: int) -> Portion | None:
        """About so many of the next events, None when there is nothing new. Never waits."""
        ...

    def acknowledge(self) -> None:
        """Kafka has all that was taken."""
        ...

    def beats(self) -> Sequence[Beat]:
        """The engines that it knows of at this moment."""
        ...

    def figures(self) -> Mapping[str, int]:
        """What it counts, by name: the same names at any time."""
        ...

    def close(self) -> None:
        """What was taken and not acknowledged is given again by the next that opens it."""
        ...


@dataclass(slots=True)
class Tally:
    """What became of what a source gave."""

    events: int = 0
    """Acknowledged by Kafka."""

    refused: int = 0
    figures: Mapping[str, int] = field(default_factory=dict)
