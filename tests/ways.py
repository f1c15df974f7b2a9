"""Ways in for engines, run as a sidecar runs them, and what came to the log by them."""

import os
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from producers.sidecar.drain import Sidecar
from producers.sidecar.source import Beat, Portion, Source
from schemas.codec import decode
from schemas.columns import HEADER
from schemas.events import Event
from schemas.topics import topic_of_event
from sentio import kafka as kafka_access
from sentio import topics as kafka_topics
from sentio.config import PublisherSettings, Settings, SidecarSettings, load
from tests.pipeline import in_thread

RECORDED = ("TradeExecuted", "SignalGenerated", "PositionUpdated", "PerformanceMinute")

SENTIO = Path(sys.executable).parent / "sentio"

Rows = dict[str, list[dict[str, Any]]]
"""Of each kind of event, in order, without what publishing gives."""


def settings_for(bootstrap: str, prefix: str, **more: object) -> SidecarSettings:
    """Settings, and the topics that they need."""
    settings = load(SidecarSettings, kafka=bootstrap, topic_prefix=prefix, partitions=1, **more)
    kafka_topics.apply(settings, [change for change in kafka_topics.plan(settings) if change.lines])
    return settings


class Runs(Protocol):
    def run(self, stop: threading.Event) -> None: ...


Running = TypeVar("Running", bound=Runs)


class Scripted:
    """A source that gives what it was told to, and keeps what happens to it."""

    name = "scripted"

    def __init__(self, *portions: Portion, engines: Sequence[Beat] = ()) -> None:
        self.portions = list(portions)
        self.engines = engines
        self.taken = 0
        self.acknowledged = 0

    def take(self, most: int) -> Portion | None:
        assert most > 0
        if not self.portions:
            return None
        self.taken += 1
        return self.portions.pop(0)

    def acknowledge(self) -> None:
        self.acknowledged = self.taken

    def beats(self) -> Sequence[Beat]:
        return self.engines

    def figures(self) -> Mapping[str, int]:
        return {"taken": self.taken}

    def close(self) -> None:
        pass


def draining(settings: SidecarSettings, source: Source) -> AbstractContextManager[Sidecar]:
    """A sidecar that runs in a thread."""
    return running(Sidecar(settings, [source]))


@contextmanager
def running(sidecar: Running) -> Iterator[Running]:
    """In a thread; what ended it is raised at the end."""
    stop = threading.Event()
    with in_thread(partial(sidecar.run, stop), stop, ends_s=20):
        yield sidecar


def sidecar_process(
    settings: PublisherSettings, log: Path, *arguments: object, **more: str
) -> "AbstractContextManager[subprocess.Popen[bytes]]":
    """`sentio sidecar` with these arguments; ``more``: variables of its environment."""
    return sentio_process(settings, log, "sidecar", *arguments, **more)


@contextmanager
def sentio_process(
    settings: Settings, log: Path, *arguments: object, **more: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """A command of `sentio` in a process of its own."""
    environment = os.environ | {"SENTIO_KAFKA": settings.kafka, "SENTIO_TOPIC_PREFIX": settings.topic_prefix} | more
    with log.open("ab") as said:
        command = [str(SENTIO), *map(str, arguments)]
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def rows_of(events: Sequence[Event]) -> Rows:
    found: Rows = defaultdict(list)
    for event in events:
        names = [field.name for field in fields(event) if field.name not in HEADER]
        found[type(event).__name__].append({name: getattr(event, name) for name in names})
    return dict(found)


def records(settings: SidecarSettings, event: str) -> list[dict[str, Any]]:
    """All that the log has of a kind of event, repeats too."""
    name = topic_of_event(event).full_name(settings.topic_prefix)
    spans = kafka_access.spans(settings.kafka, [(name, partition) for partition in range(settings.partitions)])
    found = []
    for messages in kafka_access.read(settings.kafka, spans):
        decoded = decode(event, [message.value() for message in messages])
        assert decoded.poison == ()
        found += decoded.records.to_pylist()
    return found


def told(settings: SidecarSettings, kinds: Sequence[str] = RECORDED) -> Rows:
    """What readers take, who know repeats by producer and sequence."""
    found: Rows = {}
    for kind in kinds:
        newest: dict[str, int] = {}
        for row in records(settings, kind):
            if row["sequence"] > newest.get(row["producer"], -1):
                newest[row["producer"]] = row["sequence"]
                found.setdefault(kind, []).append(without_header(row))
    return found


def without_header(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in HEADER}
