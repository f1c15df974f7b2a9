"""Dead letters by hand: looked at, put right, and redriven to exact figures, whoever is killed meanwhile."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer
from psycopg import Connection
from typer.testing import CliRunner

from consumers import group
from consumers.aggregates.aggregates import Aggregates
from consumers.sink import DatabaseConsumer
from consumers.store.store import Store
from producers.publisher import EventPublisher
from schemas.events import Event, TradeExecuted
from sentio import kafka as kafka_access
from sentio import letters
from sentio.batch import Batch
from sentio.cli.main import app
from sentio.config import ConsumerSettings
from sentio.errors import Poison
from sentio.testing.servers import Kafka
from tests.pipeline import consumer_settings, count, publisher_settings, rows, running, until
from tests.samples import encoded, minute, trade

TRADES = "trades.executed"


@pytest.fixture
def settings(kafka: Kafka, database: str, monkeypatch: pytest.MonkeyPatch) -> ConsumerSettings:
    monkeypatch.setattr(group, "REDRIVE_NOTICED_MS", 300)
    return consumer_settings(kafka.bootstrap, kafka.prefix, database)


@pytest.fixture
def raw(settings: ConsumerSettings) -> Producer:
    return Producer({"enable.idempotence": True, "bootstrap.servers": settings.kafka})


def environment(settings: ConsumerSettings) -> dict[str, str]:
    return {
        "SENTIO_KAFKA": settings.kafka,
        "SENTIO_TOPIC_PREFIX": settings.topic_prefix,
        "SENTIO_PARTITIONS": str(settings.partitions),
        "SENTIO_DATABASE": dsn(settings),
        "COLUMNS": "250",
    }


def dsn(settings: ConsumerSettings) -> str:
    return settings.database.get_secret_value()


def sentio(settings: ConsumerSettings, *arguments: str, fails: str | None = None) -> str:
    """What the command prints; or nothing, when it has to fail with these words."""
    done = CliRunner().invoke(app, arguments, env=environment(settings))
    if fails is not None:
        assert fails in str(done.exception)
        return ""
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def heaps(settings: ConsumerSettings, *arguments: str) -> list[dict[str, Any]]:
    """Those of this test: topics of other tests are those of bridges for all that the command knows."""
    found: list[dict[str, Any]] = json.loads(sentio(settings, "dead", "list", "--json", *arguments))
    return [heap for heap in found if heap["topic"].startswith(settings.topic_prefix)]


def publish(settings: ConsumerSettings, *events: Event) -> None:
    with EventPublisher(publisher_settings(settings), name="engine") as publisher:
        for event in events:
            publisher.publish(event)
    assert publisher.counters().acknowledged == len(events)


def next_offsets(settings: ConsumerSettings, topic: str) -> dict[str, int]:
    query = "select group_name, sum(greatest(next_offset, 0))::int from consumer_offsets where topic = %s group by 1"
    return {name: offset for name, offset in rows(dsn(settings), query, topic)}  # noqa: C416 - rows are of any length


class BadStore(Store):
    """Of a deployment that refuses every trade."""

    def write(self, connection: Connection, batch: Batch) -> None:
        refuse_trades(batch)
        super().write(connection, batch)


class BadAggregates(Aggregates):
    def write(self, connection: Connection, batch: Batch) -> None:
        refuse_trades(batch)
        super().write(connection, batch)


def refuse_trades(batch: Batch) -> None:
    if batch.topic.name == TRADES:
        raise Poison({place: f"no venue for order {place[1]}" for place in batch.places()})


@contextmanager
def process(settings: ConsumerSettings, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """``sentio run``, killed at the end."""
    started = subprocess.Popen(
        [sys.executable, "-m", "sentio", "run", name],
        env={**os.environ, **environment(settings), "SENTIO_SESSION_TIMEOUT_MS": "6000"},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def hour(first: int, trades: int) -> list[Event]:
    """Minutes of an account, and fills of which every other closes a round trip."""
    fills = [trade(n, pnl=None if n % 2 else f"{n}.25") for n in range(first, first + trades)]
    return [*fills, *(minute(n, str(100_000 + n * 7 % 31)) for n in range(first, first + 60))]


def test_hour_that_a_bad_deployment_refused_is_redriven_to_exact_figures(settings: ConsumerSettings) -> None:
    names = {name: f"{settings.topic_prefix}.{TRADES}.redrive.{name}" for name in ("store", "aggregates")}
    publish(settings, *hour(0, 45))
    bad: Sequence[DatabaseConsumer] = (BadStore(settings), BadAggregates(settings))
    with running(bad[0], settings) as store, running(bad[1], settings) as aggregates:
        until(lambda: store.records == aggregates.records == 105)
    publish(settings, *hour(60, 45))

    refused = [
        (
            heap["group"].removeprefix(settings.topic_prefix),
            heap["type"],
            heap["reason"],
            heap["count"],
            heap["redriven"],
        )
        for heap in heaps(settings, "--topic", TRADES)
    ]
    assert sorted(refused) == [(f".{name}", "process", "no venue for order #", 45, 0) for name in sorted(names)]
    assert "45 of" in sentio(settings, "dead", "redrive", "--group", "store", "--dry-run")
    assert not kafka_access.describe(settings.kafka, names.values())
    sentio(settings, "dead", "redrive", "--group", "store", fails="give --yes")

    sentio(settings, "dead", "redrive", "--reason", "no venue", "--since", "1h", "--yes")
    with psycopg.connect(dsn(settings)) as connection, process(settings, "store") as killed:
        connection.execute("lock table trades in share mode")
        waiting = "select 1 from pg_locks where relation = 'trades'::regclass and not granted"
        until(lambda: rows(dsn(settings), waiting))
        killed.kill()
    with running(Store(settings), settings), process(settings, "aggregates") as killed:
        until(lambda: next_offsets(settings, names["aggregates"]).get("aggregates"))
        killed.kill()
        with running(Aggregates(settings), settings):
            until(lambda: next_offsets(settings, names["store"]) == {"store": 45})
            until(lambda: next_offsets(settings, names["aggregates"]) == {"aggregates": 45})
            until(lambda: count(dsn(settings), "trades") == 90)
            assert "90 left out: redriven already" in sentio(settings, "dead", "redrive", "--yes")
            sentio(settings, "dead", "redrive", "--yes", "--again")
            until(lambda: next_offsets(settings, names["store"]) == {"store": 90})
            until(lambda: next_offsets(settings, names["aggregates"]) == {"aggregates": 90})
            sentio(settings, "verify", "--wait", "30")

    assert count(dsn(settings), "trades") == 90
    query = "select fills, realized_pnl from windows where kind = 'DAY' and strategy = '*'"
    pnls = [event.realized_pnl or 0 for event in [*hour(0, 45), *hour(60, 45)] if isinstance(event, TradeExecuted)]
    assert rows(dsn(settings), query) == [(90, sum(pnls))]
    assert {heap["redriven"] for heap in heaps(settings)} == {45}


def test_letter_is_shown_and_edited_as_a_new_event_that_names_the_old_one(
    settings: ConsumerSettings, raw: Producer
) -> None:
    topic = f"{settings.topic_prefix}.{TRADES}"
    raw.produce(topic, encoded(trade(1, quantity=trade(1).quantity * 0), number=1), b"SQQQ", partition=0)
    raw.produce(topic, encoded(trade(2), number=2)[:60], b"UVXY", partition=0)
    assert raw.flush(10) == 0
    with running(Store(settings), settings) as store:
        until(lambda: store.records == 2)
        shown = sentio(settings, "dead", "show", f"{TRADES}:0:0")
        assert "quantity is 0E-8, not above 0" in shown
        document = json.loads(sentio(settings, "dead", "show", f"{TRADES}.dead:0:1", "--json"))
        assert document["fields"]["symbol"] == "UVXY"
        assert "ends too early" in document["unreadable"]
        assert "price" not in document["fields"]

        edit = ("dead", "edit", f"{TRADES}:0:0")
        sentio(settings, *edit, "--set", "executed_at=2025-10-10T13:31:01Z", "--yes", fails="quantity is")
        sentio(settings, *edit, "--set", "sequence=9", "--yes", fails="FIELD=VALUE with one of account")
        sentio(settings, *edit, "--set", "quantity=12.5", "--dry-run")
        sentio(settings, *edit, "--set", "quantity=12.5", "--yes")
        until(lambda: count(dsn(settings), "trades") == 1)
        sentio(settings, *edit, "--set", "quantity=13", "--yes", fails="redriven already")
        sentio(settings, "dead", "redrive", f"{TRADES}:0:0", "--yes", "--again", fails="or edited")
        redriven = f"{topic}.redrive.store"
        until(lambda: next_offsets(settings, redriven) == {"store": 1})

    [(event_id, producer, sequence, quantity)] = rows(
        dsn(settings), "select event_id, producer, sequence, quantity from trades"
    )
    assert (producer, sequence, float(quantity)) == ("test@1", 1, 12.5)
    assert event_id.int != 1
    [first] = [message for found in kafka_access.read(settings.kafka, {(redriven, 0): (0, 1)}) for message in found]
    said = dict(first.headers() or ())
    assert (said["edited-from"], said["redrive-count"], first.key()) == (
        b"00000000-0000-0000-0000-000000000001",
        b"1",
        b"SQQQ",
    )


def test_record_that_is_refused_each_time_goes_round_no_more_often_than_the_setting_says(
    settings: ConsumerSettings, raw: Producer
) -> None:
    topic = f"{settings.topic_prefix}.{TRADES}"
    raw.produce(topic, b"junk", partition=1)
    assert raw.flush(10) == 0
    with running(Store(settings), settings) as store:
        until(lambda: store.records == 1)
        for turn in range(1, 4):
            sentio(settings, "dead", "redrive", f"{TRADES}:1:0", "--yes")
            until(lambda: store.records == 1 + turn)  # noqa: B023 - called here
        sentio(settings, "dead", "redrive", f"{TRADES}:1:0", "--yes", fails="SENTIO_REDRIVE_MOST=3")

    document = json.loads(sentio(settings, "dead", "show", f"{TRADES}:1:0", "--json"))
    assert (document["origin"], document["source"]) == ([topic, 1, 0], [f"{topic}.redrive.store", 0, 2])
    assert document["redriven"] == 3
    assert [(heap["count"], heap["redriven"]) for heap in heaps(settings)] == [(4, 3)]


def test_letter_of_a_record_that_was_taken_from_the_log_is_left_out(settings: ConsumerSettings, raw: Producer) -> None:
    """As of a process that was killed between its letter and its batch, and of one that could read the record then."""
    topic = f"{settings.topic_prefix}.{TRADES}"
    for number in range(2):
        raw.produce(topic, encoded(trade(number), number=number), partition=0)
    raw.produce(topic, encoded(trade(2), number=2)[:60], partition=0)
    said = letters.source(f"{settings.topic_prefix}.aggregates", topic, 0, 1) + letters.error("decode", "what is this")
    raw.produce(f"{topic}.dead", encoded(trade(1), number=1), headers=said)
    assert raw.flush(10) == 0
    with running(Aggregates(settings), settings) as aggregates:
        until(lambda: aggregates.records == 3)
        assert rows(dsn(settings), "select record_offset from consumer_refused") == [(2,)]
        sentio(settings, "dead", "redrive", f"{TRADES}:0:1", "--yes")
        until(lambda: next_offsets(settings, f"{topic}.redrive.aggregates") == {"aggregates": 1})
    assert rows(dsn(settings), "select fills from windows where kind = 'DAY' and strategy = '*'") == [(2,)]
    assert len(heaps(settings)) == 2, "it is no letter again"


def test_letters_that_no_group_can_take_are_listed_and_the_reason_said(
    settings: ConsumerSettings, raw: Producer
) -> None:
    prefix = settings.topic_prefix
    prices, trades = f"{prefix}.prices.updated.dead", f"{prefix}.{TRADES}.dead"
    raw.produce(
        prices, b'{"a": 1}', headers=[(letters.SOURCE_WEBHOOK, b"helius"), *letters.error("Unusable", "no mint")]
    )
    bridge = letters.source(f"{prefix}.bridge.old", f"{prefix}.engine.fills", 0, 4)
    raw.produce(trades, b"[1]", headers=[*bridge, *letters.error("bridge", "is no object")])
    large = letters.source(f"{prefix}.store", f"{prefix}.{TRADES}", 2, 7)
    raw.produce(trades, None, headers=[*large, *letters.error("decode", "too long"), letters.dropped(5_000)])
    kept = letters.source(f"{prefix}.store", f"{prefix}.{TRADES}", 0, 0)
    raw.produce(trades, None, headers=[*kept, *letters.error("decode", "too long"), letters.dropped(5_000)])
    raw.produce(trades, b"whose", headers=[(letters.SOURCE_OFFSET, b"-1"), ("", b"\xff")])
    raw.produce(f"{prefix}.{TRADES}", encoded(trade(1)), partition=0)
    assert raw.flush(10) == 0

    assert sum(heap["count"] for heap in heaps(settings)) == 5
    assert "as text" in sentio(settings, "dead", "show", "prices.updated.dead:0:0")
    said = sentio(settings, "dead", "redrive", "--dry-run")
    assert f"1 of {prefix}.{TRADES} to {prefix}.store" in said
    for words in ("came by a webhook", "a bridge refused it", "its topic has it no longer", "do not say which group"):
        assert words in said
    with running(Store(settings), settings) as store:
        sentio(settings, "dead", "redrive", "--yes")
        until(lambda: store.records == 2)
    assert count(dsn(settings), "trades") == 1, "the same row, and what was fetched from the log"
