"""Keyset pagination: a page ends at a key, and the next begins after it, whatever was inserted meanwhile."""

import json
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Any


class BadCursor(ValueError):
    """The cursor is not one of this query."""


def encode(key: Sequence[str], query: Mapping[str, Any]) -> str:
    """Opaque text of the last key of a page, good for the same query only."""
    body = json.dumps([_digest(query), *key], separators=(",", ":")).encode()
    return urlsafe_b64encode(body).rstrip(b"=").decode()


def decode(cursor: str, query: Mapping[str, Any], *, length: int) -> list[str]:
    """The key, of ``length`` parts; raises `BadCursor`."""
    try:
        said = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError) as failure:
        raise BadCursor("the cursor is not one of this API") from failure
    if (
        not isinstance(said, list)
        or len(said) != length + 1
        or not all(isinstance(part, str) and part.isprintable() for part in said[1:])
    ):
        raise BadCursor("the cursor is not one of this API")
    if said[0] != _digest(query):
        raise BadCursor("the cursor belongs to a query with other parameters")
    return said[1:]


def _digest(query: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps({name: str(value) for name, value in query.items()}, sort_keys=True).encode())
