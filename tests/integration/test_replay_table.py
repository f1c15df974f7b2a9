"""Replays into live tables, on a real broker and database: what is missing is added, and nothing else happens."""

import json
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from psycopg.rows import dict_row

from consumers.archive.archive import Archive
from consumers.archive.stores import open_store
from consumers.replay.job import Counts
from consumers.replay.jobs import Jobs
from consumers.replay.table import LOCK
from consumers.shadow import Shadow, into
from consumers.store.store import Store
from gateway.newest import newest_of_each
from producers.publisher import EventPublisher
from schemas.events import PositionUpdated, PriceUpdated
from schemas.topics import topics
from sentio.cli import swapping
from sentio.config import ConsumerSettings
from tests.archives import archive_settings, ends
from tests.pipeline import consumer_settings, count, in_thread, publisher_settings, rows, running, until
from tests.replays import Replays
from tests.samples import OPENING, encoded, trade
from tests.shadows import await_read, dsn, publish, sentio

INTO = ("--into", "table:trades", "--yes")


@pytest.fixture
def settings(replay: Replays, database: str, monkeypatch: pytest.MonkeyPatch) -> ConsumerSettings:
    monkeypatch.setenv("SENTIO_DATABASE", database)
    return consumer_settings(replay.settings.kafka, replay.settings.topic_prefix, database)


def all_of(settings: ConsumerSettings, table: str = "trades") -> list[tuple[Any, ...]]:
    return rows(dsn(settings), f"select * from {table} order by event_id")


def stands(settings: ConsumerSettings) -> list[tuple[Any, ...]]:
    """Offsets and marks of every group, and who owns them."""
    return [
        *rows(dsn(settings), "select group_name, topic, partition, generation, next_offset from consumer_offsets order by 1, 2, 3"),
        *rows(dsn(settings), "select group_name, topic, partition, producer, sequence from consumer_marks order by 1, 2, 3, 4"),
    ]  # fmt: skip


def stored(settings: ConsumerSettings, number: int, table: str = "trades") -> None:
    """Have the store read all there is, which is so many rows in the end."""
    with running(Store(settings), settings):
        until(lambda: count(dsn(settings), table) == number)


def test_a_hole_is_filled_while_the_store_goes_on(replay: Replays, settings: ConsumerSettings) -> None:
    replay.publish(300)
    published = 0
    stop = threading.Event()

    def traffic() -> None:
        nonlocal published
        with EventPublisher(publisher_settings(settings), name="engine") as publisher:
            while not stop.wait(0.005):
                publisher.publish(trade(published))
                published += 1

    with running(Store(settings), settings):
        until(lambda: count(dsn(settings), "trades") == 300)
        whole = all_of(settings)
        marks = [each for each in stands(settings) if each[3] == "test@1"]
        with in_thread(traffic, stop):
            until(lambda: count(dsn(settings), "trades") > 350)
            cut = rows(
                dsn(settings),
                "delete from trades where sequence between 100 and 219 and producer = 'test@1' returning 1",
            )
            before = count(dsn(settings), "trades")
            said = replay("run", "trades.executed", *INTO, "--rate", "500")
            during = count(dsn(settings), "trades") - before - len(cut)
        until(lambda: count(dsn(settings), "trades") == 300 + published)
    assert len(cut) == 120
    assert "120 added to trades" in said
    assert during > 20, "the store did not go on meanwhile"
    assert rows(dsn(settings), "select * from trades where producer = 'test@1' order by event_id") == whole
    assert [each for each in stands(settings) if each[3] == "test@1"] == marks
    [job] = replay.jobs()
    assert job["counts"]["written"] == 120
    assert job["counts"]["present"] == job["counts"]["read"] - 120
    assert job["counts"]["read"] > 300
    assert f"{job['id']}: 120 added to trades, {job['counts']['present']} there already" in replay("status")
    assert rows(dsn(settings), "select * from replay_progress") == []


