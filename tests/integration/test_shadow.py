"""Shadows against a real broker and database: what they hold, how they compare, and what a swap replaces."""

from datetime import timedelta

import psycopg
import pytest

from consumers.shadow import Shadow
from schemas.events import Event
from sentio.config import ConsumerSettings
from sentio.lag import lags
from sentio.testing.servers import Kafka
from tests.pipeline import consumer_settings
from tests.samples import OPENING, minute, signal, trade
from tests.shadows import await_read, dsn, live, publish, rebuilding, sentio, tables

WEEK = Shadow("shadow_week")
DAY = timedelta(days=1)


@pytest.fixture
def settings(kafka: Kafka, database: str) -> ConsumerSettings:
    return consumer_settings(kafka.bootstrap, kafka.prefix, database, session_timeout_ms=6_000)


def events(first: int, end: int) -> list[Event]:
    """A trade, a signal and an equity each twelve hours."""
    found: list[Event] = []
    for n in range(first, end):
        found.append(trade(n, pnl=str(n % 5 - 2), executed_at=OPENING + n * DAY / 2))
        found.append(signal(n, generated_at=OPENING + n * DAY / 2))
        found.append(minute(n * 720, str(100_000 - 17 * (n % 7))))
    return found


def damage(settings: ConsumerSettings) -> None:
    with psycopg.connect(dsn(settings)) as connection:
        for statement in (
            "delete from trades where sequence % 5 = 0",
            "update trades set fees = fees + 1 where sequence % 7 = 1",
            "delete from signals",
            # Not an update: a row of TimescaleDB does not go to another chunk by itself.
            (
                "with gone as (delete from performance where sequence < 6 returning *) insert into performance"
                " select event_id, producer, sequence, account, equity, day_return, open_positions, realized_pnl,"
                " unrealized_pnl, minute_at + interval '40 days' from gone"
            ),
            "delete from windows where kind = 'DAY' and start_at < '2025-10-14'",
            "update windows set realized_pnl = realized_pnl + 1 where kind = 'MONTH'",
        ):
            assert connection.execute(statement).rowcount


def test_a_damaged_table_is_rebuilt_compared_and_swapped(settings: ConsumerSettings) -> None:
    publish(settings, events(0, 20))
    with live(settings):
        await_read(settings, "store", 60)
        await_read(settings, "aggregates", 40)
    right = tables(settings)
    damage(settings)
    with rebuilding(settings, WEEK):
        await_read(settings, "store.shadow_week", 60)
        await_read(settings, "aggregates.shadow_week", 40)
    done = sentio(settings, "verify", "--against", "shadow_week", "--json")
    print(done.output)
    assert done.exit_code == 1
    done = sentio(settings, "swap", "shadow_week")
    print(done.output)
    done = sentio(settings, "swap", "shadow_week", "--yes")
    print(done.output, done.exception)
    assert done.exit_code == 0
    assert tables(settings) == right
    groups = {row.group.removeprefix(f"{settings.topic_prefix}.") for row in lags(settings)}
    assert groups == {"store", "aggregates"}  # nobody takes the shadow's for groups that fall behind
