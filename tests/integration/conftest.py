"""The REST API on a real database, a platform for the gateway of the stream, and replays on a real broker."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined] # it is theirs to give
from pydantic import SecretStr

from sentio.config import RestSettings, Settings
from sentio.database import migrate
from sentio.testing.servers import Kafka
from tests.gateways import Platform, make_platform
from tests.replays import TRADES, Replays
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
    monkeypatch.setenv("SENTIO_KAFKA", kafka.bootstrap)
    monkeypatch.setenv("SENTIO_TOPIC_PREFIX", kafka.prefix)
    monkeypatch.setenv("SENTIO_REPLAY_STATE", str(tmp_path / "state"))
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    name = TRADES.full_name(kafka.prefix)
    admin.create_topics([NewTopic(name, 3)])[name].result(60)
    return Replays(Settings(kafka=kafka.bootstrap, topic_prefix=kafka.prefix), tmp_path, capsys)
