"""The REST API on a real database."""

import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from pydantic import SecretStr

from gateway.rest.app import create_app
from sentio.config import RestSettings
from sentio.database import migrate
from tests.rest import Rows


@pytest.fixture
def rows(database: str) -> Rows:
    migrate(SecretStr(database))
    return Rows(database)


@pytest.fixture
def client(rows: Rows, database: str) -> Iterator[httpx.Client]:
    app = create_app(RestSettings(database=SecretStr(database)))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    bound = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{bound.getsockname()[1]}", timeout=20) as made:
            yield made
    finally:
        server.should_exit = True
        thread.join()
        bound.close()
