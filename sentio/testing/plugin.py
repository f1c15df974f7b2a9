"""pytest fixtures of the platform, there wherever it is installed: see docs/testing.md.

Nothing is imported before a fixture is used, so that installing this costs other tests nothing.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from sentio.stack.kafka import KafkaServer
    from sentio.stack.postgres import PostgresServer
    from sentio.stack.redis import RedisServer
    from sentio.testing.servers import Kafka

Own = TypeVar("Own", "KafkaServer", "PostgresServer", "RedisServer")


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap address of the broker all tests share."""
    from sentio.testing import servers

    with servers.kafka_server(tmp_path_factory.mktemp("kafka")) as bootstrap:
        yield bootstrap


@pytest.fixture(scope="session")
def database_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """DSN of the database server all tests share."""
    from sentio.testing import servers

    with servers.database_server(tmp_path_factory.mktemp("postgres")) as dsn:
        yield dsn


@pytest.fixture
def kafka(kafka_server: str) -> "Kafka":
    """The shared broker, with a topic prefix and group ids that no other test has."""
    from sentio.testing import servers

    return servers.Kafka(kafka_server, servers.fresh_prefix())


@pytest.fixture
def database(database_server: str) -> Iterator[str]:
    """DSN of an empty database of this test."""
    from sentio.testing import servers

    with servers.fresh_database(database_server) as dsn:
        yield dsn


@pytest.fixture
def own_kafka(tmp_path: Path) -> "Iterator[KafkaServer]":
    """A running local broker of this test alone, to be stopped, killed and started again."""
    from sentio.stack.kafka import KafkaServer

    yield from _running(KafkaServer(tmp_path / "own-kafka", dies_with_parent=True))


@pytest.fixture
def own_database(tmp_path: Path) -> "Iterator[PostgresServer]":
    """A running local database server of this test alone, to be stopped, killed and started again."""
    from sentio.stack.postgres import PostgresServer

    yield from _running(PostgresServer(tmp_path / "own-postgres", dies_with_parent=True))


@pytest.fixture
def own_redis(tmp_path: Path) -> "Iterator[RedisServer]":
    """A running local Redis of this test alone, to be stopped, killed and started again."""
    from sentio.stack.redis import RedisServer

    yield from _running(RedisServer(tmp_path / "own-redis", dies_with_parent=True))


def _running(server: Own) -> Iterator[Own]:
    try:
        server.start()
        yield server
    finally:
        server.remove()
