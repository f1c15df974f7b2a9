"""Plays a recorded engine session: the log files of one trading day become the events of that day, in order.

Lives here: reading, checking and ordering the lines, and the book that the fills make. Numbering and sending
the events is the publisher's.

Where a line belongs in engine time: signals and fills say it themselves; row `bar` N of the positions belongs
to the N-th distinct time of the signals. A line that cannot be used has the place of its own time where that
can be read, else the minute of the line before it in its file (before everything if it is the first). The
play stops at that place: what precedes it in engine time, of all three files, has been yielded, and nothing
behind it. What is yielded without `skip_bad` is therefore always the beginning of what is yielded with it.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from itertools import groupby
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from producers.engine_log import Book, Content, fill_of, row_of, signal_of
from producers.fields import Fields, LineError, contents, refusal
from schemas.events import Event
from sentio.errors import NotPlayable

NEW_YORK = ZoneInfo("America/New_York")


def events(folder: Path, *, skip_bad: bool = False, on_bad: Callable[[str], None] | None = None) -> Iterator[Event]:
    """The events of a recorded day, in engine time: per minute its signals and fills in the order of their
    files, the positions, then the account. The same files always give the same events in the same order.

    A line that cannot be used raises NotPlayable at its place in engine time, after everything before it;
    with `skip_bad` it is told to `on_bad` in one line and left out. Without a positions file there are
    neither positions nor performance, since nothing else tells the marks.

    Raises NotPlayable at once for a file that is missing or unreadable.
    """
    found, day = files(folder), trading_day(folder)
    return _play(day, _lines(found, day), refusal(skip_bad=skip_bad, on_bad=on_bad))


def files(folder: Path) -> dict[str, Path]:
    """The files of a session that are played, by kind; a plain file is taken before a compressed one.

    Raises NotPlayable when the signals or trades are missing.
    """
    found = {}
    for kind in ("signals", "trades", "positions"):
        plain, packed = folder / f"{kind}.jsonl", folder / f"{kind}.jsonl.gz"
        path = next((path for path in (plain, packed) if path.is_file()), None)
        if path is not None:
            found[kind] = path
        elif kind != "positions":
            raise NotPlayable(f"{plain} is missing, and so is {packed.name}")
    return found


def trading_day(folder: Path) -> date:
    """The day in New York: the folder's name, or what its first readable signal says."""
    try:
        return date.fromisoformat(folder.resolve().name)
    except ValueError:
        path = files(folder)["signals"]
    for text in contents(path).splitlines():
        try:
            return Fields.parse(text).time("timestamp_ms").astimezone(NEW_YORK).date()
        except LineError:
            continue
    raise NotPlayable(f"{path} has no usable line; name the folder by its day, like 2025-10-10")


class _Line(NamedTuple):
    """A line at its place: sorts by minute, kind and number."""

    minute: datetime
    kind: int
    number: int
    path: Path
    at: datetime
    content: Content


def _lines(found: Mapping[str, Path], day: date) -> list[_Line]:

    def own_time(fields: Fields) -> datetime:
        at = fields.time("timestamp_ms")
        if at.astimezone(NEW_YORK).date() != day:
            raise LineError(f"timestamp_ms is {at:%Y-%m-%d %H:%M} UTC, not within {day} in New York")
        return at

    signals = _read(0, found["signals"], own_time, signal_of)
    trades = _read(1, found["trades"], own_time, fill_of)
    minutes = sorted({line.at for line in signals if not isinstance(line.content, LineError)})

    def time_of_bar(fields: Fields) -> datetime:
        bar = fields.integer("bar", 1, 10**6)
        if bar > len(minutes):
            raise LineError(f"bar is {bar}, but the signals have {len(minutes)} minutes")
        return minutes[bar - 1]

    rows = _read(2, found["positions"], time_of_bar, row_of) if "positions" in found else []
    return sorted(signals + trades + rows, key=lambda line: line[:3])


def _read(
    kind: int,
    path: Path,
    time: Callable[[Fields], datetime],
    content: Callable[[Fields, datetime], Content],
) -> list[_Line]:
    """The lines of one file, blank ones left out."""
    lines = []
    at = datetime.min.replace(tzinfo=UTC)
    for number, text in enumerate(contents(path).split(b"\n"), 1):
        if not text.strip():
            continue
        said: Content
        try:
            fields = Fields.parse(text)
            at = time(fields)
            said = content(fields, at)
        except LineError as error:
            said = error
        lines.append(_Line(at.replace(second=0, microsecond=0), kind, number, path, at, said))
    return lines


def _play(day: date, lines: list[_Line], refuse: Callable[[str], None]) -> Iterator[Event]:
    book = Book.of(day)
    for minute, together in groupby(lines, key=lambda line: line.minute):
        for line in together:
            try:
                yield from book.events(line.content, line.at)
            except LineError as error:
                refuse(f"{line.path} line {line.number}: {error}")
        yield from book.closures(minute)
