"""Migrations that move what is there already: nothing of it is lost on the way."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from sentio import database as databases
from sentio.database import migrate
from tests.rest import Rows

START = datetime(2025, 10, 10, 4, tzinfo=UTC)


@pytest.fixture
def migrate_up_to(database: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Apply the migrations whose names come before one."""
    every = databases._migrations()

    def up_to(name: str) -> None:
        with monkeypatch.context() as older:
            older.setattr(databases, "_migrations", lambda: [each for each in every if each[0] < name])
            migrate(SecretStr(database))

    return up_to


def test_windows_that_wait_to_be_announced_still_wait_after_0011(
    database: str, migrate_up_to: Callable[[str], None]
) -> None:
    migrate_up_to("0011")
    many = 5_003  # more than a row of keys holds
    common: dict[str, Any] = {"account": "a", "strategy": "*", "symbol": "*", "kind": "MINUTE"}
    waiting = [{"revision": 2, "published_revision": 1, "start_at": START + timedelta(minutes=n)} for n in range(many)]
    told = {"revision": 3, "published_revision": 3, "start_at": START - timedelta(days=1)}
    Rows(database).add("windows", *waiting, told, **common)
    migrate(SecretStr(database))
    with psycopg.connect(database) as connection:
        rows = connection.execute("select windows, start_at from window_changes").fetchall()
        assert connection.execute("select count(*) from windows").fetchone() == (many + 1,)
    assert [count for count, _ in rows] == [len(starts) for _, starts in rows]
    assert max(count for count, _ in rows) <= 5_000
    assert sorted(start for _, starts in rows for start in starts) == [row["start_at"] for row in waiting]
