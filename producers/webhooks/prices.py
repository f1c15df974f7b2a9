"""A swap's price: what the one token cost in the other, in USD, exact and rounded once."""

import hashlib
import struct
from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from producers.webhooks.helius import NoPrice, Swap, Unusable
from producers.webhooks.tokens import Token
from schemas import amounts

KNOWN_FOR_S = 60
"""So much older than a swap may the price of its quote be, by their blocks' times."""

BELOW = 10 ** (18 + amounts.PRICE_SCALE)
"""Of a price in 10^-10 USD, so that it has room in 28 digits."""

_LEGS = 2
_EVENT_ID = struct.Struct(">QQ")

Newest = dict[str, tuple[int, int, int]]
"""What quotes cost last, by their mints: the block's time, the slot, the price in 10^-10 USD."""


class Price(NamedTuple):
    """A price and what tells it from all others."""

    signature: str
    slot: int
    at_s: int
    """The block's time, Unix seconds."""

    symbol: str
    units: int
    """10^-10 USD."""

    event_id: bytes

    @property
    def usd(self) -> Decimal:
        """The same in USD."""
        return usd(self.units)


def units(price: Decimal) -> int:
    """USD of ten decimals at most in 10^-10 USD."""
    return int(price.scaleb(amounts.PRICE_SCALE, amounts.EXACT))


def usd(units: int) -> Decimal:
    """10^-10 USD in USD."""
    return Decimal(units).scaleb(-amounts.PRICE_SCALE, amounts.EXACT)


def no_price(symbol: str, units: int) -> str:
    """What to say of a price that cannot be."""
    return f"the price of {symbol} comes to {usd(units):f} USD, not above 0 and below 10^18"


class Pricing:
    """Prices of swaps, one after the other: it remembers what quotes like SOL cost last."""

    def __init__(self, tokens: Mapping[str, Token]) -> None:
        self._tokens = tokens
        self.newest: Newest = {}

    def price(self, swap: Swap) -> Price:
        """Raises `NoPrice` where a swap says none, `Unusable` for one that cannot be."""
        base, quote, worth = self._legs(swap)
        paid = amounts.product(swap.changes[quote.mint].copy_negate(), worth)
        price = units(amounts.ratio(paid, swap.changes[base.mint]))
        if not 0 < price < BELOW:
            raise Unusable(no_price(base.symbol, price))
        if base.quote and (swap.at_s, swap.slot) >= self.newest.get(base.mint, (0,))[:2]:
            self.newest[base.mint] = (swap.at_s, swap.slot, price)
        identity = event_id(swap.signature, swap.slot, swap.at_s)
        return Price(swap.signature, swap.slot, swap.at_s, base.symbol, price, identity)

    def _legs(self, swap: Swap) -> tuple[Token, Token, Decimal]:
        """What is priced, in what, and what one of that is worth."""
        if len(swap.changes) != _LEGS:
            raise NoPrice("several_tokens" if len(swap.changes) > _LEGS else "no_swap")
        (one_mint, one_change), (other_mint, other_change) = swap.changes.items()
        if (one_change > 0) == (other_change > 0):
            raise NoPrice("no_swap")
        one, other = self._tokens.get(one_mint), self._tokens.get(other_mint)
        if one is None or other is None:
            raise NoPrice("unknown_mint")
        if one.usd and other.usd:
            raise NoPrice("only_money")
        if not (one.usd or other.usd) and one.quote == other.quote:
            raise NoPrice("no_money")
        is_quote = bool(one.usd) or (one.quote and not other.usd)
        quote, base = (one, other) if is_quote else (other, one)
        return base, quote, quote.usd or self._quoted(quote, swap)

    def _quoted(self, quote: Token, swap: Swap) -> Decimal:
        at_s, _, price = self.newest.get(quote.mint, (0, 0, 0))
        if abs(swap.at_s - at_s) > KNOWN_FOR_S:
            raise NoPrice("quote_without_price")
        return usd(price)


def event_id(signature: str, slot: int, at_s: int) -> bytes:
    """A UUIDv7, the same whenever the swap is sent: the block's millisecond, 24 bits of its slot, then 50 of the
    signature. So ids of a second are in the order of slots.
    """
    of_signature = int.from_bytes(hashlib.sha256(signature.encode()).digest()[:8]) >> 14
    return _EVENT_ID.pack(
        at_s * 1_000 << 16 | 7 << 12 | slot >> 12 & 0xFFF, 2 << 62 | (slot & 0xFFF) << 50 | of_signature
    )
