"""Replays into a topic that end in the middle, or whose records are large: they go on, and write everything once."""

import os
from dataclasses import asdict

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined] # it is theirs to give
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from consumers.replay.job import Counts, Job, Wish, make
from consumers.replay.source import Gone
from consumers.replay.topic import Topic
from sentio import kafka
from tests.replays import TRADES, Replays, whole


@pytest.fixture
def admin(replay: Replays) -> AdminClient:
    return AdminClient({"bootstrap.servers": replay.settings.kafka})


def allow(admin: AdminClient, topic: str, largest: int) -> None:
    """Have a topic take records of so many bytes."""
    entry = ConfigEntry("max.message.bytes", str(largest), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result(20)


def allowed(admin: AdminClient, topic: str) -> int:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    return int(admin.describe_configs([resource])[resource].result(20)["max.message.bytes"].value)


def same(replay: Replays, copy: str) -> bool:
    """Whether the copy has every record, once."""
    copied, written = (sorted(map(whole, replay.messages(topic)), key=repr) for topic in (copy, replay.topic))
    return copied == written


def test_one_that_cannot_write_a_record_has_every_one_when_it_goes_on(replay: Replays, admin: AdminClient) -> None:
    replay.publish(20, partition=0)
    replay.produce(os.urandom(50_000))
    copy = f"{replay.settings.topic_prefix}.copy"
    admin.create_topics([NewTopic(copy, 3, config={"max.message.bytes": "20000"})])[copy].result(60)
    said = replay("run", "trades.executed", "--into", f"topic:{copy}", "--yes", status=1)
    assert "too large" in said
    [job] = replay.jobs()
    assert job["state"] == "failed"
    assert job["offsets_done"] == len(replay.messages(copy))
    allow(admin, copy, 200_000)
    replay("run", "--resume", job["id"])
    assert same(replay, copy)
    assert replay.jobs()[0]["counts"] == asdict(Counts(read=21, written=21))


def test_a_record_as_large_as_may_be_is_written_to_a_topic_that_is_made_for_it(
    replay: Replays, admin: AdminClient
) -> None:
    copy = f"{replay.settings.topic_prefix}.copy"
    replay.produce(os.urandom(999_940))
    allow(admin, replay.topic, 30_000_000)
    producer = Producer({"bootstrap.servers": replay.settings.kafka, "message.max.bytes": 30_000_000})
    producer.produce(replay.topic, os.urandom(20_000_000), b"TQQQ", partition=0)
    assert producer.flush(60) == 0
    replay("run", "trades.executed", "--into", f"topic:{copy}", "--yes")
    assert same(replay, copy)
    assert allowed(admin, copy) > 30_000_000


@pytest.fixture
def job(replay: Replays) -> Job:
    """With three events in each of three partitions, of which nothing is written yet."""
    replay.publish(9)
    states = kafka.describe(replay.settings.kafka, [replay.topic])
    spans = {(replay.topic, partition): (0, 3) for partition in range(3)}
    wish = Wish((TRADES.name,), f"topic:{replay.settings.topic_prefix}.copy")
    return make(wish, spans, {replay.topic: states[replay.topic].id})


def opened(replay: Replays, job: Job) -> Job:
    """As a new process finds the job, that knows of it what ``job`` says."""
    target = Topic(replay.settings, job.wish.into.partition(":")[2])
    try:
        target.open(job)
    finally:
        target.close()
    return job


def test_how_far_it_is_is_said_by_the_topic_for_every_partition(replay: Replays, job: Job) -> None:
    target = Topic(replay.settings, job.wish.into.partition(":")[2])
    target.open(job)
    job.next, job.counts = {(replay.topic, 0): 2}, Counts(read=2, written=2)
    target.checkpoint(job)
    target.close()
    job.next, job.counts = {(replay.topic, partition): 3 for partition in range(3)}, Counts(read=9, written=9)
    job = opened(replay, job)
    assert job.left() == {(replay.topic, 0): (2, 3), (replay.topic, 1): (0, 3), (replay.topic, 2): (0, 3)}
    assert job.counts == Counts(read=2, written=2)


def test_one_of_which_the_topic_knows_nothing_any_more_does_not_go_on_unless_it_is_done(
    replay: Replays, job: Job
) -> None:
    job.next, job.counts = {(replay.topic, 0): 3}, Counts(read=3, written=3)
    with pytest.raises(Gone, match="begin another"):
        opened(replay, job)
    job.next = {(replay.topic, partition): 3 for partition in range(3)}
    assert opened(replay, job).left() == {}
