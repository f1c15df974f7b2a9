"""What has been made of an engine's logs so far, and what the next line adds to it. Knows nothing of reading files."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from producers.engine_log import Book, Content, Fill, Row
from producers.fields import LineError
from producers.session import NEW_YORK
from schemas.events import Event

EVENTS_OF_A_LINE = 1_024
"""Numbers that a line has for what it makes."""


class Made(NamedTuple):
    """An event, and the line that made it."""

    kind: str
    file: UUID
    line: int
    place: int
    """Among the events of the line, from 0."""

    event: Event


class Minutes:
    """The minutes of each day, as its signals tell: a row's bar N is the N-th of its day."""

    def __init__(self, days: Mapping[date, Iterable[datetime]] | None = None, row_at: datetime | None = None) -> None:
        self.days = {day: list(minutes) for day, minutes in (days or {}).items()}
        self._row_day: date | None = None
        self._bar = 0
        if row_at is not None:
            self._row_day = row_at.astimezone(NEW_YORK).date()
            self._bar = bisect_left(self.days.get(self._row_day, []), row_at) + 1

    def add(self, day: date, at: datetime) -> None:
        """A signal was given at that time."""
        minutes = self.days.setdefault(day, [])
        place = bisect_left(minutes, at)
        if minutes[place : place + 1] != [at]:
            minutes.insert(place, at)

    def of(self, bar: int, day: date | None, *, is_final: bool) -> datetime | None:
        """When a row with that bar was, None while that cannot be known.

        Of ``day``, or else of the day of the row before, of the next one when bars begin anew. Raises `LineError` when
        there is no such minute and none can come: the signals have another day by now, or are said to be all.
        """
        days = [day] if day is not None else self._days_for(bar)
        for each in days:
            minutes = self.days.get(each, [])
            if bar <= len(minutes):
                self._row_day, self._bar = each, bar
                return minutes[bar - 1]
        last = days[-1] if days else None
        if is_final or (last is not None and any(each > last for each in self.days)):
            known = len(self.days.get(last, [])) if last is not None else 0
            raise LineError(f"bar is {bar}, but the signals have {known} minutes")
        return None

    def forget_before(self, day: date) -> None:
        """Days that are over, but for the last."""
        for each in sorted(each for each in self.days if each < day)[:-1]:
            del self.days[each]

    def _days_for(self, bar: int) -> list[date]:
        days = sorted(self.days)
        if self._row_day is None:
            return days
        begins_anew = bar <= self._bar
        return [each for each in days if each > self._row_day or (each == self._row_day and not begins_anew)]


class Followed:
    """The book of the day, and where it stands. Saved and loaded as JSON."""

    def __init__(self, minutes: Minutes) -> None:
        self.minutes = minutes
        self._book: Book | None = None
        self._day: date | None = None
        self._minute: datetime | None = None
        self._row_at: datetime | None = None
        # The last fill, and how many events are numbered by it: what is closed at the end of a minute was closed by it.
        self._fill: tuple[UUID, int, int] | None = None

    def turn_to(self, minute: datetime) -> list[Made]:
        """What the end of the minute before makes, if ``minute`` is another. Raises `LineError` for a day gone by."""
        day = minute.astimezone(NEW_YORK).date()
        if self._day is not None and day < self._day:
            raise LineError(f"comes when {day} is over")
        made = self.end_of_minute() if minute != self._minute else []
        self._minute = minute
        if day != self._day:
            self._day, self._book = day, Book.of(day)
            self.minutes.forget_before(day)
        return made

    def end_of_minute(self) -> list[Made]:
        """A last event for each position that is gone."""
        if self._book is None or self._minute is None or self._fill is None:
            return []
        file, line, count = self._fill
        closed = list(self._book.closures(self._minute))
        self._fill = file, line, count + len(closed)
        return [Made("trades", file, line, count + place, event) for place, event in enumerate(closed)]

    def events(self, kind: str, content: Content, at: datetime, file: UUID, line: int) -> list[Made]:
        """What a line of the minute turned to makes. Raises `LineError`."""
        assert self._book is not None
        if isinstance(content, Row):
            _check_count(content, self._book)
        made = self._book.events(content, at)
        if isinstance(content, Fill):
            self._fill = file, line, 1
        elif isinstance(content, Row):
            self._row_at = at
        return [Made(kind, file, line, place, event) for place, event in enumerate(made)]

    def saved(self) -> dict[str, Any]:
        """As JSON has it."""
        book = self._book
        return {
            "day": self._day and self._day.isoformat(),
            "minute": self._minute and self._minute.isoformat(),
            "row_at": self._row_at and self._row_at.isoformat(),
            "fill": self._fill and [str(self._fill[0]), *self._fill[1:]],
            "held": _texts(book.held) if book else {},
            "realized": _texts(book.realized) if book else {},
            "prices": _texts(book.marks) if book else {},
            "minutes": {
                day.isoformat(): [int(at.timestamp() * 1_000) for at in minutes]
                for day, minutes in self.minutes.days.items()
            },
        }

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> "Followed":
        """What was `saved`. Raises ValueError, KeyError, TypeError or ArithmeticError for anything else."""
        days = {
            date.fromisoformat(day): [datetime.fromtimestamp(at_ms / 1_000, UTC) for at_ms in minutes]
            for day, minutes in saved["minutes"].items()
        }
        row_at = saved["row_at"] and datetime.fromisoformat(saved["row_at"])
        found = cls(Minutes(days, row_at))
        found._row_at = row_at
        found._minute = saved["minute"] and datetime.fromisoformat(saved["minute"])
        if saved["fill"]:
            file, line, count = saved["fill"]
            found._fill = UUID(file), int(line), int(count)
        if saved["day"]:
            found._day = date.fromisoformat(saved["day"])
            book = Book.of(found._day)
            book.held, book.realized, book.marks = (
                {symbol: Decimal(text) for symbol, text in saved[name].items()}
                for name in ("held", "realized", "prices")
            )
            found._book = book
        return found


def _check_count(row: Row, book: Book) -> None:
    """A position each, the account, and a last event for each that is gone."""
    count = len(row.held) + 1 + len(book.marks.keys() - {each.symbol for each in row.held})
    if count > EVENTS_OF_A_LINE:
        raise LineError(f"positions makes {count} events, more than {EVENTS_OF_A_LINE}")


def _texts(amounts: Mapping[str, Decimal]) -> dict[str, str]:
    return {symbol: str(amount) for symbol, amount in amounts.items()}
