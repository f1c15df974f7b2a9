"""The REST API on a real database, a platform for the gateway of the stream, and replays on a real broker."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from sentio.config import RestSettings
from sentio.database import migrate
from sentio.stack.kafka import KafkaServer
from sentio.testing.servers import Kafka, fresh_prefix
from tests.gateways import Platform, make_platform
from tests.replays import Replays, make_replays
from tests.rest import Rows, served


@pytest.fixture
def rows(database: str) -> Rows:
    migrate(SecretStr(database))
    return Rows(database)


@pytest.fixture
def client(rows: Rows, database: str) -> Iterator[httpx.Client]:
    with served(RestSettings(database=SecretStr(database), rest_requests=0)) as made:
        yield made


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def platform(kafka: Kafka, database: str) -> Iterator[Platform]:
    with make_platform(kafka.bootstrap, kafka.prefix, database) as made:
        made.make_topics()
        yield made


@pytest.fixture
def replay(
    kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Replays:
    """With the topic of trades, three partitions of it."""
    return make_replays(kafka, tmp_path, monkeypatch, capsys)


@pytest.fixture
def own_replay(
    own_kafka: KafkaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Replays:
    """The same, on a broker of its own."""
    return make_replays(Kafka(own_kafka.address or "", fresh_prefix()), tmp_path, monkeypatch, capsys)
