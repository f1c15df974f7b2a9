"""What the watcher reads of a log that changes under it: topics, partitions and records come and go, times are impossible."""

from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic  # type: ignore[attr-defined] # theirs to give

from gateway.watch import meters
from gateway.watch.book import Figures
from gateway.watch.comparing import Side, differences
from gateway.watch.lateness import Said
from gateway.watch.meters import Beats, Throughput, TopicRate
from gateway.watch.tape import Tape
from schemas.topics import topics
from sentio import kafka as kafka_access
from sentio.cli.tailing import Tail
from sentio.config import WatchSettings
from sentio.errors import Retryable
from sentio.testing.servers import Kafka
from tests.pipeline import until
from tests.replays import Replays
from tests.samples import encoded, trade
from tests.unit.test_client import event_of

TRADES = "trades.executed"
IMPOSSIBLE_MS = -99_999_999_999_999
"""That Kafka takes it was tried with 4.1: any time of the past is one."""


@pytest.fixture
def settings(kafka: Kafka) -> WatchSettings:
    return WatchSettings(kafka=kafka.bootstrap, topic_prefix=kafka.prefix)


def name_of(settings: WatchSettings, topic: str) -> str:
    return topics()[topic].full_name(settings.topic_prefix)


def make(settings: WatchSettings, topic: str, partitions: int = 1) -> None:
    admin = AdminClient({"bootstrap.servers": settings.kafka})
    admin.create_topics([NewTopic(topic, partitions)])[topic].result(60)


def grow(settings: WatchSettings, topic: str, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": settings.kafka})
    admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(60)
    until(lambda: kafka_access.describe(settings.kafka, [topic])[topic].partitions == partitions)


def cut(settings: WatchSettings, topic: str, oldest: int) -> None:
    """The first partition begins at an offset from now on."""
    admin = AdminClient({"bootstrap.servers": settings.kafka})
    place = TopicPartition(topic, 0, oldest)
    admin.delete_records([place])[place].result(60)


def produce(settings: WatchSettings, topic: str, *values: bytes, partition: int = 0, at_ms: int = 0) -> None:
    """``at_ms`` 0: now."""
    producer = Producer({"bootstrap.servers": settings.kafka})
    for value in values:
        producer.produce(topic, value, b"key", partition=partition, timestamp=at_ms)
    assert producer.flush(60) == 0


def test_a_heartbeat_at_an_impossible_time_is_one_of_1970(settings: WatchSettings) -> None:
    beats = name_of(settings, "engine.heartbeat")
    make(settings, beats)
    produce(settings, beats, encoded(event_of("EngineHeartbeat")), at_ms=IMPOSSIBLE_MS)
    [engine] = Beats(settings).look()
    assert engine.heard_at == datetime(1970, 1, 1, tzinfo=UTC)


def test_an_impossible_time_ends_neither_tail_nor_replay(
    settings: WatchSettings, replay: Replays, capsys: pytest.CaptureFixture[str]
) -> None:
    produce(settings, replay.topic, encoded(trade()), at_ms=IMPOSSIBLE_MS)
    assert "1 records" in replay("plan", TRADES)
    replay("run", TRADES, "--into", f"file:{replay.folder / 'out.jsonl'}", "--yes")
    Tail(TRADES, since=None, offset=None, where=(), limit=None, as_json=False, follow=False).run()
    assert "00:00:00.000" in capsys.readouterr().out


def test_topics_and_partitions_that_are_made_later_are_looked_at(
    settings: WatchSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meters, "DESCRIBED_S", 0.0)
    name = name_of(settings, TRADES)
    make(settings, name)
    meter = Throughput(settings)

    def trades() -> TopicRate:
        return next(rate for rate in meter.look() if rate.topic == TRADES)

    assert (trades().dead, trades().dead_total) == (0, 0)
    make(settings, f"{name}.dead")
    produce(settings, f"{name}.dead", *[b"letter"] * 5)
    until(lambda: (trades().dead, trades().dead_total) == (5, 5))
    grow(settings, f"{name}.dead", 2)
    produce(settings, f"{name}.dead", b"letter", partition=1)
    until(lambda: (trades().dead, trades().dead_total) == (6, 6))
    cut(settings, f"{name}.dead", 4)
    until(lambda: (trades().dead, trades().dead_total) == (6, 2))


def test_a_tape_with_too_few_partitions_is_made_anew(settings: WatchSettings) -> None:
    name = name_of(settings, TRADES)
    make(settings, name)
    tape = Tape(settings, datetime.now(UTC) - timedelta(days=1), [TRADES])
    try:
        marks = {(name, 0): 0, (name, 1): 1, ("another.topic", 5): 5}
        assert tape.advance(marks, 10)  # an offset that is left of a former topic
        grow(settings, name, 2)
        with pytest.raises(Retryable, match=f"{name}.1. was made after"):
            tape.advance(marks, 10)
    finally:
        tape.close()


def test_a_tape_knows_the_newest_event_of_a_partition_which_neither_a_repeat_nor_nonsense_is(
    settings: WatchSettings,
) -> None:
    name, event = name_of(settings, TRADES), encoded(trade())
    make(settings, name)
    at_ms = int(datetime.now(UTC).timestamp() * 1_000)
    produce(settings, name, event, event, b"nonsense", at_ms=at_ms)
    tape = Tape(settings, datetime.now(UTC) - timedelta(days=1), [TRADES])
    try:
        assert tape.advance({(name, 0): 3}, 20)
        assert tape.said == {(name, 0): Said(1, datetime.fromtimestamp(at_ms / 1_000, UTC))}
    finally:
        tape.close()


def test_a_day_of_which_the_log_may_have_lost_some_is_not_taken_for_whole(
    settings: WatchSettings, replay: Replays
) -> None:
    replay.publish(6, partition=0)
    cut(settings, replay.topic, 2)
    now = datetime.now(UTC)
    tape = Tape(settings, now - timedelta(days=30), [TRADES])
    try:
        assert tape.advance({(replay.topic, 0): 6}, 20)
        assert not tape.whole
        side = Side("store", figures={"paper": Figures(fills=6)}, names=("fills",))
        assert differences(side, tape.book, heard_since=tape.since, known=(), days=None) == []
        assert timedelta(days=7) >= now - tape.since > timedelta(days=6, hours=23)
    finally:
        tape.close()
