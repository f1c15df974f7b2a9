"""The commands as an operator types them, against a real broker and database."""

import json
import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from consumers.consumer import Consumer
from consumers.store.store import Store
from producers.publisher import EventPublisher
from sentio.batch import Batch
from sentio.config import ConsumerSettings
from sentio.testing.servers import Kafka
from tests.data import entry, leave, signal, write_session
from tests.pipeline import consumer_settings, count, publisher_settings, rows, running, until
from tests.samples import trade


@pytest.fixture
def settings(kafka: Kafka, database: str) -> ConsumerSettings:
    return consumer_settings(kafka.bootstrap, kafka.prefix, database)


class Seen(Consumer):
    """Keeps what it is given."""

    name = "seen"
    topics = ("trades.executed",)

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def process(self, batch: Batch) -> None:
        self.batches.append(batch)


class Sentio:
    """Runs `sentio` with the settings of one test."""

    def __init__(self, settings: ConsumerSettings) -> None:
        self._environment = {
            **os.environ,
            "SENTIO_KAFKA": settings.kafka,
            "SENTIO_TOPIC_PREFIX": settings.topic_prefix,
            "SENTIO_PARTITIONS": str(settings.partitions),
            "SENTIO_DATABASE": settings.database.get_secret_value(),
        }

    def __call__(self, *arguments: str, status: int = 0, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "sentio", *arguments],
            env={**self._environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr


@pytest.fixture
def sentio(settings: ConsumerSettings) -> Sentio:
    return Sentio(settings)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_topics_are_planned_then_applied_then_as_they_should_be(kafka: Kafka, database: str) -> None:
    settings = ConsumerSettings(kafka=kafka.bootstrap, topic_prefix=kafka.prefix, database=database, partitions=2)
    sentio = Sentio(settings)
    assert f"{kafka.prefix}.trades.executed: create with 2 partitions" in sentio("topics", "plan")
    assert "16 topics changed" in sentio("topics", "apply")
    assert "all topics are as they should be" in sentio("topics", "plan")
    assert f"{kafka.prefix}.trades.executed: partitions 2 -> 3" in sentio("topics", "plan", SENTIO_PARTITIONS="3")
    sentio("topics", "apply", SENTIO_PARTITIONS="3")
    refused = sentio("topics", "plan", status=1)
    assert "can only grow: set SENTIO_PARTITIONS=3" in refused


def test_tail_shows_decoded_events_that_match(settings: ConsumerSettings, sentio: Sentio) -> None:
    with EventPublisher(publisher_settings(settings), name="engine") as publisher:
        for number in range(9):
            publisher.publish(trade(number))
    found = lines(sentio("tail", "trades.executed", "--offset", "0", "--where", "symbol=TQQQ", "--json", "--no-follow"))
    assert [event["sequence"] for event in found] == [0, 3, 6]
    assert found[0]["price"] == "109.02"
    assert found[0]["executed_at"] == "2025-10-10T13:30:00Z"
    recent = lines(sentio("tail", "trades.executed", "--from", "1h", "--json", "--no-follow"))
    assert sorted(event["sequence"] for event in recent) == list(range(9))
    assert len(sentio("tail", "trades.executed", "--from", "1h", "-n", "2").splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("tail", "nonsense"), "topic nonsense: it may be one of trades.executed"),
        (("tail", "trades.executed", "--where", "colour=red"), "--where colour=red: FIELD=VALUE with one of event_id"),
        (("tail", "trades.executed", "--from", "yesterday"), "--from yesterday: a number and s, m, h or d"),
        (("play", "--session", "/nowhere", "--speed", "fast"), "--speed fast: a number above zero, or max"),
        (
            ("run", "nothing"),
            "it may be store, aggregates, archive, stream, rest, watcher, webhooks, lag, or module:Class",
        ),
    ],
)
def test_a_wrong_argument_is_one_line_that_says_what_it_may_be(
    sentio: Sentio, arguments: tuple[str, ...], says: str
) -> None:
    said = sentio(*arguments, status=2)
    assert len(said.splitlines()) == 1
    assert says in said


def test_lag_tells_what_a_group_has_not_read_and_for_how_long(settings: ConsumerSettings, sentio: Sentio) -> None:
    def lags() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(sentio("lag", "--json"))
        return [row for row in found if row["topic"].endswith("trades.executed")]

    def publish() -> None:
        with EventPublisher(publisher_settings(settings), name="engine") as publisher:
            for number in range(6):
                publisher.publish(trade(number))

    publish()
    with running(Store(settings), settings):
        until(lambda: count(settings.database.get_secret_value(), "trades") == 6)
    assert {(row["group"], row["lag"], row["oldest_unread_s"]) for row in lags()} == {
        (f"{settings.topic_prefix}.store", 0, 0.0)
    }
    publish()
    behind = lags()
    assert sum(row["lag"] for row in behind) == 6
    assert all(0 < row["oldest_unread_s"] < 60 for row in behind if row["lag"])


