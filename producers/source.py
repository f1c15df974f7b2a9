"""What can be played, whatever its form: a recorded session, a results file or the simulator.

Lives here: telling the forms apart, the id that a source keeps for ever, and the writing of events to a file.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

from producers import results, session, simulator
from producers.fields import contents
from schemas.columns import HEADER
from schemas.events import Event
from sentio.errors import NotPlayable

SIMULATED_DAY = date(2025, 10, 10)
"""A fixed trading day, so that a seed is the same stream whenever it is played."""

EVENTS_VERSION = 1
"""Raise when the same input gives other events than before, so that their sequences start anew."""


@dataclass(frozen=True, slots=True)
class Source:
    """Something that yields the same events in the same order whenever it is asked."""

    name: str
    """E.g. session-2025-10-10."""
    id: str
    """Of the content: what a producer's sequences count within."""
    events: Callable[[], Iterator[Event]]


def open_source(path: Path | None, *, seed: int, skip_bad: bool, on_bad: Callable[[str], None] | None) -> Source:
    """The recorded session of a folder, the results of a file, or without a path the simulator of that seed.

    `skip_bad` is no part of the id: with it a source yields the same events and goes on behind a bad line.
    Raises NotPlayable for a path that is missing or of neither form.
    """
    if path is None:
        play: Callable[[], Iterator[Event]] = partial(simulator.events, seed=seed, day=SIMULATED_DAY)
        return Source(f"simulated-{seed}", _short(f"seed {seed} day {SIMULATED_DAY}".encode()), play)
    if path.is_dir():
        play = partial(session.events, path, skip_bad=skip_bad, on_bad=on_bad)
        return Source(f"session-{session.trading_day(path)}", source_id(path), play)
    if path.is_file():
        play = partial(results.events, path, skip_bad=skip_bad, on_bad=on_bad)
        return Source(f"results-{results.trading_day(path)}", source_id(path), play)
    raise NotPlayable(f"{path} is neither the folder of a recorded session nor a results file")


def source_id(path: Path) -> str:
    """Twelve hex digits of what is played of a path, the same whether it is compressed or not.

    Raises NotPlayable for files that are missing or unreadable.
    """
    played = session.files(path) if path.is_dir() else {"results": path}
    digests = (hashlib.sha256(contents(file)).hexdigest() for file in played.values())
    return _short(" ".join([*played, *digests]).encode())


def dump(events: Iterable[Event], path: Path) -> int:
    """Write events as JSON lines and return how many.

    A line is `type` and the fields that the publisher does not give; decimals are text, times ISO 8601.
    """
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for count, event in enumerate(events, 1):  # noqa: B007  (the last one is returned)
            values = {each.name: getattr(event, each.name) for each in fields(event)}
            line = {name: value for name, value in values.items() if name not in HEADER}
            file.write(json.dumps({"type": type(event).__name__, **line}, default=_text) + "\n")
    return count


def _short(content: bytes) -> str:
    return hashlib.sha256(f"{EVENTS_VERSION} ".encode() + content).hexdigest()[:12]


def _text(value: object) -> str:
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{value!r} has no place in an event")
