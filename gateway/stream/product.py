"""What a client says it is, in its handshake, and how many of each are connected to this process."""

import re
from collections import Counter
from urllib.parse import parse_qs

from websockets.http11 import Request

NONE = "unknown"
OTHER = "other"
MOST = 32
"""Products that are told apart at the same time; any client may invent one."""

_PRODUCT = re.compile(r"[A-Za-z0-9._-]{1,32}(/[A-Za-z0-9._+-]{1,16})?")


def product_of(request: Request) -> str:
    """NAME/VERSION, of `?client=`, since a browser's page cannot set a header, else of what `User-Agent` begins with.

    Pusher's clients say ``client=js&version=8.4.0``. `NONE` for who says nothing, or nothing of the kind.
    """
    query = parse_qs(request.path.partition("?")[2])
    said = query.get("client", [""])[0]
    if said and "/" not in said and "version" in query:
        said = f"pusher-{said}/{query['version'][0]}"
    if not said:
        agents = request.headers.get_all("User-Agent")
        said = agents[0].partition(" ")[0] if agents else ""
    return said if _PRODUCT.fullmatch(said) else NONE


class Products:
    """Of the connections that are open now. Belongs to the event loop."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._names: dict[str, str] = {}
        """One text of each, however many connections hold it."""

    def enter(self, product: str) -> str:
        """One more; returns the name to `leave` with, `OTHER` where too many are known."""
        if product not in self._names and len(self._names) >= MOST:
            product = OTHER
        product = self._names.setdefault(product, product)
        self.counts[product] += 1
        return product

    def leave(self, product: str) -> None:
        self.counts[product] -= 1
        if not self.counts[product]:
            del self.counts[product], self._names[product]
