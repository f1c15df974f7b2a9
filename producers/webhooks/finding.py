"""What a body holds: its prices, and what became of the events without one. In native code where that is certain of all
its events, else in Python; both find the same.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from producers.webhooks import helius
from producers.webhooks.bodies import events, exact_events
from producers.webhooks.helius import Inexact, NoPrice, Unusable
from producers.webhooks.native import Reader
from producers.webhooks.prices import Price, Pricing
from producers.webhooks.tokens import Token


@dataclass(slots=True)
class Found:
    """What a request holds."""

    prices: list[Price] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[int, str | None, str]] = field(default_factory=list)
    """(index, signature, reason)."""


class Finder:
    """Bodies one after the other: it remembers what quotes cost last."""

    def __init__(self, tokens: Mapping[str, Token], now_s: Callable[[], float] = time.time) -> None:
        self._tokens = tokens
        self._now_s = now_s
        self._reader = Reader(tokens)
        self._pricing = Pricing(tokens)

    def find(self, body: bytes) -> Found:
        """Raises `NoEvents` for a body that is no JSON array."""
        return self.find_natively(body) or self.find_in_python(body)

    def find_natively(self, body: bytes) -> Found | None:
        """None where Python has to look at the body."""
        read = self._reader.read(body, self._now_s(), self._pricing.newest)
        if read is None:
            return None
        self._pricing.newest = read.newest
        return Found(read.prices, read.ignored, read.refused)

    def find_in_python(self, body: bytes) -> Found:
        """Raises `NoEvents`."""
        try:
            return self._find(events(body))
        except Inexact:
            return self._find(exact_events(body))

    def _find(self, events: Sequence[object]) -> Found:
        """In the order of slots, so that a quote has its price before it is used."""
        found = Found()
        swaps = []
        for index, event in enumerate(events):
            try:
                swaps.append((index, helius.swap(event, self._tokens, self._now_s)))
            except NoPrice as why:
                found.ignored[str(why)] += 1
            except Unusable as why:
                found.refused.append((index, helius.signature_of(event), str(why)))
        for index, swap in sorted(swaps, key=lambda one: (one[1].at_s, one[1].slot)):
            try:
                found.prices.append(self._pricing.price(swap))
            except NoPrice as why:
                found.ignored[str(why)] += 1
            except Unusable as why:
                found.refused.append((index, swap.signature, str(why)))
        return found
