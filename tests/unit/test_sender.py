"""What the sender hands to Kafka, what comes back, and the order of it all when some goes by way of the spool."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producers import sender as sender_module
from producers.sender import Counts, KafkaSender, Parcel
from producers.spool import Record, Spool
from sentio.testing.fake import FakeBroker
from tests.pipeline import until

TOPIC = "t.trades.executed"
KEYS = 5


def parcel(*numbers: int, size: int = 0) -> Parcel:
    """Fresh events with these numbers, key by key in turns."""
    values = [str(number).encode().ljust(size) for number in numbers]
    return Parcel(TOPIC, [key(number) for number in numbers], values, time.time_ns() // 1_000_000)


def record(number: int) -> Record:
    return Record(TOPIC, key(number), str(number).encode(), 1_760_000_000_000 + number)


def key(number: int) -> bytes:
    return b"key-%d" % (number % KEYS)


def numbers(messages: list[Message]) -> list[int]:
    return [int(message.value() or b"") for message in messages]


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> FakeBroker:
    broker = FakeBroker()
    broker.create_topic(TOPIC, 3)
    monkeypatch.setattr("producers.sender.Producer", broker.producer)
    monkeypatch.setattr("producers.sender.REBUILD_PAUSE_S", 0.0)
    return broker


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool", max_bytes=1 << 20)
    yield spool
    spool.close()


def turning(sender: KafkaSender, condition: Callable[[], bool]) -> Callable[[], bool]:
    def turned() -> bool:
        sender.turn()
        return condition()

    return turned


def in_order_per_key(broker: FakeBroker) -> bool:
    by_key: dict[bytes | None, list[int]] = defaultdict(list)
    for message in broker.messages(TOPIC):
        by_key[message.key()].append(int(message.value() or b""))
    return all(found == sorted(found) for found in by_key.values())


def test_once_one_record_is_spooled_all_go_through_the_spool(broker: FakeBroker, spool: Spool) -> None:
    spool.append([record(0), record(5)])
    sender = KafkaSender("fake", queue_records=100, spool=spool, durable=False)
    sender.send(parcel(10))
    until(turning(sender, lambda: spool.empty))
    sender.send(parcel(15))
    until(turning(sender, lambda: sender.counts() == Counts(2, 0, 0)))
    sender.close()
    assert numbers(broker.messages(TOPIC)) == [0, 5, 10, 15]


@pytest.mark.parametrize("spooled", [False, True])
def test_what_finds_no_room_waits_and_nothing_overtakes_it(broker: FakeBroker, spool: Spool, *, spooled: bool) -> None:
    broker.down()
    sender = KafkaSender("fake", queue_records=10, spool=spool if spooled else None, durable=False)
    sender.send(parcel(*range(7)))
    sender.send(parcel(*range(7, 14)))
    sender.send(parcel(*range(14, 20)))
    assert sender.counts().acknowledged == 0
    assert spool.empty is not spooled
    broker.up()
    until(turning(sender, lambda: sender.counts().acknowledged == 20))
    sender.close()
    assert sorted(numbers(broker.messages(TOPIC))) == list(range(20))
    assert in_order_per_key(broker)


def test_a_record_that_is_too_large_costs_only_itself(broker: FakeBroker) -> None:
    sender = KafkaSender("fake", queue_records=10, spool=None, durable=False)
    large = parcel(1, size=2_000_000)
    both = parcel(0, 2)
    sender.send(
        Parcel(
            TOPIC,
            [both.keys[0], large.keys[0], both.keys[1]],
            [both.values[0], large.values[0], both.values[1]],
            both.time_ms,
        )
    )
    until(turning(sender, lambda: sender.counts() == Counts(2, 1, 0)))
    sender.close()
    assert sorted(numbers(broker.messages(TOPIC))) == [0, 2]


def test_records_that_come_back_go_out_again_in_order_and_before_those_behind_them(broker: FakeBroker) -> None:
    broker.down()
    sender = KafkaSender("fake", queue_records=100, spool=None, durable=False)
    sender.send(parcel(*range(10)))
    sender.send(parcel(*range(10, 20)))
    give_back(sender)
    sender.turn()
    sender.send(parcel(*range(20, 30)))
    broker.up()
    until(turning(sender, lambda: sender.counts().acknowledged == 30))
    sender.close()
    assert sorted(numbers(broker.messages(TOPIC))) == list(range(30))
    assert in_order_per_key(broker)


def test_a_fresh_event_goes_in_a_batch_and_an_old_one_keeps_its_time(broker: FakeBroker) -> None:
    sender = KafkaSender("fake", queue_records=100, spool=None, durable=False)
    old = Parcel(TOPIC, [b"k"], [b"1"], 1_760_000_000_123)
    sender.send(old)
    sender.close()
    [message] = broker.messages(TOPIC)
    assert message.timestamp()[1] == 1_760_000_000_123


def test_what_is_under_way_at_the_end_is_spooled_before_what_the_spool_holds(broker: FakeBroker, spool: Spool) -> None:
    broker.down()
    sender = KafkaSender("fake", queue_records=3, spool=spool, durable=False)
    sender.send(parcel(0, 1, 2, 3, 4))
    sender.send(parcel(5))
    sender.close()
    assert [int(each.value) for _, each in spool.read(10)] == [0, 1, 2, 3, 4, 5]
    assert sender.counts().failed == 0


def test_without_a_spool_what_is_under_way_at_the_end_is_counted_as_lost(broker: FakeBroker) -> None:
    broker.down()
    sender = KafkaSender("fake", queue_records=3, spool=None, durable=False)
    sender.send(parcel(0, 1, 2, 3, 4))
    sender.close()
    assert (sender.counts().acknowledged, sender.counts().failed) == (0, 5)


def give_back(sender: KafkaSender) -> None:
    """Have librdkafka give up on all that is under way."""
    sender._producer.purge()


class Course:
    """A sender on a broker that comes and goes; each step is one thing that may happen."""

    def __init__(self, broker: FakeBroker, folder: Path, *, durable: bool) -> None:
        self.broker = broker
        self.sent = 0
        self.refused = 0
        self._folder = folder
        self._durable = durable
        self.start()

    def start(self) -> None:
        self.spool = Spool(self._folder, max_bytes=1 << 30)
        self.sender = KafkaSender("fake", queue_records=6, spool=self.spool, durable=self._durable)

    def stop(self) -> None:
        self.sender.close()
        self.spool.close()

    def send(self) -> None:
        self.sender.send(parcel(*range(self.sent, self.sent + 4)))
        self.sent += 4

    def send_too_large(self) -> None:
        self.sender.send(parcel(0, size=2_000_000))
        self.refused += 1

    def turn(self) -> None:
        self.sender.turn()

    def down(self) -> None:
        self.broker.down()

    def up(self) -> None:
        self.broker.up()

    def give_back(self) -> None:
        give_back(self.sender)
        # A real producer that gave back records of the broker's takes no others (enable.gapless.guarantee).
        self.turn()

    def restart(self) -> None:
        self.stop()
        self.start()

    def end(self) -> None:
        self.up()
        for _ in range(1_000):
            self.sender.turn()
            if self.spool.empty and not self.sender._held and not len(self.sender._producer):
                break
        self.stop()

    def read(self) -> list[int]:
        """What readers keep: a repeat is at or below the newest that they have."""
        newest: dict[bytes | None, int] = {}
        read = []
        for message in self.broker.messages(TOPIC):
            number = int(message.value() or b"")
            if number > newest.get(message.key(), -1):
                newest[message.key()] = number
                read.append(number)
        return read


STEPS = st.sampled_from(["send", "send_too_large", "turn", "down", "up", "give_back", "restart"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(steps=st.lists(STEPS, max_size=40), durable=st.booleans())
def test_in_any_course_of_events_each_arrives_once_and_in_order_per_key(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], *, durable: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        broker = FakeBroker()
        broker.create_topic(TOPIC, 3)
        patch.setattr(sender_module, "Producer", broker.producer)
        patch.setattr(sender_module, "REBUILD_PAUSE_S", 0.0)
        patch.setattr(sender_module, "DRAIN_WINDOW", 4)
        patch.setattr(sender_module, "SLICE", 3)
        course = Course(broker, tmp_path_factory.mktemp("spool"), durable=durable)
        for step in steps:
            getattr(course, step)()
        course.end()
    assert sorted(course.read()) == list(range(course.sent))
    if "restart" not in steps:
        # Else the spool's last window goes out once more.
        assert len(broker.messages(TOPIC)) == course.sent
        assert course.sender.counts() == Counts(course.sent, course.refused, 0)
