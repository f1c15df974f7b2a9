"""The publisher when its own thread is stopped by a defect: loud, and nothing is lost unsaid."""

from pathlib import Path

import pyarrow as pa
import pytest

from producers.publisher import EventPublisher
from schemas.codec import decode, encode
from sentio.config import PublisherSettings, load
from sentio.testing.fake import FakeBroker
from tests.pipeline import until
from tests.samples import trade

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


def sequences(broker: FakeBroker) -> list[int]:
    found: list[int] = (
        decode("TradeExecuted", [each.value() for each in broker.messages(TOPIC)]).records["sequence"].to_pylist()
    )
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
    def fragile(event: str, records: pa.RecordBatch) -> list[bytes]:
        if "cursed" in records["reason"].to_pylist():
            raise RecursionError("a defect of the codec")
        return encode(event, records)

    monkeypatch.setattr("producers.publisher.encode", fragile)
    with publisher_at(None) as publisher:
        for number in range(5):
            publisher.publish(trade(number, reason="cursed" if number == 2 else "fine"))
        assert publisher.flush() == 0
        assert (publisher.counters().acknowledged, publisher.counters().failed) == (4, 1)
    assert sequences(broker) == [0, 1, 3, 4]
