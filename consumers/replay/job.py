"""One replay: what was planned, how far it is, and how both lie in a file."""

import json
import secrets
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sentio.kafka import Place

Spans = dict[Place, tuple[int, int]]
"""Offsets [first, end) of each partition."""


class State(StrEnum):
    """Of a job, as its file has it; one that says `RUNNING` and has no process was killed."""

    PLANNED = "planned"
    RUNNING = "running"
    COMPLETE = "complete"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be replayed, where to and how fast, as it was asked for."""

    topics: tuple[str, ...]
    """Without prefix."""

    into: str
    """``topic:NAME``, ``table:NAME``, ``group:NAME``, ``file:PATH``, ``stdout`` or ``count``."""

    where: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    speed: str = "max"
    rate: float | None = None
    owns_offsets: bool = False
    """Of a group: its offsets are in the database, beside its results."""

    from_archive: bool = False
    """Instead of from the log."""


@dataclass(slots=True)
class Counts:
    """Records so far."""

    read: int = 0
    written: int = 0
    undecodable: int = 0

    # Of what was for a table and is not among those written:
    present: int = 0
    """It has them already."""

    too_old: int = 0
    """It would drop them: they are older than it keeps rows."""

    refused: int = 0
    """It does not take them for what is in them."""


@dataclass(slots=True)
class Job:
    """A planned replay and its progress. Everything in it is kept from one run to the next."""

    id: str
    wish: Wish
    spans: Spans
    topic_ids: dict[str, str]
    """Kafka's, by full name: a topic made again since is another log."""

    next: dict[Place, int] = field(default_factory=dict)
    """Where to go on in each partition."""

    counts: Counts = field(default_factory=Counts)
    file_bytes: int = 0
    """Of the file target: what is complete of it."""

    state: State = State.PLANNED
    cause: str | None = None
    created_at: str = ""
    updated_at: str = ""

    def left(self) -> Spans:
        """What is still to be read."""
        return {p: (self.next.get(p, first), end) for p, (first, end) in self.spans.items() if self.passed(p) < end}

    def passed(self, place: Place) -> int:
        return self.next.get(place, self.spans[place][0])

    @property
    def offsets(self) -> int:
        """In all; records may be fewer, since offsets have gaps."""
        return sum(end - first for first, end in self.spans.values())

    @property
    def offsets_done(self) -> int:
        return sum(self.passed(place) - first for place, (first, _) in self.spans.items())

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "state": self.state,
            "cause": self.cause,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "wish": asdict(self.wish),
            "counts": asdict(self.counts),
            "offsets": self.offsets,
            "offsets_done": self.offsets_done,
            "file_bytes": self.file_bytes,
            "topic_ids": self.topic_ids,
            "partitions": [
                {"topic": place[0], "partition": place[1], "first": first, "end": end, "next": self.passed(place)}
                for place, (first, end) in sorted(self.spans.items())
            ],
        }


def make(wish: Wish, spans: Spans, topic_ids: dict[str, str]) -> Job:
    """A new job, with an id that sorts by time."""
    now = datetime.now(UTC)
    return Job(
        f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}", wish, spans, topic_ids, created_at=now.isoformat()[:19] + "Z"
    )


def dumps(job: Job) -> str:
    return json.dumps(job.as_json(), indent=1) + "\n"


def loads(text: str) -> Job:
    """The job of a file's text; raises ValueError, KeyError or TypeError when it is none."""
    found = json.loads(text)
    places = {(each["topic"], each["partition"]): each for each in found["partitions"]}
    wish = found["wish"]
    return Job(
        id=found["id"],
        wish=Wish(**wish | {name: tuple(wish[name]) for name in ("topics", "where", "headers")}),
        spans={place: (each["first"], each["end"]) for place, each in places.items()},
        topic_ids=found["topic_ids"],
        next={place: each["next"] for place, each in places.items()},
        counts=Counts(**found["counts"]),
        file_bytes=found["file_bytes"],
        state=State(found["state"]),
        cause=found["cause"],
        created_at=found["created_at"],
        updated_at=found["updated_at"],
    )
