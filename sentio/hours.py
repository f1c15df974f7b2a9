"""When the market is open, as far as the clock tells."""

from datetime import datetime
from datetime import time as clock
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
OPENS, CLOSES = clock(9, 30), clock(16, 0)
WEEKEND = 5


def is_open(now: datetime) -> bool:
    """Trading hours of a weekday in New York; holidays count as days like others."""
    there = now.astimezone(NEW_YORK)
    return there.weekday() < WEEKEND and OPENS <= there.time() < CLOSES
