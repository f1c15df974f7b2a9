"""Decoded events as people read them: plain texts and numbers that JSON holds."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sentio.asked import iso


def plain(value: object) -> object:
    """One value of a row: an id as UUID, an amount without trailing zeros, a time as ISO has it."""
    match value:
        case bytes():
            return str(UUID(bytes=value))
        case UUID():
            return str(value)
        case Decimal():
            text = f"{value:f}"
            return text.rstrip("0").rstrip(".") if "." in text else text
        case datetime():
            return iso(value)
    return value
