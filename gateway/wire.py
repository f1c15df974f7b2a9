"""How values are written for clients, in the stream and in REST.

Decimals are plain strings without trailing zeros, times RFC 3339 with Z, event ids UUID text; a number that JSON
does not have (NaN, infinity) is null.
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sentio.asked import log_time


def decimal_text(value: Decimal) -> str:
    """``12.5``, never ``12.500000`` and never an exponent."""
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def time_text(value: datetime) -> str:
    """An aware time as ``2025-10-10T13:31:00.000000Z``."""
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def milliseconds_text(value_ms: int) -> str:
    """A Kafka timestamp as ``2025-10-10T13:31:00.000Z``; the start of 1970 for a record without one."""
    return log_time(value_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now_text() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain(value: Any) -> Any:
    """One value of a row as JSON holds it."""
    match value:
        case Decimal():
            return decimal_text(value)
        case datetime():
            return time_text(value)
        case date():
            return value.isoformat()
        case UUID():
            return str(value)
        case float() if not math.isfinite(value):
            return None
    return value


def document(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as a JSON object."""
    return {name: plain(value) for name, value in row.items()}


def dumps(value: Any) -> str:
    """Compact ASCII JSON; raises ValueError rather than write NaN."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
