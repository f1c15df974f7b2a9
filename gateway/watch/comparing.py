"""Where engine, store, aggregates and clients do not say the same, each compared at what it has read."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from gateway.watch.book import Book, Figures
from gateway.wire import decimal_text

STATE = ("equity", "open_positions", "newest_trade")
"""Figures of the newest event, which one knows without having heard the whole day."""

NAMES = tuple(one.name for one in fields(Figures))


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of which two do not say the same, although they have read the same."""

    account: str
    day: date
    figure: str
    side: str
    """store, aggregates, or a gateway's address: who differs from the engine."""

    engine: str
    other: str
    since: datetime

    @property
    def key(self) -> tuple[str, str, str]:
        return self.account, self.figure, self.side


@dataclass(slots=True)
class Side:
    """One who is compared with the engine's words."""

    name: str
    level: bool = False
    """The engine's words were there as far as this one has read."""

    detail: str = ""
    """Why it could not be compared."""

    figures: Mapping[str, Figures] = field(default_factory=dict)
    partial: AbstractSet[str] = frozenset()
    """Accounts of whose day it does not know everything."""

    names: tuple[str, ...] = NAMES
    """Figures that it keeps."""

    compared: dict[str, list[str]] = field(default_factory=dict)
    """Figures that were compared in this round, by account."""


def differences(
    side: Side,
    book: Book,
    *,
    heard_since: datetime | None,
    known: Iterable[Difference],
    days: Mapping[str, date] | None,
) -> list[Difference]:
    """Of one side that is level. ``heard_since``: counts of days that began before are not compared (None: all are),
    nor are those of accounts that one of the two had forgotten on the day.

    ``days``: of which days the side's figures are; accounts whose newest day is another by now are left for the next
    round. ``known``: those of the round before, whose ``since`` they keep.
    """
    before = {one.key: one for one in known}
    found = []
    for account, own in book.accounts.items():
        if days is not None and days.get(account) != own.day:
            continue
        other = side.figures.get(account, Figures())
        whole = (heard_since is None or own.span[0] >= heard_since) and not own.partial and account not in side.partial
        engine = own.figures()
        compared = side.compared[account] = []
        for name in side.names:
            ours, theirs = getattr(engine, name), getattr(other, name)
            # Who came later has not heard what was before: that is no difference.
            if not whole and (name not in STATE or ours is None or theirs is None):
                continue
            compared.append(name)
            if ours != theirs:
                key = (account, name, side.name)
                since = before[key].since if key in before else datetime.now(UTC)
                found.append(
                    Difference(account, own.day, name, side.name, text(ours) or "-", text(theirs) or "-", since)
                )
    return found


def text(value: Decimal | int | str | None) -> str | None:
    return decimal_text(value) if isinstance(value, Decimal) else None if value is None else str(value)


def as_document(figures: Figures) -> dict[str, Any]:
    return {name: text(value) for name, value in asdict(figures).items()}
