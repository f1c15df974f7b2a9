"""Bodies of requests to deals in native code (`native/src/webhooks.rs`), in a tenth of the time that Python takes.

It reads what it knows for certain. Of a body that holds anything else it says nothing, and Python reads it: `bodies`,
`helius` and `prices` say what everything means, and what is wrong with it.
"""

from collections import Counter
from collections.abc import Mapping

from producers.webhooks.helius import MOST_AHEAD_S
from producers.webhooks.prices import Deal
from producers.webhooks.tokens import Token

try:
    import sentio_native
except ModuleNotFoundError:  # not built here
    sentio_native = None


class Reader:
    """Reads bodies for a file of tokens."""

    def __init__(self, tokens: Mapping[str, Token]) -> None:
        plain = [(token.mint, token.decimals, token.usd is not None, token.quote) for token in tokens.values()]
        self._native = sentio_native.Webhooks(plain) if sentio_native else None

    def read(self, body: bytes, now_s: float) -> tuple[list[Deal], Counter[str]] | None:
        """The deals in the order of their blocks, and how many of the other events say no price, by kind."""
        found = self._native.read(body, now_s + MOST_AHEAD_S) if self._native else None
        if found is None:
            return None
        deals, ignored = found
        return list(map(Deal._make, deals)), Counter(ignored)
