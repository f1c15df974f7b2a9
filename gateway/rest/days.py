"""Trading days: those of New York, summer time and all."""

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")


def start_of(day: date) -> datetime:
    """First instant of a day, UTC."""
    return datetime.combine(day, time(), NEW_YORK).astimezone(UTC)


def day_of(instant: datetime) -> date:
    return instant.astimezone(NEW_YORK).date()


def in_utc(at: datetime) -> datetime:
    """A time without a zone is UTC's."""
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def not_a_number(text: object) -> object:
    """Pydantic takes a number for seconds, or milliseconds, since 1970; which of them it was is anybody's guess."""
    try:
        float(str(text))
    except ValueError:
        return text
    raise ValueError("written as 2025-10-10, or 2025-10-10T13:30:00Z")


def today() -> date:
    return datetime.now(NEW_YORK).date()