def test_one_that_is_killed_goes_on_and_counts_every_row_once(replay: Replays, settings: ConsumerSettings) -> None:
    replay.publish(1_500)
    stored(settings, 1_500)
    whole, stood = all_of(settings), stands(settings)
    rows(dsn(settings), "delete from trades where mod(sequence, 2) = 0 returning 1")
    killed = replay.killed_when_it_has_written(200, "--into", "table:trades", "--rate", "600")
    # As of a kill after the transaction and before its job's file: the transaction is what counts.
    jobs = Jobs(replay.folder / "state")
    job = jobs.get(killed)
    job.next, job.counts = {}, Counts()
    jobs.save(job)
    done = json.loads(replay("run", "--resume", killed, "--json"))
    assert (done["counts"]["read"], done["counts"]["written"], done["counts"]["present"]) == (1_500, 750, 750)
    assert all_of(settings) == whole
    assert stands(settings) == stood


def test_one_whose_database_was_restored_begins_anew(replay: Replays, settings: ConsumerSettings) -> None:
    replay.publish(1_500)
    stored(settings, 1_500)
    whole = all_of(settings)
    rows(dsn(settings), "delete from trades returning 1")
    killed = replay.killed_when_it_has_written(200, "--into", "table:trades", "--rate", "600")
    for table in ("replay_progress", "trades"):
        rows(dsn(settings), f"delete from {table} returning 1")
    done = json.loads(replay("run", "--resume", killed, "--json"))
    assert done["counts"]["written"] == 1_500
    assert all_of(settings) == whole


