"""The loop of every consumer group on the fake broker: partitions that are shared, fenced, moved, or cut."""

import threading
from collections.abc import Mapping, Sequence

import pytest
from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import TopicPartition

from consumers.consumer import Fenced
from consumers.deadletters import DeadLetters
from consumers.polled import Letter
from sentio.batch import Batch
from sentio.config import ConsumerSettings, load
from sentio.errors import Fatal, Poison, Retryable
from sentio.testing.fake import FakeBroker
from tests.notebook import GROUP, SETTINGS, TOPIC, Failing, Ledger, Notebook, Once, good, run_to_its_end, send
from tests.pipeline import running, until


def test_member_that_waits_still_shares_and_drops_what_it_gave_away(
    broker: FakeBroker, observer: KafkaConsumer
) -> None:
    failing = Failing()
    notebook = Notebook(failing)
    send(broker, *good(2))
    send(broker, *good(2), partition=1)

    with running(notebook, SETTINGS, connect=broker.consumer):
        until(lambda: failing.tries > 0 and set(notebook.asked[-1].ranges) == {0, 1})
        observer.subscribe([TOPIC])
        until(lambda: observer.consume(1, 0.05))
        ((_, given),) = notebook.lost
        failing.mend()
        until(lambda: notebook.done)

    kept = 1 - given
    assert notebook.offsets() == {kept: [0, 1]}
    assert all(set(batch.ranges) == {kept} for batch in notebook.done)
    assert broker.committed(GROUP) == {(TOPIC, kept): 2}


def test_fenced_partition_with_another_owner_is_dropped_until_it_is_given_anew(broker: FakeBroker) -> None:
    clients: list[KafkaConsumer] = []

    def connect(config: Mapping[str, object]) -> KafkaConsumer:
        clients.append(broker.consumer(config))
        return clients[-1]

    ledger = Ledger(Once(Fenced(gone=[(TOPIC, 0)])))
    send(broker, *good(2))
    send(broker, *good(2), partition=1)

    with running(ledger, SETTINGS, connect=connect):
        until(lambda: ledger.offsets() == {1: [0, 1]})
        send(broker, *good(1, first=2))
        send(broker, *good(1, first=2), partition=1)
        until(lambda: ledger.offsets() == {1: [0, 1, 2]})
        assert len(ledger.claims) == 1
        ledger.stands[TOPIC, 1] = 3

        broker.expel(clients[0])
        until(lambda: ledger.offsets() == {1: [0, 1, 2], 0: [0, 1, 2]})

    assert len(ledger.claims) == 2


def test_fenced_partition_that_moved_is_claimed_again_and_read_from_there(broker: FakeBroker) -> None:
    ledger = Ledger()

    def move(_: Batch) -> None:
        if not ledger.stands:
            ledger.stands[TOPIC, 0] = 2
            raise Fenced(moved=[(TOPIC, 0)])

    ledger.behave = move
    send(broker, *good(4))

    with running(ledger, SETTINGS, connect=broker.consumer) as runner:
        until(lambda: ledger.offsets().get(0, [])[-1:] == [3])
        until(lambda: runner.ready)

    assert ledger.offsets() == {0: [2, 3]}
    assert [set(claim) for claim in ledger.claims] == [{(TOPIC, 0), (TOPIC, 1)}, {(TOPIC, 0)}]


def test_lost_range_is_named_when_the_committed_offset_is_gone(broker: FakeBroker, observer: KafkaConsumer) -> None:
    send(broker, *good(4))
    observer.commit(offsets=[TopicPartition(TOPIC, 0, 1)], asynchronous=False)
    broker.truncate(TOPIC, 0, 3)
    notebook = Notebook()

    with pytest.raises(Fatal) as end:
        run_to_its_end(broker, notebook)

    assert f"{TOPIC}[0]: offsets 1 to 2 are gone" in str(end.value)
    assert str(end.value).endswith(f"sentio skip notebook {TOPIC} 0 --to 3")
    assert notebook.asked == []


def test_lost_range_is_named_when_the_log_is_cut_while_it_reads(broker: FakeBroker) -> None:
    def cut(batch: Batch) -> None:
        broker.truncate(TOPIC, 0, 3)

    send(broker, *good(4))
    one_by_one = load(ConsumerSettings, kafka="fake", topic_prefix="t", batch_records=1)

    with pytest.raises(Fatal) as end:
        run_to_its_end(broker, Notebook(cut), one_by_one)

    assert f"{TOPIC}[0]: offsets 1 to 2 are gone" in str(end.value)
    assert str(end.value).endswith(f"sentio skip notebook {TOPIC} 0 --to 3")


def test_offset_beyond_the_end_means_another_log(broker: FakeBroker, observer: KafkaConsumer) -> None:
    send(broker, *good(2))
    observer.commit(offsets=[TopicPartition(TOPIC, 0, 5)], asynchronous=False)

    with pytest.raises(Fatal, match=r"ends at 2, group t\.notebook stands at 5: another log"):
        run_to_its_end(broker, Notebook())


def test_partition_given_away_while_a_dead_letter_waits_is_not_processed_again(
    broker: FakeBroker, observer: KafkaConsumer
) -> None:
    letters = HeldLetters()
    notebook = Notebook(Once(Poison({(0, 0): "no good", (1, 0): "no good"})))
    send(broker, *good(2))
    send(broker, *good(2), partition=1)

    with running(notebook, SETTINGS, connect=broker.consumer, dead_letters=letters):
        until(lambda: letters.tries > 0)
        observer.subscribe([TOPIC])
        until(lambda: observer.consume(1, 0.05))
        ((_, given),) = notebook.lost
        letters.mend()
        until(lambda: notebook.done)

    assert all(set(batch.ranges) == {1 - given} for batch in notebook.asked[1:])


def test_poison_that_names_no_record_of_the_batch_is_the_consumers_fault(broker: FakeBroker) -> None:
    send(broker, *good(2))
    with pytest.raises(Fatal, match="poison that is not in its batch"):
        run_to_its_end(broker, Notebook(Once(Poison({(7, 99): "whose?"}))))


class HeldLetters(DeadLetters):
    """Dead letters that Kafka does not take until it is mended."""

    def __init__(self) -> None:
        super().__init__("127.0.0.1:1", GROUP)
        self.tries = 0
        self._mended = threading.Event()

    def mend(self) -> None:
        self._mended.set()

    def send(self, topic: str, letters: Sequence[tuple[Letter, str, str]]) -> None:  # noqa: ARG002 - as the real one has it
        self.tries += 1
        if not self._mended.is_set():
            raise Retryable(f"{len(letters)} dead letters not acknowledged")
