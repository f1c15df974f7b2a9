"""What operators ask of the stream's instances, by way of Redis: who is connected where, and to send someone away."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from redis import Redis

from gateway import shared
from gateway.stream.product import NONE
from sentio.config import AccessSettings
from sentio.errors import Retryable, SettingError

ANSWER_S = 5.0
CLOSED_S = 6.0
"""What a client has, at most, to leave once it is told to (`gateway.stream.connection.CLOSE_S`), and some more."""

POLL_S = 0.05
SCANNED = 1_000  # connections that Redis looks at before it is others' turn


@dataclass(frozen=True, slots=True, order=True)
class Client:
    """One open connection; ``user`` is '' for who showed no token, ``number`` is its number on the instance.

    ``product`` is what the client says it is, NAME/VERSION.
    """

    user: str
    opened_at: datetime
    address: str
    instance: str
    number: int
    product: str


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of the connections of a user who was to be disconnected."""

    instances: int
    """That heard of it."""

    closed: int
    left: list[Client]
    """Those that are open still."""


def connected(settings: AccessSettings, user: str | None = None) -> list[Client]:
    """Who is connected, or where that user is.

    Raises `Retryable` when Redis does not answer, `SettingError` where none is set.
    """
    with _redis(settings) as redis:
        return _connected(redis, shared.prefix(settings), user)


def disconnect(settings: AccessSettings, user: str) -> Sent:
    """Have all connections of a user closed, and wait until they are; raises as `connected` does."""
    prefix = shared.prefix(settings)
    with _redis(settings) as redis:
        before = set(_connected(redis, prefix, user))
        heard = redis.publish(prefix + shared.DISCONNECT, user)
        ends_s = time.monotonic() + CLOSED_S
        left = before & set(_connected(redis, prefix, user))
        while left and heard and time.monotonic() < ends_s:
            time.sleep(POLL_S)
            left = before & set(_connected(redis, prefix, user))
        return Sent(heard, len(before) - len(left), sorted(left))


@contextmanager
def _redis(settings: AccessSettings) -> Iterator[Redis]:
    if settings.redis is None:
        raise SettingError("SENTIO_REDIS is not set: without it each instance knows of its own clients only")
    try:
        with shared.connected_to_wait(settings.redis, ANSWER_S) as redis:
            yield redis
    except shared.TROUBLE as failure:
        raise Retryable(f"SENTIO_REDIS: {failure}") from failure


def _connected(redis: Redis, prefix: str, user: str | None) -> list[Client]:
    seconds, micros = redis.time()
    found = set()
    now_ms = seconds * 1_000 + micros // 1_000
    pattern = None if user is None else f"* {_literal(user)}"
    for instance in map(str, redis.zrangebyscore(f"{prefix}instances", f"({now_ms}", "+inf")):
        for field, value in redis.hscan_iter(f"{prefix}clients:{instance}", match=pattern, count=SCANNED):
            number, _, name = field.partition(" ")
            opened_ms, address, *products = value.split(" ")  # an older gateway says nothing of products
            if user in (None, name):
                opened_at = datetime.fromtimestamp(int(opened_ms) / 1_000, UTC)
                found.add(Client(name, opened_at, address, instance, int(number), products[0] if products else NONE))
    return sorted(found)


def _literal(text: str) -> str:
    """As Redis's patterns have it."""
    return re.sub(r"([*?\[\]^\\-])", r"\\\1", text)
