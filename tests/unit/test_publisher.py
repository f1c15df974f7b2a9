"""The publisher when its own thread is stopped by a defect: loud, and nothing is lost unsaid."""

import time
from pathlib import Path
from typing import Any
from uuid import RFC_4122, UUID

import pyarrow as pa
import pytest

from producers.publisher import EventPublisher
from schemas.codec import decode, encode_events
from schemas.events import Event
from sentio.config import PublisherSettings, load
from sentio.testing.fake import FakeBroker
from tests.pipeline import until
from tests.samples import signal, trade

TOPIC = "t.trades.executed"


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> FakeBroker:
    broker = FakeBroker()
    broker.create_topic(TOPIC, 1)
    monkeypatch.setattr("producers.sender.Producer", broker.producer)
    return broker


def publisher_at(spool: Path | None) -> EventPublisher:
    return EventPublisher(load(PublisherSettings, kafka="fake", topic_prefix="t", spool=spool), name="engine")


def break_thread(publisher: EventPublisher) -> None:
    """Let it fall over a defect in its next turn."""

    def fall() -> int:
        raise LookupError("a defect")

    publisher._sender.turn = fall  # type: ignore[method-assign] # what a defect in it would do
    until(lambda: publisher.failure)


def trades(broker: FakeBroker) -> pa.RecordBatch:
    return decode("TradeExecuted", [each.value() for each in broker.messages(TOPIC)]).records


def sequences(broker: FakeBroker) -> list[int]:
    found: list[int] = trades(broker)["sequence"].to_pylist()
    return found


def test_a_defect_is_loud_and_what_waits_goes_to_the_spool(
    broker: FakeBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publisher = publisher_at(tmp_path / "spool")
    publisher.publish(trade(0))
    assert publisher.flush() == 0
    break_thread(publisher)
    for number in range(1, 2_500):
        publisher.publish(trade(number))
    assert isinstance(publisher.failure, LookupError)
    assert publisher.flush(30) == 2_499, "it does not wait for a thread that is gone"
    counters = publisher.close()
    assert (counters.acknowledged, counters.waiting, counters.failed) == (1, 2_499, 0)
    assert "LookupError('a defect')" in "".join(capsys.readouterr())

    with publisher_at(tmp_path / "spool") as again:
        until(lambda: again.counters().spooled_bytes == 0)
    assert sequences(broker) == list(range(2_500))


def test_without_a_spool_what_a_defect_leaves_is_counted_as_lost(broker: FakeBroker) -> None:
    publisher = publisher_at(None)
    break_thread(publisher)
    for number in range(5):
        publisher.publish(trade(number))
    assert publisher.counters().waiting == 5
    counters = publisher.close()
    assert (counters.waiting, counters.failed) == (0, 5)
    assert broker.messages(TOPIC) == []


def test_an_event_on_which_the_codec_falls_costs_only_itself(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fragile(events: list[Event], **numbered: Any) -> list[bytes]:
        if any(getattr(event, "reason", None) == "cursed" for event in events):
            raise RecursionError("a defect of the codec")
        return encode_events(events, **numbered)

    monkeypatch.setattr("producers.publisher.encode_events", fragile)
    with publisher_at(None) as publisher:
        for number in range(5):
            publisher.publish(trade(number, reason="cursed" if number == 2 else "fine"))
        assert publisher.flush() == 0
        assert (publisher.counters().acknowledged, publisher.counters().failed) == (4, 1)
    assert sequences(broker) == [0, 1, 3, 4]


def test_an_event_has_the_time_of_its_publish_and_an_id_of_its_own(broker: FakeBroker) -> None:
    with publisher_at(None) as publisher:
        before_ms = time.time_ns() // 1_000_000
        for number in range(2_000):
            publisher.publish(trade(number))
        assert publisher.flush() == 0
        after_ms = time.time_ns() // 1_000_000
    ids = [UUID(bytes=each) for each in trades(broker)["event_id"].to_pylist()]
    assert len(set(ids)) == 2_000
    assert {(each.version, each.variant) for each in ids} == {(7, RFC_4122)}
    assert all(before_ms <= each.int >> 80 <= after_ms for each in ids)


def test_events_of_several_kinds_keep_their_numbers(broker: FakeBroker) -> None:
    broker.create_topic("t.signals.generated", 1)
    with publisher_at(None) as publisher:
        for number in range(300):
            publisher.publish(trade(number) if number % 3 else signal(number))
        assert publisher.flush() == 0
    assert sequences(broker) == [number for number in range(300) if number % 3]
    signals = decode("SignalGenerated", [each.value() for each in broker.messages("t.signals.generated")]).records
    assert signals["sequence"].to_pylist() == list(range(0, 300, 3))
