"""The engine of examples/engine-cpp through its ring, `sentio sidecar`, Kafka, store and aggregates: what it says at its
end is what the tables say, in every figure and to the last digit.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from consumers.aggregates.aggregates import Aggregates
from consumers.store.store import Store
from sentio.config import ConsumerSettings
from sentio.testing.servers import Kafka
from tests import rotation
from tests.data import ABSENT, DATA
from tests.pipeline import consumer_settings, running, until

SENTIO = Path(sys.executable).parent / "sentio"
RECORDED = DATA / "bars"

STATISTICS = """
    select account, fills, trades, wins, losses, volume, notional, fees, realized_pnl, gross_profit, gross_loss,
        equity_close, max_drawdown
    from statistics where strategy = '*' and symbol = '*' and kind = 'DAY'
"""
EVENTS = """
    select account, fills.*, (select count(*) from positions where positions.account = of.account) as positions,
        (select count(*) from performance where performance.account = of.account) as minutes,
        (select equity from performance where performance.account = of.account order by minute_at desc limit 1)
            as equity_close
    from (select distinct account from performance) as of, lateral (
        select count(*) as fills, count(realized_pnl) as trades,
            count(*) filter (where realized_pnl > 0) as wins, count(*) filter (where realized_pnl < 0) as losses,
            sum(quantity) as volume, sum(round_half_even(price * quantity, 6)) as notional, sum(fees) as fees,
            sum(realized_pnl) as realized_pnl,
            sum(realized_pnl) filter (where realized_pnl > 0) as gross_profit,
            -sum(realized_pnl) filter (where realized_pnl < 0) as gross_loss
        from trades where trades.account = of.account
    ) as fills
"""
LEFT_OPEN = """
    select account, symbol from (
        select distinct on (account, symbol) account, symbol, quantity from positions
        order by account, symbol, updated_at desc
    ) as newest where quantity <> 0
"""


@pytest.fixture(scope="module")
def program() -> Path:
    return rotation.built()


@pytest.fixture(scope="module")
def recorded_bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not RECORDED.is_dir():
        pytest.skip(ABSENT)
    return rotation.unpacked(RECORDED, tmp_path_factory.mktemp("recorded") / "bars", "2025-10-05", "2025-10-14")


@contextmanager
def platform(kafka: Kafka, database: str, ring: Path) -> Iterator[ConsumerSettings]:
    """Store, aggregates and a sidecar on that ring."""
    settings = consumer_settings(kafka.bootstrap, kafka.prefix, database)
    environment = os.environ | {"SENTIO_KAFKA": settings.kafka, "SENTIO_TOPIC_PREFIX": settings.topic_prefix}
    with (
        running(Store(settings), settings),
        running(Aggregates(settings), settings),
        ring.with_name("log").open("wb") as log,
        subprocess.Popen([SENTIO, "sidecar", ring], env=environment, stdout=log, stderr=log) as sidecar,
    ):
        try:
            yield settings
        finally:
            sidecar.kill()


def by_account(database: str, query: str) -> dict[str, dict[str, Any]]:
    with psycopg.connect(database, row_factory=dict_row) as connection:
        return {row.pop("account"): row for row in connection.execute(query)}


def test_what_the_engine_says_is_what_the_tables_say(
    program: Path, kafka: Kafka, database: str, tmp_path: Path
) -> None:
    """Four days over a clock change and a weekend, through a ring too small for them."""
    ring = tmp_path / "ring"
    with platform(kafka, database, ring):
        simulated = ("--simulate", 7, "--from", "2025-10-30", "--days", 4)
        totals, errors = rotation.run(program, "--ring", ring, *simulated, "--capacity", 1024)
        assert errors == ""
        assert totals["waits"] > 0
        assert (totals["lost"], totals["refused"]) == (0, 0)
        assert len(totals["days"]) == 4
        hold_against_tables(database, totals)


def test_recorded_bars_give_the_same_figures_too(
    program: Path, recorded_bars: Path, kafka: Kafka, database: str, tmp_path: Path
) -> None:
    ring = tmp_path / "ring"
    with platform(kafka, database, ring):
        days = ("--from", "2025-10-06", "--to", "2025-10-10", "--account", "recorded")
        totals, errors = rotation.run(program, "--ring", ring, "--bars", recorded_bars, *days)
        assert (errors, totals["bad_lines"], totals["lost"]) == ("", 0, 0)
        assert [day["account"] for day in totals["days"]] == [f"recorded-2025-10-{day:02}" for day in range(6, 11)]
        hold_against_tables(database, totals)


def hold_against_tables(database: str, totals: dict[str, Any]) -> None:
    """Wait until all is in the tables; each figure of each account is then equal, statistics and sums of events."""
    expected = rotation.said(totals)
    until(lambda: by_account(database, "select 'all' as account, count(*) from signals")["all"]["count"]
          == totals["all"]["signals"])  # fmt: skip
    until(lambda: _agrees(by_account(database, EVENTS), expected, "minutes"))
    until(lambda: _agrees(by_account(database, STATISTICS), expected, "equity_close"))
    until(lambda: _agrees(by_account(database, STATISTICS), expected, "fills"))

    statistics, events = by_account(database, STATISTICS), by_account(database, EVENTS)
    for account, says in expected.items():
        assert statistics[account] == {name: says[name] for name in statistics[account]}
        assert events[account] == {name: says[name] for name in events[account]}
    assert rotation.figures(totals["all"]) == rotation.sum_of(
        {**events[account], **statistics[account]} for account in expected
    )
    assert by_account(database, LEFT_OPEN) == {}


def _agrees(tables: dict[str, dict[str, Any]], expected: dict[str, rotation.Figures], name: str) -> bool:
    return {account: row[name] for account, row in tables.items()} == {
        account: says[name] for account, says in expected.items()
    }