def test_skip_accepts_a_named_loss_once(settings: ConsumerSettings, sentio: Sentio) -> None:
    database = settings.database.get_secret_value()
    with EventPublisher(publisher_settings(settings), name="engine") as publisher:
        publisher.publish(trade(0))
    with running(Store(settings), settings):
        until(lambda: count(database, "trades") == 1)
    with EventPublisher(publisher_settings(settings), name="engine") as publisher:
        publisher.publish(trade(0))
    [(partition,)] = rows(database, "select partition from consumer_offsets where next_offset = 1")
    arguments = ("skip", "store", "trades.executed", str(partition), "--to")
    assert "holds offsets 0 to 2" in sentio(*arguments, "5", status=2)
    assert "goes on" in sentio(*arguments, "2")
    assert rows(database, "select partition from consumer_offsets where next_offset = 2") == [(partition,)]
    assert "is there already" in sentio(*arguments, "2", status=2)
    assert "is the topic that group store knows" in sentio(*arguments[:-1], "--new-topic", status=2)


def test_skip_moves_a_group_whose_offsets_are_in_kafka(settings: ConsumerSettings, sentio: Sentio) -> None:
    with EventPublisher(publisher_settings(settings), name="engine") as publisher:
        publisher.publish(trade(0))
    seen = Seen()
    with running(seen, settings):
        until(lambda: seen.batches)
    with EventPublisher(publisher_settings(settings), name="engine") as publisher:
        publisher.publish(trade(0))
    partition = seen.batches[0].partitions.to_pylist()[0]
    assert "goes on" in sentio("skip", "seen", "trades.executed", str(partition), "--to", "2")
    assert "no earlier offset" in sentio("skip", "seen", "trades.executed", str(partition), "--to", "2", status=2)


def test_a_topic_that_is_missing_is_waited_for(kafka: Kafka, database: str) -> None:
    settings = ConsumerSettings(kafka=kafka.bootstrap, topic_prefix=kafka.prefix, database=database, partitions=1)
    seen = Seen()
    with running(seen, settings) as group:
        until(lambda: group._waiting)
        assert not group.ready
        Sentio(settings)("topics", "apply")
        until(lambda: group.ready)


def test_a_broker_that_is_gone_is_said_in_one_line(sentio: Sentio) -> None:
    said = sentio("lag", status=1, SENTIO_KAFKA="127.0.0.1:1").splitlines()[-1]
    assert "SENTIO_KAFKA" in said


def test_a_taken_port_is_named_with_its_setting(sentio: Sentio) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for name, setting in (("rest", "SENTIO_REST_PORT"), ("stream", "SENTIO_STREAM_PORT")):
            assert f"{setting}={port}: Address already in use" in sentio("run", name, status=2, **{setting: port})


def test_a_session_is_played_once_however_often_it_is_started(
    settings: ConsumerSettings, sentio: Sentio, tmp_path: Any
) -> None:
    folder = write_session(tmp_path / "2025-01-06", signals=[signal(1), signal(2)], trades=[entry(1), leave(2)])
    first = json.loads(sentio("play", "--session", str(folder)))
    again = json.loads(sentio("play", "--session", str(folder)))
    assert (first["acknowledged"], first["repeated"]) == (4, 0)
    assert (again["acknowledged"], again["repeated"]) == (0, 4)


def test_bad_lines_are_counted_when_that_is_asked_for(sentio: Sentio, tmp_path: Any) -> None:
    folder = write_session(
        tmp_path / "2025-01-06", signals=[signal(1), "{nonsense", signal(2)], trades=[entry(1), leave(2)]
    )
    assert "signals.jsonl line 2" in sentio("play", "--session", str(folder), status=1).splitlines()[-1]
    done = json.loads(sentio("play", "--session", str(folder), "--skip-bad"))
    assert done["bad_lines"] == 1
    assert done["acknowledged"] + done["repeated"] == 4


def test_schemas_are_listed_and_agree_with_the_lock(sentio: Sentio) -> None:
    assert "TradeExecuted" in sentio("schemas", "list")
    assert "agree" in sentio("schemas", "check")


def test_a_consumer_of_ones_own_is_run_by_its_name(sentio: Sentio) -> None:
    assert "module:Class" in sentio("run", "tests.samples:nothing", status=2)
