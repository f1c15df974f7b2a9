"""What all tests share beyond the fixtures of `sentio.testing`."""

import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# How long a machine takes is no property of the code.
settings.register_profile("sentio", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sentio")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """`structlog.testing.capture_logs` leaves structlog set up, with tracebacks that take seconds."""
    yield
    structlog.reset_defaults()


OWN = {"own_kafka", "own_database", "own_redis"}
SHARED = {"kafka_server", "database_server"}
INSIDE = {"test_docs.py", "test_fixtures.py"}  # they run tests and commands of their own, on the same servers


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In containers, leave out what runs on servers of its own, which are local, or on none: `make test` ran it."""
    if os.environ.get("SENTIO_TEST_CONTAINERS") != "required":
        return
    again = [item for item in items if not _is_on_shared_servers(item)]
    config.hook.pytest_deselected(items=again)
    items[:] = [item for item in items if item not in again]


def _is_on_shared_servers(item: pytest.Item) -> bool:
    fixtures = set(getattr(item, "fixturenames", ()))
    return bool(not OWN & fixtures and (SHARED & fixtures or item.path.name in INSIDE))
