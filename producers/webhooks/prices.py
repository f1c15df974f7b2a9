"""A swap's price: what the one token cost in the other, in USD, exact and rounded once."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from producers.webhooks.helius import NoPrice, Swap, Unusable
from producers.webhooks.tokens import Token
from schemas import amounts
from schemas.events import PriceUpdated

SOURCE = "helius"
KNOWN_FOR_S = 60
"""So much older than a swap may the price of its quote be, by their blocks' times."""

BELOW = Decimal(10) ** 18
"""Of a price, so that it has room in 28 digits."""

_LEGS = 2


@dataclass(frozen=True, slots=True)
class Price:
    """A price and what tells it from all others."""

    signature: str
    slot: int
    event: PriceUpdated


class Pricing:
    """Prices of swaps, one after the other: it remembers what quotes like SOL cost last."""

    def __init__(self, tokens: Mapping[str, Token]) -> None:
        self._tokens = tokens
        self._newest: dict[str, tuple[int, int, Decimal]] = {}
        """(block time, slot, price) of each quote by its mint."""

    def price(self, swap: Swap) -> Price:
        """Raises `NoPrice` where a swap says none, `Unusable` for one that cannot be."""
        base, quote, usd = self._legs(swap)
        paid = amounts.product(swap.changes[quote.mint].copy_negate(), usd)
        price = amounts.ratio(paid, swap.changes[base.mint])
        if not 0 < price < BELOW:
            raise Unusable(f"the price of {base.symbol} comes to {price:f} USD, not above 0 and below 10^18")
        if base.quote and (swap.at_s, swap.slot) >= self._newest.get(base.mint, (0,))[:2]:
            self._newest[base.mint] = (swap.at_s, swap.slot, price)
        event = PriceUpdated(
            event_id=event_id(swap),
            symbol=base.symbol,
            price=price,
            source=SOURCE,
            observed_at=datetime.fromtimestamp(swap.at_s, UTC),
        )
        return Price(swap.signature, swap.slot, event)

    def _legs(self, swap: Swap) -> tuple[Token, Token, Decimal]:
        """What is priced, in what, and what one of that is worth."""
        legs = [self._tokens.get(mint) for mint in swap.changes]
        known = [token for token in legs if token]
        if len(legs) != _LEGS or len({change > 0 for change in swap.changes.values()}) != _LEGS:
            raise NoPrice("no_swap" if len(legs) <= _LEGS else "several_tokens")
        if len(known) != _LEGS:
            raise NoPrice("unknown_mint")
        money = [token for token in known if token.usd]
        if len(money) == _LEGS:
            raise NoPrice("only_money")
        if not money:
            money = [token for token in known if token.quote]
        if len(money) != 1:
            raise NoPrice("no_money")
        [quote] = money
        [base] = [token for token in known if token is not quote]
        return base, quote, quote.usd or self._quoted(quote, swap)

    def _quoted(self, quote: Token, swap: Swap) -> Decimal:
        at_s, _, price = self._newest.get(quote.mint, (0, 0, Decimal(0)))
        if abs(swap.at_s - at_s) > KNOWN_FOR_S:
            raise NoPrice("quote_without_price")
        return price


def event_id(swap: Swap) -> bytes:
    """A UUIDv7, the same whenever the swap is sent: the block's millisecond, 24 bits of its slot, then 50 of the
    signature. So ids of a second are in the order of slots.
    """
    slot = swap.slot & ((1 << 24) - 1)
    of_signature = int.from_bytes(hashlib.sha256(swap.signature.encode()).digest()[:8]) >> 14
    number = (swap.at_s * 1_000) << 80 | 7 << 76 | (slot >> 12) << 64 | 2 << 62
    return (number | (slot & ((1 << 12) - 1)) << 50 | of_signature).to_bytes(16)