def test_what_the_log_has_no_more_comes_from_the_archive(
    replay: Replays, settings: ConsumerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay.publish(30)
    archived = archive_settings(settings.kafka, settings.topic_prefix, archive=str(tmp_path / "archive"), partitions=3)
    with running(Archive(archived), archived):
        until(lambda: sum(ends(open_store(archived), archived).values()) == 30)
    stored(settings, 30)
    whole = all_of(settings)
    admin = AdminClient({"bootstrap.servers": settings.kafka})
    for gone in admin.delete_records([TopicPartition(replay.topic, each, 9) for each in range(3)]).values():
        gone.result(20)
    rows(dsn(settings), "delete from trades where sequence < 20 returning 1")
    monkeypatch.setenv("SENTIO_ARCHIVE", str(tmp_path / "archive"))
    filtered = json.loads(replay("run", "trades.executed", "--from-archive", "--symbol", "TQQQ", *INTO, "--json"))
    assert (filtered["counts"]["written"], filtered["counts"]["present"]) == (7, 3)
    done = json.loads(replay("run", "trades.executed", "--from-archive", *INTO, "--json"))
    assert (done["counts"]["written"], done["counts"]["present"]) == (13, 17)
    assert all_of(settings) == whole


def test_what_the_store_has_still_to_read_is_left_to_the_store(replay: Replays, settings: ConsumerSettings) -> None:
    replay.publish(30)
    assert json.loads(replay("plan", "trades.executed", "--into", "table:trades", "--json"))["offsets"] == 0
    stored(settings, 30)
    replay.publish(60)
    assert "what the store has still to read is left" in replay("plan", "trades.executed", "--into", "table:trades")
    done = json.loads(replay("run", "trades.executed", *INTO, "--json"))
    assert (done["counts"]["read"], done["counts"]["written"]) == (30, 0)
    beyond = ("--partition", "0", "--from-offset", "15")
    assert "the log, as far as the store has read it, holds offsets 0 to 10" in replay(
        "plan", "trades.executed", "--into", "table:trades", *beyond, status=2
    )


def test_unusable_records_are_counted_and_said(replay: Replays, settings: ConsumerSettings) -> None:
    replay.publish(9)
    replay.produce(b"nonsense")
    replay.produce(encoded(trade(reason="bad\0text"), number=100))
    replay.produce(encoded(trade(account="x" * 501), number=101))
    replay.produce(encoded(trade(4), number=4))  # once more, in another partition
    with running(Store(settings), settings):
        until(
            lambda: (
                rows(dsn(settings), "select sum(next_offset) from consumer_offsets where next_offset > 0") == [(13,)]
            )
        )
    whole = all_of(settings)
    rows(dsn(settings), "delete from trades where sequence in (0, 4) returning 1")
    said = replay("run", "trades.executed", *INTO)
    assert "13 records read, 2 added to trades, 8 there already, 1 refused by it; 2 cannot be decoded" in said
    assert all_of(settings) == whole


def test_rows_that_the_table_would_drop_are_not_added(replay: Replays, settings: ConsumerSettings) -> None:
    now = datetime.now(UTC)
    ages = [timedelta(days=20), timedelta(days=13), timedelta(0)]
    publish(
        settings,
        [PriceUpdated(symbol="BONK", price=Decimal(1), source="made up", observed_at=now - age) for age in ages],
    )
    stored(settings, 3, "prices")
    rows(dsn(settings), "delete from prices returning 1")
    said = replay("run", "prices.updated", "--into", "table:prices", "--yes")
    assert "2 added to prices, 0 there already, 1 older than it keeps rows" in said
    assert count(dsn(settings), "prices") == 2


def test_the_newest_of_each_key_stays_the_newest(replay: Replays, settings: ConsumerSettings) -> None:
    def position(number: int) -> PositionUpdated:
        return PositionUpdated(
            account="paper", symbol="TQQQ", quantity=Decimal(number + 1), average_entry=Decimal(1), mark=Decimal(1),
            unrealized_pnl=Decimal(0), realized_pnl=Decimal(0), updated_at=OPENING + timedelta(seconds=number),
        )  # fmt: skip

    def newest() -> list[dict[str, Any]]:
        with psycopg.connect(dsn(settings), row_factory=dict_row) as connection:
            return newest_of_each(connection, topics()["positions.updated"], None)

    publish(settings, [position(number) for number in range(10)])
    stored(settings, 10, "positions")
    before, whole = newest(), all_of(settings, "positions")
    rows(dsn(settings), "delete from positions where quantity < 6 returning 1")
    said = replay("run", "positions.updated", "--into", "table:positions", "--yes")
    assert "5 added to positions, 5 there already" in said
    assert newest() == before
    assert [row["quantity"] for row in before] == [10]
    assert all_of(settings, "positions") == whole


@pytest.mark.parametrize(
    ("table", "topic", "says"),
    [
        ("windows", "trades.executed", "one that came again would count twice; write it anew beside the live one"),
        ("statistics", "trades.executed", "'sentio run aggregates --into shadow_NAME'"),
        ("consumer_offsets", "trades.executed", "a table of the store: trades, signals, positions"),
        ("trades", "signals.generated", "it holds trades.executed, and nothing of signals.generated"),
    ],
)
def test_other_tables_are_refused_with_what_to_do_instead(replay: Replays, table: str, topic: str, says: str) -> None:
    assert says in replay("run", topic, "--into", f"table:{table}", "--yes", status=2)
    assert replay.jobs() == []


def test_a_database_of_an_older_version_is_refused(replay: Replays, settings: ConsumerSettings) -> None:
    rows(dsn(settings), "delete from schema_migrations where name like '%%replay_progress%%' returning 1")
    assert "'sentio run store' of this version" in replay("run", "trades.executed", *INTO, status=1)


def test_no_swap_of_tables_begins_in_the_middle_of_a_replays_transaction(
    settings: ConsumerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swapping, "LOCK_TIMEOUT_S", 0.2)
    publish(settings, [trade()])
    stored(settings, 1)
    with running(into(Store, Shadow("shadow_week"))(settings), settings):
        await_read(settings, "store.shadow_week", 1)
    with psycopg.connect(dsn(settings)) as writing:
        writing.execute("select pg_advisory_xact_lock_shared(%s)", [LOCK])
        refused = sentio(settings, "swap", "shadow_week", "--yes")
    assert "somebody holds what is needed, nothing was done" in str(refused.exception)
    assert sentio(settings, "swap", "shadow_week", "--yes").exit_code == 0
