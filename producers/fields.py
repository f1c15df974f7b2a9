"""Reading recordings: files, lines and their fields, each checked, with what is wrong said in words.

Lives here: what the recorded session and the results file have in common. What they mean is theirs.
"""

import gzip
import json
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NoReturn

from schemas import amounts
from sentio.errors import NotPlayable

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

TEXT_BYTES = 256
"""Room of a text, in UTF-8."""


def contents(path: Path) -> bytes:
    """The bytes of a file, decompressed where they are gzip. Raises NotPlayable when it cannot be read."""
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except (OSError, EOFError, zlib.error) as error:
        raise NotPlayable(f"{path} cannot be read: {error}") from error


def refusal(*, skip_bad: bool, on_bad: Callable[[str], None] | None) -> Callable[[str], None]:
    """What to do with a line that cannot be used: stop with NotPlayable, or tell and go on."""

    def stop(line: str) -> NoReturn:
        raise NotPlayable(line)

    return (on_bad or (lambda _: None)) if skip_bad else stop


def shown(value: object) -> str:
    """A value in a line of a log: short."""
    try:
        text = str(value) if isinstance(value, Decimal) else repr(value)
    except RecursionError:  # it was just not too deep to be parsed
        text = "too deep"
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004 - a line in a log


class LineError(ValueError):
    """Why a line cannot be used; the play adds which line it is."""


class Fields:
    """The fields of one JSON object, each checked and typed as it is read; raises LineError.

    The limits leave room for the product of any price and quantity in the scale of money.
    """

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise LineError("is not a JSON object")
        self._values: dict[str, object] = value

    @classmethod
    def parse(cls, text: bytes) -> "Fields":
        """JSON with every fraction as the decimal that was written."""
        try:
            return cls(json.loads(text, parse_float=Decimal, parse_constant=_not_finite))
        except json.JSONDecodeError as error:
            raise LineError(f"is not JSON ({error.msg}, column {error.colno})") from error
        except LineError:
            raise
        except (ValueError, ArithmeticError, RecursionError) as error:  # a number of thousands of digits, too
            raise LineError(f"is not JSON that can be read ({error})") from error

    def get(self, name: str) -> object:
        if name not in self._values:
            raise LineError(f"lacks {name}")
        return self._values[name]

    def has(self, name: str) -> bool:
        return self._values.get(name) is not None

    def text(self, name: str, *, empty: bool = False) -> str:
        value = self.get(name)
        if not isinstance(value, str) or not value.isprintable() or not (value or empty):
            raise LineError(f"{name} is {shown(value)}, not a text of one line")
        if (size := len(value.encode())) > TEXT_BYTES:
            raise LineError(f"{name} has {size} bytes, more than {TEXT_BYTES}")
        return value

    def integer(self, name: str, low: int, high: int) -> int:
        value = self.get(name)
        if type(value) is not int or not low <= value <= high:
            raise LineError(f"{name} is {shown(value)}, not a whole number from {low} to {high}")
        return value

    def number(self, name: str, low: Decimal | int, high: Decimal | int) -> Decimal:
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or not low <= value <= high:
            raise LineError(f"{name} is {shown(value)}, not a number from {low} to {high}")
        return Decimal(value)

    def fraction(self, name: str) -> float:
        """A probability: the one kind of number that is no amount."""
        return float(self.number(name, 0, 1))

    def price(self, name: str) -> Decimal:
        """USD per share, rounded to the house's scale."""
        return amounts.price(self.number(name, Decimal("1e-10"), 10**9))

    def quantity(self, name: str) -> Decimal:
        """Shares, above zero, rounded to the house's scale."""
        return amounts.quantity(self.number(name, Decimal("1e-8"), 10**10))

    def money(self, name: str) -> Decimal:
        """USD of either sign, not rounded."""
        return self.number(name, -(10**15), 10**15)

    def time(self, name: str) -> datetime:
        """Milliseconds since 1970, as UTC: 13 digits, the years 2001 to 2286. What has less is 0, or counts seconds."""
        return EPOCH + timedelta(milliseconds=self.integer(name, 10**12, 10**13 - 1))


def _not_finite(name: str) -> NoReturn:
    raise LineError(f"holds {name}, which is no number")
