"""What a stream gives to the application."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sentio_client.events import Event


@dataclass(frozen=True, slots=True)
class Update:
    """One event, as it happened."""

    channel: str
    event: Event
    seq: str
    """Place in the log, ``partition:offset``: the same on every channel and connection."""

    cursor: str
    """To go on from, behind this event."""

    at: datetime
    """When it was published, UTC."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How things stand where a channel begins; replaces what was heard of it before."""

    channel: str
    events: tuple[Event, ...]
    """Oldest first."""

    truncated: bool
    """There would be more of it than a snapshot holds."""

    cursor: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Between what was heard of the channel and what follows, something is missing.

    ``reason`` is ``missing`` where a message did not come: it is asked for again, `Resumed` and the message follow.
    It is ``lost`` where that did not help. Any other is the gateway's (``expired``, ``foreign``, ``too_much``, …):
    a `Snapshot` follows.
    """

    channel: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """The channel goes on where it stood, after a pause or a restart: nothing is missing, nothing comes twice."""

    channel: str


Item = Update | Snapshot | Gap | Resumed


@dataclass(frozen=True, slots=True)
class Status:
    """How the connection is."""

    state: Literal["new", "connecting", "open", "waiting", "closed"]
    since: datetime
    detail: str = ""
    """Why it is not open."""

    retry_in_s: float = 0.0
    """How long it waits before it connects again."""

    connections: int = 0
    """How often it was open."""
