"""Trading days: those of New York, summer time and all."""

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")


def start_of(day: date) -> datetime:
    """First instant of a day, UTC."""
    return datetime.combine(day, time(), NEW_YORK).astimezone(UTC)


def day_of(instant: datetime) -> date:
    return instant.astimezone(NEW_YORK).date()


def today() -> date:
    return datetime.now(NEW_YORK).date()
