"""`sentio verify` finds whatever differs between statistics and events, and nothing else, whoever is ahead."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from typer.testing import CliRunner

from consumers.aggregates.aggregates import Aggregates
from consumers.sink import DatabaseConsumer
from consumers.store.store import Store
from schemas.topics import topic_of_event
from sentio import database as databases
from sentio.cli.main import app
from sentio.cli.recomputing import FIGURES, Difference, NotComparable, Verification
from sentio.config import ConsumerSettings, load
from sentio.errors import Fatal, Poison, SettingError
from sentio.testing.servers import fresh_database
from tests.histories import PARTITIONS, PERFORMANCE, PREFIX, TRADES, Log, Silent, batch_of, logs
from tests.naive import Numbered
from tests.samples import OPENING, minute, trade

DAY = timedelta(days=1)


class Platform:
    """Store and aggregates on one database, fed by hand."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        configured = load(ConsumerSettings, database=dsn, topic_prefix=PREFIX)
        self.store, self.aggregates = Store(configured), Aggregates(configured, Silent())
        for consumer in (self.store, self.aggregates):
            consumer.open()
        self.begin_anew()

    def begin_anew(self) -> None:
        self.sql("truncate windows, consumer_offsets, consumer_marks, trades, performance")
        names = [topic.full_name(PREFIX) for topic in (TRADES, PERFORMANCE)]
        for consumer in (self.store, self.aggregates):
            consumer.assigned({(name, partition): "id" for name in names for partition in range(PARTITIONS)})

    def feed(self, log: Log, *consumers: DatabaseConsumer) -> None:
        for (event, partition), records in log.items():
            for consumer in consumers or (self.store, self.aggregates):
                if records:
                    consumer.process(batch_of(topic_of_event(event), {partition: (0, records)}))

    def sql(self, statement: str) -> None:
        with psycopg.connect(self.dsn) as connection:
            assert connection.execute(statement).rowcount != 0

    def differences(self, wait_s: float = 0) -> list[Difference]:
        with closing(databases.connect(SecretStr(self.dsn), name="test")) as connection:
            verification = Verification(connection, PREFIX, (None, None))
            verification.begin(wait_s)
            return list(verification.differences())

    def verify(self, *arguments: str, status: int) -> str:
        """What the command says."""
        values = {"SENTIO_DATABASE": self.dsn, "SENTIO_TOPIC_PREFIX": PREFIX, "COLUMNS": "120"}
        done = CliRunner().invoke(app, ["verify", *arguments], env=values)
        if isinstance(done.exception, SettingError):  # `main` makes 2 of it
            assert status == 2
            return str(done.exception)
        assert done.exit_code == status, done.output
        return done.output

    def close(self) -> None:
        self.store.close()
        self.aggregates.close()


@pytest.fixture(scope="module")
def shared(database_server: str) -> Iterator[Platform]:
    with fresh_database(database_server) as dsn, closing(Platform(dsn)) as platform:
        yield platform


@pytest.fixture
def platform(shared: Platform) -> Platform:
    shared.begin_anew()
    return shared


def numbered(events: Sequence[Any]) -> list[Numbered]:
    return [Numbered(event, "engine@1", number) for number, event in enumerate(events)]


def week(count: int = 8) -> Log:
    """A trade and an equity a day, from Friday, 10 October 2025."""
    return {
        ("TradeExecuted", 0): numbered(
            [trade(n, pnl=str(n - 2), symbol="TQQQ", executed_at=OPENING + n * DAY) for n in range(count)]
        ),
        ("PerformanceMinute", 1): numbered([minute(n * 24 * 60, str(100_000 - n)) for n in range(count)]),
    }


@settings(max_examples=20, deadline=None)
@given(logs(), st.data())
def test_recomputed_statistics_are_the_merged_ones_until_a_figure_is_changed(
    shared: Platform, log: Log, data: st.DataObject
) -> None:
    shared.begin_anew()
    shared.feed(log)
    assert shared.differences() == []
    with psycopg.connect(shared.dsn) as connection:
        keys = connection.execute(
            "select account, strategy, symbol, kind, start_at from windows order by 1, 2, 3, 4, 5"
        )
        key = data.draw(st.sampled_from(keys.fetchall()))
        figure = data.draw(st.sampled_from(FIGURES[:14]))
        connection.execute(
            f"update windows set {figure} = coalesce({figure}, 0) + 1"
            " where (account, strategy, symbol, kind, start_at) = (%s, %s, %s, %s, %s)",
            key,
        )
    found = {each.figure: each for each in shared.differences()}
    assert {(each.account, each.strategy, each.symbol, each.kind, each.start_at) for each in found.values()} == {key}
    assert found[figure].stored == (found[figure].recomputed or 0) + 1


def test_clean_tables_are_one_line_and_no_error(platform: Platform) -> None:
    platform.feed(week())
    assert platform.verify(status=0) == "all 57 windows are as recomputed\n"


