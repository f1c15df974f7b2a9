"""`sentio status` and `sentio doctor` on a real broker and database: what they show is there, what is wrong is named."""

import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
from confluent_kafka import Producer
from pydantic import SecretStr
from typer.testing import CliRunner

from consumers.store.store import Store
from producers.publisher import EventPublisher
from sentio.cli.clock import kafka_ahead_s
from sentio.cli.main import app
from sentio.config import ConsumerSettings, Settings
from sentio.stack.processes import free_port
from sentio.testing.servers import Kafka
from tests.pipeline import consumer_settings, count, publisher_settings, running, until
from tests.samples import encoded, trade


@pytest.fixture
def settings(kafka: Kafka, database: str) -> ConsumerSettings:
    return consumer_settings(kafka.bootstrap, kafka.prefix, database)


NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


def asked(settings: ConsumerSettings, *arguments: str, **more: str) -> tuple[int, str]:
    """Exit status and output of a command."""
    environment: Mapping[str, str] = {
        "SENTIO_KAFKA": settings.kafka,
        "SENTIO_TOPIC_PREFIX": settings.topic_prefix,
        "SENTIO_PARTITIONS": str(settings.partitions),
        "SENTIO_DATABASE": settings.database.get_secret_value(),
    }
    done = CliRunner().invoke(app, arguments, env={**environment, **more})
    return done.exit_code, done.stdout


def examined(settings: ConsumerSettings, *, status: int, **more: str) -> dict[str, list[dict[str, Any]]]:
    """What the doctor finds, by what it looked at."""
    code, text = asked(settings, "doctor", "--json", **more)
    assert code == status, text
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in json.loads(text):
        found.setdefault(finding["what"], []).append(finding)
    return found


def seen(settings: ConsumerSettings, *, status: int = 0, **more: str) -> dict[str, Any]:
    code, text = asked(settings, "status", "--json", **more)
    assert code == status, text
    shown: dict[str, Any] = json.loads(text)
    return shown


def test_status_shows_kafka_database_topics_and_who_reads_them(settings: ConsumerSettings, database: str) -> None:
    producer = Producer({"enable.idempotence": True, "bootstrap.servers": settings.kafka})
    producer.produce(f"{settings.topic_prefix}.trades.executed", b"garbage", b"k")
    assert producer.flush(10) == 0
    with EventPublisher(publisher_settings(settings), name="engine") as publisher:
        for number in range(4):
            publisher.publish(trade(number))
    with running(Store(settings), settings):
        until(lambda: count(database, "trades") == 4)
        until(
            lambda: any(
                row["group"] == "store" and row["members"] == 1 and row["lag"] == 0 for row in seen(settings)["groups"]
            )
        )
        shown = seen(settings)
        found = examined(settings, status=0)
    assert (shown["kafka"]["topics"], shown["database"]["migrations"] > 0, shown["troubles"]) == (16, True, [])
    trades = next(topic for topic in shown["topics"] if topic["name"] == "trades.executed")
    assert (trades["end"] - trades["first"], trades["dead"]) == (5, 1)

    levels = {what: {finding["level"] for finding in each} for what, each in found.items()}
    assert levels["topics"] == levels["tables"] == levels["clocks"] == levels["kafka"] == levels["database"] == {"ok"}
    assert levels["dead letters"] == {"warn"}
    assert [finding["remedy"] for finding in found["groups"]] == ["sentio run aggregates"]


def test_what_does_not_answer_is_named_and_the_rest_is_shown(settings: ConsumerSettings) -> None:
    shown = seen(settings, status=1, SENTIO_DATABASE=NOWHERE)

    assert shown["database"] is None
    assert "Connection refused" in shown["troubles"][0]
    assert shown["kafka"]["topics"] == 16
    status, screen = asked(settings, "status", SENTIO_DATABASE=NOWHERE)
    assert (status, "does not answer" in screen, "trades.executed" in screen) == (1, True, True)


def test_kafka_that_is_gone_is_named_with_the_cause_and_what_to_do(settings: ConsumerSettings) -> None:
    gone = f"127.0.0.1:{free_port(None)}"
    shown = seen(settings, status=1, SENTIO_KAFKA=gone)
    assert shown["troubles"] == [f"kafka at {gone} (SENTIO_KAFKA) does not answer: {gone}: Connection refused"]
    status, screen = asked(settings, "status", SENTIO_KAFKA=gone)
    assert (status, "none was heard" in screen, "not known" in screen, "sentio doctor" in screen) == (
        1,
        False,
        True,
        True,
    )
    [found] = examined(settings, status=1, SENTIO_KAFKA=gone)["kafka"]
    assert found["level"] == "bad"
    assert "broker-disk-full.md" in found["remedy"]


def test_doctor_names_a_group_that_is_behind(settings: ConsumerSettings, database: str) -> None:
    with EventPublisher(publisher_settings(settings), name="engine") as publisher:
        publisher.publish(trade(0))
    with running(Store(settings), settings):
        until(lambda: count(database, "trades") == 1)
        until(lambda: any(row["lag"] == 0 for row in seen(settings)["groups"]))
    name, hours_ago = f"{settings.topic_prefix}.trades.executed", int((time.time() - 3 * 3600) * 1000)
    producer = Producer({"enable.idempotence": True, "bootstrap.servers": settings.kafka})
    for partition in range(3):
        producer.produce(name, encoded(trade(1)), b"TQQQ", partition, timestamp=hours_ago)
    assert producer.flush(10) == 0
    late = [one for one in examined(settings, status=0)["groups"] if "behind" in one["found"]]
    assert [(one["level"], one["remedy"]) for one in late] == [("warn", "docs/runbooks/consumer-stuck.md")]
    assert late[0]["found"].startswith("store is 3.0 h behind in trades.executed: ")


def test_doctor_names_what_to_do_about_topics_tables_and_settings(kafka: Kafka, database: str) -> None:
    bare = ConsumerSettings(
        kafka=kafka.bootstrap, topic_prefix=kafka.prefix, database=SecretStr(database), partitions=3
    )
    found = examined(bare, status=1, SENTIO_KAFAK="typo")
    assert found["topics"][0]["remedy"] == "sentio topics apply"
    assert "0001_foundation.sql" in found["tables"][0]["found"]
    assert (found["settings"][0]["level"], found["settings"][0]["remedy"]) == ("warn", "did you mean SENTIO_KAFKA?")

    wrong = examined(bare, status=1, SENTIO_PARTITIONS="none")
    assert "SENTIO_PARTITIONS=none" in wrong["settings"][0]["found"]
    assert "kafka" not in wrong  # nothing can be asked with settings that are wrong

    alone = examined(bare, status=1, SENTIO_DATABASE=NOWHERE)
    assert alone["database"][0]["level"] == "bad"
    assert alone["kafka"][0]["level"] == "ok"


def test_the_brokers_clock_is_read(kafka: Kafka) -> None:
    for _ in range(8):  # half of the names that it takes have a negative hash
        ahead_s = kafka_ahead_s(Settings(kafka=kafka.bootstrap))
        assert ahead_s is not None
        assert abs(ahead_s) < 1.0
