"""What people say on the command line, read the same way by every command: topics, durations, times."""

import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from schemas.topics import Topic, topics
from sentio.errors import SettingError

_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def topic_of(text: str, prefix: str) -> Topic:
    """A topic of the house by its name with or without prefix; raises `SettingError`."""
    name = text.removeprefix(f"{prefix}.")
    if name not in topics():
        raise SettingError(f"topic {name}: it may be one of {', '.join(topics())}")
    return topics()[name]


def duration_ms(option: str, text: str) -> int:
    """Milliseconds of 30s, 10m, 1h or 2d; raises `SettingError`."""
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise SettingError(f"{option} {text}: a number and s, m, h or d, such as 1h")
    return int(match[1]) * _UNITS_S[match[2]] * 1000


def time_of(option: str, text: str, *, end_of_day: bool = False) -> datetime:
    """A time in UTC: of an ISO time, local where it has no zone, or of New York's midnight where it is a date."""
    try:
        if len(text) == len("2025-10-10"):
            day = date.fromisoformat(text) + timedelta(days=int(end_of_day))
            return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo("America/New_York")).astimezone(UTC)
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise SettingError(f"{option} {text}: a day such as 2025-10-10, or a time such as 2025-10-10T13:30Z") from None


def iso(at: datetime) -> str:
    """A time in UTC, as ISO has it."""
    return at.isoformat().replace("+00:00", "Z")


def iso_ms(at_ms: int) -> str:
    """The same of milliseconds since 1970, as `log_time` reads them."""
    return iso(log_time(at_ms))


def log_time(at_ms: int) -> datetime:
    """A Kafka timestamp; the start of 1970 for a record without one, and for one that no calendar has."""
    try:
        return datetime.fromtimestamp(max(at_ms, 0) / 1000, UTC)
    except (ValueError, OverflowError, OSError):  # a producer may write any 64-bit number
        return datetime.fromtimestamp(0, UTC)
