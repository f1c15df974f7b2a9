"""The REST API on a real database."""

from collections.abc import Iterator

import httpx
import pytest
from pydantic import SecretStr

from sentio.config import RestSettings
from sentio.database import migrate
from tests.rest import Rows, served


@pytest.fixture
def rows(database: str) -> Rows:
    migrate(SecretStr(database))
    return Rows(database)


@pytest.fixture
def client(rows: Rows, database: str) -> Iterator[httpx.Client]:
    with served(RestSettings(database=SecretStr(database), rest_requests=0)) as made:
        yield made
