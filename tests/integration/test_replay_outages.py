"""Replays whose Kafka or database goes away in the middle: they wait, go on by themselves, and write everything once."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg
import pytest
from confluent_kafka import Consumer
from psycopg import sql

from consumers.replay import topic
from consumers.replay.job import Job, Spans, Wish, make
from consumers.replay.jobs import Jobs
from consumers.replay.run import Replay
from consumers.replay.selection import Selection
from consumers.replay.source import Found, KafkaLog
from consumers.replay.targets import Stdout
from consumers.store.store import Store
from sentio import kafka as kafka_access
from sentio.errors import Retryable
from sentio.stack.kafka import KafkaServer
from tests.pipeline import consumer_settings, count, rows, running, until
from tests.replays import TRADES, Replays, sequences, whole

WAITING = "waiting, will try again"


def said(replay: Replays) -> str:
    return (replay.folder / "said").read_text()


@contextmanager
def interrupted(replay: Replays, away: Callable[[], object], *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A replay that has written some, and of which something then went away."""
    with replay.begun(*arguments, "--rate", "300") as process:
        until(lambda: any(job["counts"]["written"] >= 100 for job in replay.jobs()))
        away()
        yield process


def ended(process: "subprocess.Popen[bytes]", replay: Replays) -> None:
    assert process.wait(120) == 0, said(replay)
    [job] = replay.jobs()
    assert job["state"] == "complete"
    assert job["counts"] == job["counts"] | {"read": 1_000, "written": 1_000}
    assert job["cause"] is None


def test_kafka_is_waited_for_and_a_topic_gets_every_record_once(own_replay: Replays, own_kafka: KafkaServer) -> None:
    replay = own_replay
    replay.publish(1_000)
    copy = f"{replay.settings.topic_prefix}.copy"
    with interrupted(replay, own_kafka.kill, "--into", f"topic:{copy}") as process:
        until(lambda: WAITING in said(replay), timeout_s=100)
        [job] = json.loads(replay("status", "--json"))
        assert job["state"] == "running"
        assert "SENTIO_KAFKA" in job["cause"]
        own_kafka.start()
        ended(process, replay)
    assert sorted(map(whole, replay.messages(copy)), key=repr) == sorted(
        map(whole, replay.messages(replay.topic)), key=repr
    )
    assert said(replay).count(WAITING) == 1
    assert "going on" in said(replay)


def test_kafka_is_waited_for_and_a_file_gets_every_record_once(own_replay: Replays, own_kafka: KafkaServer) -> None:
    own_replay.publish(1_000)
    out = own_replay.folder / "out"
    with interrupted(own_replay, own_kafka.kill, "--into", f"file:{out}") as process:
        until(lambda: "kafka is not answering" in said(own_replay))
        own_kafka.start()
        ended(process, own_replay)
    assert sequences(out) == list(range(1_000))


def test_one_that_waits_ends_when_it_is_asked_to_and_can_be_cancelled(
    own_replay: Replays, own_kafka: KafkaServer
) -> None:
    replay = own_replay
    replay.publish(1_000)
    into = ("--into", f"topic:{replay.settings.topic_prefix}.copy")
    with interrupted(replay, own_kafka.kill, *into) as process:
        until(lambda: WAITING in said(replay), timeout_s=100)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 1
    [job] = replay.jobs()
    assert f"to go on: sentio replay run --resume {job['id']}" in said(replay)
    with replay.again(job["id"]) as process:
        until(lambda: WAITING in said(replay), timeout_s=100)
        assert "told to stop" in replay("cancel", job["id"])
        assert process.wait(30) == 1
    assert f"replay {job['id']} was cancelled" in said(replay)
    assert [job["state"] for job in replay.jobs()] == ["cancelled"]


def test_the_database_is_waited_for_and_a_table_gets_every_row_once(
    replay: Replays, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENTIO_DATABASE", database)
    settings = consumer_settings(replay.settings.kafka, replay.settings.topic_prefix, database)
    replay.publish(1_000)
    with running(Store(settings), settings):
        until(lambda: count(database, "trades") == 1_000)
    stored = rows(database, "select * from trades order by event_id")
    rows(database, "delete from trades returning 1")
    name = sql.Identifier(urlsplit(database).path[1:])
    server = urlsplit(database)._replace(path="/postgres").geturl()
    with psycopg.connect(server, autocommit=True) as connection:

        def away() -> None:
            connection.execute(sql.SQL("alter database {} allow_connections false").format(name))
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'sentio-replay'"
            )

        with interrupted(replay, away, "--into", "table:trades") as process:
            until(lambda: WAITING in said(replay), timeout_s=100)
            connection.execute(sql.SQL("alter database {} allow_connections true").format(name))
            ended(process, replay)
    assert rows(database, "select * from trades order by event_id") == stored


def test_a_transaction_that_the_broker_ended_since_it_took_too_long_is_begun_anew(
    replay: Replays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic, "TRANSACTION_S", 1.0)
    replay.publish(9)
    copy = f"{replay.settings.topic_prefix}.copy"
    spans = {(replay.topic, partition): (0, 3) for partition in range(3)}
    job = make(Wish((TRADES.name,), f"topic:{copy}"), spans, {replay.topic: ""})
    selection = Selection([TRADES], replay.settings.topic_prefix, where=(), headers=(), decodes=False)
    target = topic.Topic(replay.settings, copy)

    def write() -> Job:
        for found in KafkaLog(replay.settings.kafka).read(spans):
            for part in found.parts:
                job.counts.written += target.write(selection.choose(part))
                job.next |= part.reached
        return job

    def is_ended() -> bool:
        reader = Consumer(kafka_access.reader(replay.settings.kafka))
        stable = kafka_access.ends(reader, [(copy, 0)])[copy, 0][1]
        reader.close()
        return stable > 0

    try:
        target.open(job)
        write()
        until(is_ended)
        with pytest.raises(Retryable):
            target.checkpoint(job)
        target.close()
        job.next, job.counts.written = {}, 0
        target.open(job)
        target.checkpoint(write())
    finally:
        target.close()
    assert sorted(map(whole, replay.messages(copy)), key=repr) == sorted(
        map(whole, replay.messages(replay.topic)), key=repr
    )


class Away(KafkaLog):
    """A log that does not answer behind its first messages."""

    def read(self, spans: Spans) -> Iterator[Found]:
        for found in super().read(spans):
            yield found
            if found.parts:
                raise Retryable("made up")


def test_what_was_printed_before_the_log_went_away_is_not_printed_again(
    replay: Replays, capsys: pytest.CaptureFixture[str]
) -> None:
    replay.publish(9)
    spans = {(replay.topic, partition): (0, 3) for partition in range(3)}
    job = make(Wish((TRADES.name,), "stdout"), spans, {replay.topic: ""})
    jobs = Jobs(replay.folder / "state")
    jobs.save(job)
    selection = Selection([TRADES], replay.settings.topic_prefix, where=(), headers=(), decodes=True)
    Replay(job, jobs, Stdout()).run(lambda: Away(replay.settings.kafka, at_most=2), selection)
    printed = [json.loads(line)["sequence"] for line in capsys.readouterr().out.splitlines()]
    assert sorted(printed) == list(range(9))
    assert job.counts.written == 9
