"""Bodies of requests to prices in native code (`native/src/{webhooks,prices}.rs`), in a tenth of Python's time.

It reads what it knows for certain. An event that is otherwise Python reads, and a body that is otherwise between its
events: `bodies`, `helius` and `prices` say what everything means, and what is wrong with it.
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from producers.webhooks.helius import MOST_AHEAD_S
from producers.webhooks.prices import Newest, Price, event_id, no_price, units
from producers.webhooks.tokens import Token

try:
    import sentio_native
except ModuleNotFoundError:  # not built here
    sentio_native = None


class Read(NamedTuple):
    """What a body holds."""

    prices: list[Price]
    """In the order of their blocks."""

    unsure: list[tuple[int, bytes]]
    """(index, JSON) of the events that Python has to look at."""

    worthless: list[tuple[int, bytes, str]]
    """(index, JSON, reason) of those whose price comes to nothing."""

    ignored: Counter[str]
    """Of the other events, how many say no price, by kind."""

    newest: Newest
    """What quotes cost behind it."""


class Reader:
    """Reads bodies for a file of tokens."""

    def __init__(self, tokens: Mapping[str, Token]) -> None:
        self._symbols = [token.symbol for token in tokens.values()]
        plain = [
            (token.mint, token.decimals, units(token.usd) if token.usd else None, token.quote)
            for token in tokens.values()
        ]
        self._native = sentio_native.Webhooks(plain) if sentio_native else None

    def read(self, body: bytes, now_s: float, newest: Newest) -> Read | None:
        """None where Python has to look at the whole body; ``newest`` is what quotes cost before it."""
        found = self._native.read(body, now_s + MOST_AHEAD_S, newest) if self._native else None
        if found is None:
            return None
        plain, unsure, worthless, ignored, newest = found
        symbols = self._symbols
        prices = [
            Price(signature, slot, at_s, symbols[base], price, event_id(signature, slot, at_s))
            for signature, slot, at_s, base, price in plain
        ]
        without = [(index, text, no_price(symbols[base], 0)) for index, text, base in worthless]
        return Read(prices, unsure, without, Counter(ignored), newest)
