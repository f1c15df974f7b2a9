"""When a token ends, and when it is time for the next one. Nothing here trusts what a token says."""

import base64
import binascii
import json
from collections.abc import Awaitable, Callable

Token = str | Callable[[], Awaitable[str]]
"""A JWT, or what fetches one; it raises OSError (TimeoutError is one) where there is none at the moment."""

SHARE = 0.2
MOST_S = 60.0


def ends_at_s(token: str) -> float | None:
    """Unix time of its ``exp``; none if it does not say."""
    parts = token.split(".")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return float(claims["exp"])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return None


def refresh_in_s(token: str, now_s: float) -> float | None:
    """How long from now (Unix time) a new one is due: a fifth of what it has left before its end, at most a minute."""
    end_s = ends_at_s(token)
    if end_s is None:
        return None
    left_s = max(0.0, end_s - now_s)
    return left_s - min(MOST_S, left_s * SHARE)
