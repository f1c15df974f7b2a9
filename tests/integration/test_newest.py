"""The newest row of each key, where there are more keys than a snapshot holds."""

from datetime import timedelta

import psycopg
import pytest
from psycopg.rows import dict_row

from gateway import newest
from schemas.topics import topic_of_event
from tests.rest import OPENING, Rows


def test_of_too_many_keys_those_that_moved_last_are_there_oldest_first(
    rows: Rows, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newest, "MOST_ROWS", 3)
    for number, symbol in enumerate("CABED"):
        at = OPENING + timedelta(seconds=number)
        chance = {"probability": 0.5, "confidence": 0.5}
        rows.add("signals", symbol=symbol, direction="LONG", **chance, bar_id=number, generated_at=at)
    with psycopg.connect(database, row_factory=dict_row) as connection:
        found = newest.newest_of_each(connection, topic_of_event("SignalGenerated"), None)
    assert [row["symbol"] for row in found] == ["B", "E", "D"]
