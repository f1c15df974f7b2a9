"""The REST API on a real database, and a platform for the gateway of the stream."""

from collections.abc import Iterator

import httpx
import pytest
from pydantic import SecretStr

from sentio.config import RestSettings
from sentio.database import migrate
from sentio.testing.servers import Kafka
from tests.gateways import Platform, make_platform
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
