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


def ratio(left: Decimal, right: Decimal) -> Decimal:
    """A price: ``left`` over ``right``, which is not zero, computed in whole numbers and rounded once."""
    (left_over, left_under), (right_over, right_under) = left.as_integer_ratio(), right.as_integer_ratio()
    over, under = left_over * right_under * 10**PRICE_SCALE, left_under * right_over
    if under < 0:
        over, under = -over, -under
    whole, rest = divmod(over, under)
    up = 2 * rest > under or (2 * rest == under and whole % 2 == 1)
    return Decimal(whole + up).scaleb(-PRICE_SCALE, EXACT)


def _rounded(value: Decimal | int | str, scale: int) -> Decimal:
    if isinstance(value, float):
        raise TypeError(f"{value!r} is binary floating point; parse amounts as decimals")
    return EXACT.quantize(Decimal(value), Decimal(1).scaleb(-scale))
