"""A swap's price: what the one token cost in the other, in USD, exact and rounded once."""

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from producers.webhooks.helius import NoPrice, Swap, Unusable
from producers.webhooks.tokens import Token
from schemas import amounts

KNOWN_FOR_S = 60
"""So much older than a swap may the price of its quote be, by their blocks' times."""

BELOW = Decimal(10) ** 18
"""Of a price, so that it has room in 28 digits."""

_LEGS = 2


class Price(NamedTuple):
    """A price and what tells it from all others."""

    signature: str
    slot: int
    at_s: int
    """The block's time, Unix seconds."""

    symbol: str
    usd: Decimal
    event_id: bytes


class Deal(NamedTuple):
    """A swap that has a price if its quote has, as native code reads it (`producers.webhooks.native`)."""

    place: int
    """Of the event among those of its body."""

    signature: str
    slot: int
    at_s: int
    base: int
    quote: int
    """Places among the tokens."""

    base_units: int
    quote_units: int
    """Smallest units that were exchanged, above zero."""


class Pricing:
    """Prices of swaps, one after the other: it remembers what quotes like SOL cost last."""

    def __init__(self, tokens: Mapping[str, Token]) -> None:
        self._tokens = tokens
        self._listed = tuple(tokens.values())
        self._newest: dict[str, tuple[int, int, Decimal]] = {}
        """(block time, slot, price) of each quote by its mint."""

    def price(self, swap: Swap) -> Price:
        """Raises `NoPrice` where a swap says none, `Unusable` for one that cannot be."""
        base, quote, usd = self._legs(swap)
        paid = amounts.product(swap.changes[quote.mint].copy_negate(), usd)
        return self._price(swap, base, amounts.ratio(paid, swap.changes[base.mint]))

    def price_of(self, deal: Deal) -> Price:
        """The same of a deal."""
        base, quote = self._listed[deal.base], self._listed[deal.quote]
        over, under = (quote.usd or self._quoted(quote, deal)).as_integer_ratio()
        over *= deal.quote_units * 10**base.decimals
        return self._price(deal, base, amounts.quotient(over, under * deal.base_units * 10**quote.decimals))

    def _price(self, swap: Swap | Deal, base: Token, price: Decimal) -> Price:
        if not 0 < price < BELOW:
            raise Unusable(f"the price of {base.symbol} comes to {price:f} USD, not above 0 and below 10^18")
        if base.quote and (swap.at_s, swap.slot) >= self._newest.get(base.mint, (0,))[:2]:
            self._newest[base.mint] = (swap.at_s, swap.slot, price)
        return Price(swap.signature, swap.slot, swap.at_s, base.symbol, price, event_id(swap))

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

    def _quoted(self, quote: Token, swap: Swap | Deal) -> Decimal:
        at_s, _, price = self._newest.get(quote.mint, (0, 0, Decimal(0)))
        if abs(swap.at_s - at_s) > KNOWN_FOR_S:
            raise NoPrice("quote_without_price")
        return price


def event_id(swap: Swap | Deal) -> bytes:
    """A UUIDv7, the same whenever the swap is sent: the block's millisecond, 24 bits of its slot, then 50 of the
    signature. So ids of a second are in the order of slots.
    """
    slot = swap.slot & ((1 << 24) - 1)
    of_signature = int.from_bytes(hashlib.sha256(swap.signature.encode()).digest()[:8]) >> 14
    number = (swap.at_s * 1_000) << 80 | 7 << 76 | (slot >> 12) << 64 | 2 << 62
    return (number | (slot & ((1 << 12) - 1)) << 50 | of_signature).to_bytes(16)
