"""The order of what reaches Kafka when some of it went by way of the spool."""

from pathlib import Path

import pytest

from producers.sender import KafkaSender
from producers.spool import Record, Spool
from sentio.testing.fake import FakeBroker
from tests.pipeline import until


def record(number: int) -> Record:
    return Record("t.trades.executed", b"TQQQ", str(number).encode(), 1_760_000_000_000 + number)


def test_once_one_record_is_spooled_all_go_through_the_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = FakeBroker()
    broker.create_topic("t.trades.executed", 1)
    monkeypatch.setattr("producers.sender.Producer", broker.producer)
    spool = Spool(tmp_path / "spool", max_bytes=1 << 20)
    spool.append([record(1), record(2)])
    sender = KafkaSender("fake", queue_records=100, spool=spool, durable=False)

    def turned() -> bool:
        sender.turn(0)
        return spool.empty

    sender.send([record(3)])
    until(turned)
    sender.send([record(4)])
    sender.turn(0)
    until(lambda: turned() and len(broker.messages("t.trades.executed")) == 4)
    sender.close()
    spool.close()
    assert [message.value() for message in broker.messages("t.trades.executed")] == [b"1", b"2", b"3", b"4"]
