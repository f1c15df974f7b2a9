"""What all tests share beyond the fixtures of `sentio.testing`."""

import os

import pytest
from hypothesis import HealthCheck, settings

# How long a machine takes is no property of the code.
settings.register_profile("sentio", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sentio")

OWN = {"own_kafka", "own_database", "own_redis"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In containers, leave out what runs on servers of its own: those are local ones, and `make test` ran it."""
    if os.environ.get("SENTIO_TEST_CONTAINERS") != "required":
        return
    again = [
        item for item in items if OWN & set(getattr(item, "fixturenames", ())) or item.path.name == "test_stack.py"
    ]
    config.hook.pytest_deselected(items=again)
    items[:] = [item for item in items if item not in again]
