"""What a body holds: its prices, and what became of the events without one.

In native code where that is certain, else in Python; both find the same.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

from producers.webhooks import helius
from producers.webhooks.bodies import events, exact_events, texts
from producers.webhooks.helius import Inexact, NoPrice, Swap, Unusable
from producers.webhooks.native import Reader
from producers.webhooks.prices import Price, Pricing
from producers.webhooks.tokens import Token


@dataclass(frozen=True, slots=True)
class Refused:
    """An event that cannot be used."""

    index: int
    signature: str | None
    reason: str
    event: bytes
    """As it came."""


@dataclass(slots=True)
class Found:
    """What a request holds."""

    prices: list[Price] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    refused: list[Refused] = field(default_factory=list)


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
        """None where Python has to look at the whole body."""
        read = self._reader.read(body, self._now_s(), self._pricing.newest)
        if read is None:
            return None
        found = Found(read.prices, read.ignored)
        for index, text in read.unsure:
            [event] = events(b"[%b]" % text)
            if self._swap(found, index, event, lambda text=text: text):  # type: ignore[misc] # bound now
                return None  # among the others it has its place
        for index, text, reason in read.worthless:
            found.refused.append(Refused(index, helius.signature_of(_exact(text)), reason, text))
        self._pricing.newest = read.newest
        return found

    def find_in_python(self, body: bytes) -> Found:
        """In the order of slots, so that a quote has its price before it is used. Raises `NoEvents`."""
        came = cache(lambda: texts(body))
        found = Found()
        swaps = []
        for index, event in enumerate(events(body)):
            if swap := self._swap(found, index, event, lambda index=index: came()[index]):  # type: ignore[misc] # bound now
                swaps.append((index, swap))
        for index, swap in sorted(swaps, key=lambda one: (one[1].at_s, one[1].slot)):
            try:
                found.prices.append(self._pricing.price(swap))
            except NoPrice as why:
                found.ignored[str(why)] += 1
            except Unusable as why:
                found.refused.append(Refused(index, swap.signature, str(why), came()[index]))
        return found

    def _swap(self, found: Found, index: int, event: object, text: Callable[[], bytes]) -> Swap | None:
        """None for an event without one, which is noted. ``text`` is the same event as it came."""
        try:
            try:
                return helius.swap(event, self._tokens, self._now_s)
            except Inexact:
                return helius.swap(_exact(text()), self._tokens, self._now_s)
        except NoPrice as why:
            found.ignored[str(why)] += 1
        except Unusable as why:
            found.refused.append(Refused(index, helius.signature_of(event), str(why), text()))
        return None


def _exact(text: bytes) -> object:
    """Whole, fractions as they were written."""
    [event] = exact_events(b"[%b]" % text)
    return event
