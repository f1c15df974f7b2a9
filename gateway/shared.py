"""Redis, where one is set: what instances of the gateway share. Here is how it is reached, and what its keys are.

Nothing depends on it: whoever asks waits `BOUND_S` at most and has an answer of its own for when there is none.
"""

from pydantic import SecretStr
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.connection import BlockingConnectionPool, parse_url
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from sentio.config import AccessSettings
from sentio.errors import SettingError

BOUND_S = 0.25
"""Longest wait for Redis of whoever has an answer without it, seconds."""

CONNECTIONS = 16  # at most, of one client; who finds them all in use waits for one

DISCONNECT = "disconnect"
"""Channel, behind the prefix, on which instances hear the names of users whose connections they close."""

TROUBLE = (RedisError, OSError, TimeoutError)
"""What Redis raises when it is away, slow, or not what it was."""


def connected(url: SecretStr) -> AsyncRedis:
    """Connects with the first command, and again after a failure; tries each command once, for `BOUND_S`.

    Raises `SettingError` for a URL that is none.
    """
    pool = BlockingConnectionPool.from_url(
        check(url),
        max_connections=CONNECTIONS,
        timeout=BOUND_S,
        decode_responses=True,
        encoding_errors="replace",
        protocol=2,
        retry=AsyncRetry(NoBackoff(), 0),
        socket_timeout=BOUND_S,
        socket_connect_timeout=BOUND_S,
        socket_keepalive=True,
    )
    return AsyncRedis.from_pool(pool)


def connected_to_wait(url: SecretStr, timeout_s: float) -> Redis:
    """The same for a person at a command line, who waits longer, and in one thread."""
    return Redis.from_url(
        check(url),
        decode_responses=True,
        encoding_errors="replace",
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
    )


def prefix(settings: AccessSettings) -> str:
    """What the keys of a platform begin with: several platforms may share one Redis."""
    return f"{settings.topic_prefix}:gateway:"


def check(url: SecretStr) -> str:
    """The URL; raises `SettingError` where it is none."""
    text = url.get_secret_value()
    try:
        parse_url(text)
    except ValueError as failure:
        raise SettingError(f"SENTIO_REDIS: {failure}; it is redis://[:PASSWORD@]HOST:PORT/0") from failure
    return text
