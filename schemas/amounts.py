"""Exact amounts: decimals of the house's scales, rounded once, half even."""

from decimal import ROUND_HALF_EVEN, Context, Decimal

PRICE_SCALE = 10
QUANTITY_SCALE = 8
MONEY_SCALE = 6

# Wide enough that no product of a price and a quantity is rounded before `_rounded` rounds it.
EXACT = Context(prec=76, rounding=ROUND_HALF_EVEN)


def price(value: Decimal | int | str) -> Decimal:
    """A price per share (or a ratio): ten decimals."""
    return _rounded(value, PRICE_SCALE)


def quantity(value: Decimal | int | str) -> Decimal:
    """A number of shares: eight decimals."""
    return _rounded(value, QUANTITY_SCALE)


def money(value: Decimal | int | str) -> Decimal:
    """An amount of USD: six decimals."""
    return _rounded(value, MONEY_SCALE)


def product(left: Decimal, right: Decimal) -> Decimal:
    """Multiply without rounding."""
    return EXACT.multiply(left, right)


def _rounded(value: Decimal | int | str, scale: int) -> Decimal:
    if isinstance(value, float):
        raise TypeError(f"{value!r} is binary floating point; parse amounts as decimals")
    return EXACT.quantize(Decimal(value), Decimal(1).scaleb(-scale))
