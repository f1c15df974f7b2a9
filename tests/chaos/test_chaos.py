"""The proof of exactly-once: a storm of seeded faults over 200,000 events, and afterwards every figure is right.

SENTIO_CHAOS_SEED plays a storm again, SENTIO_CHAOS_EVENTS makes it longer, SENTIO_CHAOS_RUNS gives more of them.
"""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from consumers.aggregates.aggregates import Aggregates
from consumers.store.store import Store
from schemas.topics import stored_topics, topics
from sentio import kafka
from sentio.stack.kafka import KafkaServer
from sentio.stack.postgres import PostgresServer
from tests.chaos import oracle, proof
from tests.chaos.actors import QUICK, Fleet, Publisher, wait
from tests.chaos.engine import Line
from tests.chaos.market import today
from tests.chaos.meddler import Meddler
from tests.chaos.schedule import plan
from tests.chaos.storm import Storm
from tests.chaos.witness import Witness
from tests.pipeline import consumer_settings, rows

EVENTS = int(os.environ.get("SENTIO_CHAOS_EVENTS", "200_000"))
SESSION_TIMEOUT_MS = 6_000  # the least there is: zombies are soon replaced
DRAIN_S = 150.0
TIMEOUT_S = 900 + 2 * EVENTS / QUICK

PREFIX = "chaos"
GROUPS = {"store": Store.topics, "aggregates": Aggregates.topics}
FILLS = topics()["trades.executed"].full_name(PREFIX)
NAMES = {topic.full_name(PREFIX): topic for topic in stored_topics()}

Say = Callable[[str], None]


def seeds() -> list[int]:
    """Those that were given, or fresh ones; the same in every process of a run of tests."""
    if given := os.environ.get("SENTIO_CHAOS_SEED"):
        return [int(seed) for seed in given.split(",")]
    fresh = random.Random(os.environ.get("PYTEST_XDIST_TESTRUNUID"))
    return [fresh.randrange(1_000_000) for _ in range(int(os.environ.get("SENTIO_CHAOS_RUNS", "1")))]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Prints at once, also when the test passes: a failure that hangs must have said its seed before."""

    def printed(line: str) -> None:
        with capsys.disabled():
            print(f"chaos: {line}", flush=True)

    return printed


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("seed", seeds())
def test_every_event_is_stored_and_counted_once_whatever_is_killed_frozen_or_cut(
    seed: int, own_kafka: KafkaServer, own_database: PostgresServer, tmp_path: Path, say: Say
) -> None:
    schedule = plan(seed, EVENTS)
    say(f"to play it again: SENTIO_CHAOS_SEED={seed} SENTIO_CHAOS_EVENTS={EVENTS}")
    say("; ".join(map(str, schedule)))
    bootstrap, dsn = own_kafka.address or "", own_database.address or ""
    settings = consumer_settings(bootstrap, PREFIX, dsn)
    places = [(name, partition) for name in NAMES for partition in range(settings.partitions)]
    environment = {
        "SENTIO_KAFKA": bootstrap,
        "SENTIO_TOPIC_PREFIX": PREFIX,
        "SENTIO_PARTITIONS": str(settings.partitions),
        "SENTIO_SESSION_TIMEOUT_MS": str(SESSION_TIMEOUT_MS),
    }
    witness = Witness(dsn)
    fleet = Fleet(tmp_path, environment, dsn)
    with (
        publishing(tmp_path, environment, seed) as publisher,
        engine_and_sidecar(tmp_path, environment, seed) as line,
        meddling(Meddler(bootstrap, places, NAMES, seed)) as meddler,
        ended_with_the_test(fleet),
    ):
        fleet.scale("aggregates", 2)
        storm = Storm(own_kafka, own_database, fleet, publisher, line, witness, tmp_path, seed, FILLS)
        for step in schedule:
            storm.take(step, say)
        storm.end_outages()
        storm.pace(QUICK)
        wait(lambda: storm.acknowledged >= EVENTS, storm.check, timeout_s=TIMEOUT_S)
        producer = line.close()
        publisher.close()
        meddler.close(DRAIN_S)
        ends = {place: end for place, (_, end) in kafka.spans(bootstrap, places).items()}
        wait(lambda: lag(dsn, ends) == 0, fleet.check, timeout_s=DRAIN_S)
        for member in fleet.everyone():
            member.stop()

    truth = oracle.read(bootstrap, NAMES, places)
    problems = list(proof.what_was_accepted_is_in_the_log(truth, publisher.runs))
    problems += proof.what_the_engine_published_is_in_the_log(truth, line, producer)
    problems += proof.every_poison_message_is_a_dead_letter(bootstrap, PREFIX, truth, NAMES, GROUPS)
    problems += proof.nobody_wrote_for_another(witness)
    with psycopg.connect(dsn) as connection:
        problems += proof.every_event_is_in_its_table_once(connection, truth, NAMES)
        problems += proof.every_window_equals_the_rows(connection)
        problems += proof.verify_agrees(connection, environment | {"SENTIO_DATABASE": dsn})
        problems += proof.every_group_stands_at_the_end(connection, truth, PREFIX)
    say(
        f"{len(truth.ids):,} events in {len(publisher.runs)} runs of the publisher, {line.published:,} of them by the"
        f" engine, which found its ring full {line.full:,} times, {truth.repeats:,} repeats"
        f" ({meddler.repeats:,} of them ours), {len(truth.poison):,} poison, {storm.declared_lost:,} declared lost"
    )
    assert not problems, "\n".join(problems)
    assert len(truth.ids) >= EVENTS
    assert storm.declared_lost > 0
    assert line.full > 0


@contextmanager
def publishing(folder: Path, environment: dict[str, str], seed: int) -> Iterator[Publisher]:
    publisher = Publisher(folder, environment, seed=seed, base=today())
    try:
        yield publisher
    finally:
        publisher.kill()


@contextmanager
def engine_and_sidecar(folder: Path, environment: dict[str, str], seed: int) -> Iterator[Line]:
    line = Line(folder, environment, seed=seed, base=today())
    try:
        yield line
    finally:
        line.abandon()


@contextmanager
def meddling(meddler: Meddler) -> Iterator[Meddler]:
    try:
        yield meddler
    finally:
        meddler.abandon()


@contextmanager
def ended_with_the_test(fleet: Fleet) -> Iterator[Fleet]:
    try:
        yield fleet
    finally:
        for member in fleet.everyone():
            member.kill()


def lag(dsn: str, ends: dict[kafka.Place, int]) -> int:
    """Records that some group has not read, over all partitions."""
    query = "select group_name, topic, partition, greatest(next_offset, 0) from consumer_offsets"
    stands = {(group, (topic, partition)): offset for group, topic, partition, offset in rows(dsn, query)}
    return sum(
        ends[name, partition] - stands.get((group, (name, partition)), 0)
        for group, topics in GROUPS.items()
        for name, partition in ends
        if NAMES[name].name in topics
    )
