"""Which Kafka and which database tests run on, and a fresh corner of them for every test.

The order: an address in the environment; a container where a Docker engine has the image; a local server.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

KAFKA_SETTING = "SENTIO_TEST_KAFKA"
DATABASE_SETTING = "SENTIO_TEST_DATABASE"
CONTAINERS_SETTING = "SENTIO_TEST_CONTAINERS"  # "required", "never", or unset: where there is an image


@dataclass(frozen=True)
class Kafka:
    """A broker, and names on it that no other test has."""

    bootstrap: str
    prefix: str

    def topic(self, name: str) -> str:
        """A topic name of this test."""
        return f"{self.prefix}.{name}"

    def group(self, name: str = "group") -> str:
        """Another group id with every call."""
        return f"{self.prefix}.{name}.{uuid.uuid4().hex[:7]}"


def fresh_prefix() -> str:
    return f"t{uuid.uuid4().hex[:7]}"


@contextmanager
def kafka_server(folder: Path) -> Iterator[str]:
    """Bootstrap address of the broker to test on; ``folder`` is for a local one."""
    if given := os.environ.get(KAFKA_SETTING):
        yield given
    elif image := _image("kafka"):
        from sentio.testing.containers import KafkaContainer

        with KafkaContainer(image) as container:
            yield container.address
    else:
        from sentio.stack.kafka import KafkaServer

        server = KafkaServer(folder, dies_with_parent=True)
        try:
            yield server.start()
        finally:
            server.remove()


@contextmanager
def database_server(folder: Path) -> Iterator[str]:
    """DSN of a database whose role may create others; ``folder`` is for a local server."""
    if given := os.environ.get(DATABASE_SETTING):
        yield given
    elif image := _image("timescaledb"):
        from sentio.testing.containers import TimescaleContainer

        with TimescaleContainer(image) as container:
            yield container.address
    else:
        from sentio.stack.postgres import PostgresServer

        server = PostgresServer(folder, dies_with_parent=True)
        try:
            yield server.start()
        finally:
            server.remove()


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    """DSN of an empty database, dropped afterwards whoever is still connected."""
    import psycopg

    name = f"t{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _image(component: str) -> str | None:
    """The image to run, if containers are wanted and an engine has it; nothing is ever pulled."""
    wanted = os.environ.get(CONTAINERS_SETTING, "")
    if wanted == "never":
        return None
    from sentio.testing import containers

    image = os.environ.get(f"SENTIO_TEST_{component.upper()}_IMAGE", f"sentio/test-{component}")
    reason = containers.why_not(image)
    if reason is None:
        return image
    if wanted == "required":
        pytest.fail(f"{CONTAINERS_SETTING}=required, but {reason}", pytrace=False)
    return None