def test_every_kind_of_difference_is_named(platform: Platform) -> None:
    platform.feed(week())
    day = "kind = 'DAY' and strategy = '*' and start_at = '2025-10-14 04:00Z'"
    platform.sql(f"update windows set fees = fees + 0.01, wins = 0 where {day}")
    platform.sql(
        "delete from windows where kind = 'WEEK' and strategy = 'rotation' and symbol = '*' and start_at > '2025-10-10'"
    )
    platform.sql(
        "insert into windows (account, strategy, symbol, kind, start_at) values ('ghost', '*', '*', 'DAY', '2025-10-14 04:00Z')"
    )
    said = platform.verify("--json", status=1)
    *found, summary = [json.loads(line) for line in said.splitlines()]
    rows = {(each["account"], each["kind"], each["figure"]): each for each in found}
    fees = rows["paper", "DAY", "fees"]
    assert (fees["what"], fees["stored"], fees["recomputed"], fees["start_at"]) == (
        "differs", "0.36", "0.35", "2025-10-14T04:00:00Z",
    )  # fmt: skip
    assert {figure for account, kind, figure in rows if (account, kind) == ("paper", "DAY")} == {
        "fees",
        "wins",
        "win_rate",
        "average_win",
    }
    assert rows["paper", "WEEK", "fills"]["what"] == "missing"
    assert rows["ghost", "DAY", "fills"]["what"] == "extra"
    assert summary["differing"] == 3
    table = platform.verify(status=1)
    assert "3 windows differ, 57 are stored" in table
    assert "DAY 2025-10-14 04:00Z" in table


def test_only_windows_that_the_range_touches_are_compared_and_those_as_a_whole(platform: Platform) -> None:
    platform.feed(week())
    platform.sql("update windows set volume = 0 where kind = 'DAY' and start_at = '2025-10-14 04:00Z'")
    assert "2025-10-15 04:00Z to 2025-10-16 04:00Z" in platform.verify(
        "--from", "2025-10-15", "--to", "2025-10-15", status=0
    )
    assert "DAY 2025-10-14 04:00Z" in platform.verify("--from", "2025-10-15T03:59Z", "--to", "2025-10-15", status=1)
    platform.begin_anew()
    platform.feed(week())
    platform.sql("update windows set volume = 0 where kind = 'MONTH'")
    assert "MONTH 2025-10-01 04:00Z" in platform.verify(
        "--from", "2025-10-15T12:00Z", "--to", "2025-10-15T12:01Z", status=1
    )
    platform.verify("--from", "2025-11-01", status=0)


def test_windows_in_motion_are_left_out_and_the_others_are_not(platform: Platform) -> None:
    platform.feed(week())
    late = [Numbered(trade(90, executed_at=OPENING + 40 * DAY), "engine@1", 100)]
    platform.store.process(batch_of(TRADES, {0: (8, late)}))
    assert "12 not compared" in platform.verify("--wait", "0", status=0)
    platform.sql("update windows set fees = 0 where kind = 'MONTH' and start_at < '2025-11-01'")
    said = platform.verify("--wait", "0.5", status=1)
    assert "MONTH 2025-10-01 04:00Z" in said
    assert "2025-11" not in said
    platform.aggregates.process(batch_of(TRADES, {0: (8, late)}))
    assert {each.kind for each in platform.differences()} == {"MONTH"}


def test_what_the_store_has_yet_to_write_is_waited_for(platform: Platform) -> None:
    platform.feed(week(), platform.aggregates)
    said = platform.verify("--wait", "0.3", status=3)
    assert "store is at -1, aggregates at 8" in said
    platform.feed(week(), platform.store)
    platform.verify("--wait", "0", status=0)


def test_a_fill_that_statistics_refuse_is_left_out(platform: Platform) -> None:
    platform.feed(week())
    huge = batch_of(
        TRADES, {1: (0, [Numbered(trade(1, price=Decimal(10**10), quantity=Decimal(10**6)), "engine@2", 0)])}
    )
    platform.store.process(huge)
    with pytest.raises(Poison):
        platform.aggregates.process(huge)
    platform.aggregates.process(huge.where([False]))
    assert "1 fills too large" in platform.verify(status=0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--from", "yesterday"), "--from yesterday: a day such as"),
        (("--from", "2025-10-11", "--to", "2025-10-10"), "--from 2025-10-11 is not before --to 2025-10-10"),
    ],
)
def test_a_wrong_time_is_a_wrong_setting(platform: Platform, arguments: tuple[str, ...], said: str) -> None:
    assert said in platform.verify(*arguments, status=2)


def test_without_tables_it_says_what_makes_them(database: str) -> None:
    done = CliRunner().invoke(app, ["verify"], env={"SENTIO_DATABASE": database})
    assert isinstance(done.exception, Fatal)
    assert str(done.exception) == "the database has no tables yet; 'sentio run store' makes them"


def _looked_at(platform: Platform, events: Sequence[Any], start: int, end: int) -> int:
    """How often the tables agreed while both groups worked on these events."""

    def work(consumer: DatabaseConsumer, size: int) -> None:
        for first in range(start, end, size):
            consumer.process(batch_of(TRADES, {0: (first, events[first : min(first + size, end)])}))

    workers = [
        threading.Thread(target=work, args=(platform.store, 7)),
        threading.Thread(target=work, args=(platform.aggregates, 11)),
    ]
    for worker in workers:
        worker.start()
    looked = 0
    while any(worker.is_alive() for worker in workers):
        try:
            assert platform.differences(wait_s=0.2) == []
        except NotComparable:
            continue
        looked += 1
    for worker in workers:
        worker.join()
    return looked


def test_nothing_differs_while_both_groups_are_at_work(platform: Platform) -> None:
    events = numbered([trade(n // 5, pnl=str(n % 7 - 3)) for n in range(15_000)])
    looked = 0  # at tables that did not stand still
    for start in range(0, len(events), 1_500):
        looked += _looked_at(platform, events, start, start + 1_500)
        if looked > 1:
            break
    assert looked > 1
    assert platform.differences() == []
