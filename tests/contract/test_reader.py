"""What a group's loop reads, and how: alike by the client's objects on the fake and a real broker, and past them."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from consumers import queues
from consumers.polled import ClientReader, Letter, Polled, Reader
from sentio.kafka import Place
from sentio.testing.fake import FakeBroker
from tests.contract.clusters import DEADLINE_S, GROUP, HOUR_AGO_MS, Clients, Cluster, FakeCluster, RealCluster, until

# Where native code is built; tests/unit/test_codec.py says where that is.
PAST_THE_CLIENT: dict[str, Callable[[Consumer], Reader]] = {"queues": queues.QueueReader} if queues.NATIVE else {}
KINDS = {"fake": ClientReader, "objects": ClientReader} | PAST_THE_CLIENT


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cluster(kind: str, request: pytest.FixtureRequest) -> Cluster:
    return FakeCluster(FakeBroker()) if kind == "fake" else RealCluster(request.getfixturevalue("kafka"))


class Readers:
    """Makes readers of that kind; closes them before the clients."""

    def __init__(self, kind: str) -> None:
        self.of = KINDS[kind]
        self.open: list[Reader] = []

    def __call__(self, client: Consumer) -> Reader:
        self.open.append(self.of(client))
        return self.open[-1]

    def reading(self, client: Consumer, topic: str, *offsets: int) -> Reader:
        """Reads the partitions of a topic from these offsets."""
        reader = self(client)
        reader.add([(topic, partition) for partition in range(len(offsets))])
        client.assign([TopicPartition(topic, partition, offset) for partition, offset in enumerate(offsets)])
        return reader


@pytest.fixture
def readers(kind: str, clients: Clients) -> Iterator[Readers]:
    made = Readers(kind)
    yield made
    for reader in made.open:
        reader.close()


Row = tuple[str, Letter, int]


def take(reader: Reader, count: int, at_most: int = 100) -> list[Row]:
    """The next so many messages: topic, letter, time."""
    found: list[Row] = []
    until(lambda: len(found) >= count, lambda: found.extend(rows(reader.read(at_most, 0.1))))
    return found


def rows(polled: Polled) -> list[Row]:
    assert polled.errors == []
    return [
        (topic, Letter(*messages.letter(index)), time_ms)
        for topic, messages in polled.messages
        for index, time_ms in enumerate(messages.columns()[2].to_pylist())
    ]


def values(found: Sequence[Row]) -> list[bytes | None]:
    return [letter.value for _, letter, _ in found]


def test_a_message_is_whole_in_columns_and_by_itself(cluster: Cluster, clients: Clients, readers: Readers) -> None:
    topic = cluster.create_topic(2)
    headers: list[tuple[str, str | bytes | None]] = [("a", b"\x00\xff"), ("a", b"again"), ("text", "é"), ("none", None)]
    clients.producer.produce(topic, b"first", "kéy", partition=1, headers=headers, timestamp=HOUR_AGO_MS)
    clients.producer.produce(topic, None, b"key", partition=1, timestamp=HOUR_AGO_MS + 1)
    clients.producer.produce(topic, b"", partition=1, timestamp=HOUR_AGO_MS + 2)
    clients.producer.produce(topic, b"zero", b"", partition=0, timestamp=HOUR_AGO_MS + 3)
    assert clients.producer.flush(DEADLINE_S) == 0
    reader = readers.reading(clients.consumer(enable_partition_eof=False), topic, 0, 0)

    found = sorted(take(reader, 4), key=lambda row: row[2])

    assert found == [
        (
            topic,
            Letter(1, 0, "kéy".encode(), b"first", [*headers[:2], ("text", "é".encode()), ("none", None)]),
            HOUR_AGO_MS,
        ),
        (topic, Letter(1, 1, b"key", None, []), HOUR_AGO_MS + 1),
        (topic, Letter(1, 2, None, b"", []), HOUR_AGO_MS + 2),
        (topic, Letter(0, 0, b"", b"zero", []), HOUR_AGO_MS + 3),
    ]


def test_messages_know_their_spans_values_and_what_lies_behind_a_place(
    cluster: Cluster, clients: Clients, readers: Readers
) -> None:
    topic = cluster.create_topic(3)
    for partition in range(3):
        clients.send(topic, *(b"%d-%d" % (partition, number) for number in range(4)), partition=partition)
    reader = readers.reading(clients.consumer(enable_partition_eof=False), topic, 0, 1, 0)
    places: list[tuple[int, int]] = []
    behind: list[bytes | None] = []

    def turn() -> None:
        # The client may end a poll before it is full and before the time is over.
        for name, messages in reader.read(11, 0.5).messages:
            partitions, offsets, _ = (column.to_pylist() for column in messages.columns())
            here = list(zip(partitions, offsets, strict=True))
            assert (name, len(messages)) == (topic, len(here))
            assert list(messages.values()) == [b"%d-%d" % place for place in here]
            of = {partition: [offset for p, offset in here if p == partition] for partition in set(partitions)}
            assert dict(messages.spans()) == {partition: (min(found), max(found)) for partition, found in of.items()}
            assert len(messages.since({7: 0})) == 0
            assert dict(messages.since({}).spans()) == {}
            places.extend(here)
            behind.extend(messages.since({0: 2, 1: 0, 2: 9}).values())

    until(lambda: len(places) >= 11, turn)

    assert sorted(places) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2), (2, 3)]
    assert sorted(behind, key=str) == [b"0-2", b"0-3", b"1-1", b"1-2", b"1-3"]


def test_a_poll_ends_when_it_is_full_and_the_rest_comes_next(
    cluster: Cluster, clients: Clients, readers: Readers
) -> None:
    topic = cluster.create_topic()
    clients.send(topic, *(b"%d" % number for number in range(25)))
    reader = readers.reading(clients.consumer(enable_partition_eof=False), topic, 0)

    polls: list[list[Row]] = []
    until(lambda: sum(map(len, polls)) >= 25, lambda: polls.append(rows(reader.read(10, 0.5))))

    assert max(map(len, polls)) == 10
    assert values([row for poll in polls for row in poll]) == [b"%d" % number for number in range(25)]
    assert rows(reader.read(10, 0.2)) == []


def test_topics_come_apart_and_partitions_in_order(cluster: Cluster, clients: Clients, readers: Readers) -> None:
    topics = [cluster.create_topic(2), cluster.create_topic(2)]
    for number in range(40):
        clients.producer.produce(topics[number % 2], b"%d" % number, partition=number // 2 % 2)
    assert clients.producer.flush(DEADLINE_S) == 0
    client = clients.consumer(enable_partition_eof=False)
    places: list[Place] = [(topic, partition) for topic in topics for partition in (0, 1)]
    reader = readers(client)
    reader.add(places)
    client.assign([TopicPartition(*place, 0) for place in places])

    found = take(reader, 40, at_most=7)

    for topic, partition in places:
        mine = [letter for name, letter, _ in found if (name, letter.partition) == (topic, partition)]
        assert [letter.offset for letter in mine] == list(range(10))
        assert [int(letter.value or b"") % 4 for letter in mine] == [topics.index(topic) + 2 * partition] * 10


def test_paused_partition_gives_nothing_and_resumes_where_it_was(
    cluster: Cluster, clients: Clients, readers: Readers
) -> None:
    topic = cluster.create_topic()
    clients.send(topic, *(b"%d" % number for number in range(6)))
    client = clients.consumer(enable_partition_eof=False)
    reader = readers.reading(client, topic, 0)
    assert values(take(reader, 2, at_most=2)) == [b"0", b"1"]

    client.pause([TopicPartition(topic, 0)])
    assert reader.rest(0.2) == Polled([], [])
    assert reader.read(10, 0.2) == Polled([], [])
    client.resume([TopicPartition(topic, 0)])

    assert values(take(reader, 4)) == [b"2", b"3", b"4", b"5"]


@pytest.mark.parametrize("again", [0, 1, 2])
def test_partition_assigned_again_is_read_from_its_new_offset(
    cluster: Cluster, clients: Clients, readers: Readers, again: int
) -> None:
    topic = cluster.create_topic()
    clients.send(topic, b"0", b"1", b"2")
    client = clients.consumer(enable_partition_eof=False)
    reader = readers.reading(client, topic, 0)
    take(reader, 3)
    for _ in range(5):  # the client stops a partition in its own time
        partition = TopicPartition(topic, 0, again)
        client.pause([partition])
        client.incremental_unassign([partition])
        reader.add([(topic, 0)])
        client.incremental_assign([partition])
        client.resume([partition])
        assert values(take(reader, 3 - again)) == [b"0", b"1", b"2"][again:]


def test_partition_that_was_taken_away_gives_nothing_more(cluster: Cluster, clients: Clients, readers: Readers) -> None:
    topic = cluster.create_topic(2)
    clients.send(topic, b"a0", b"a1")
    client = clients.consumer(enable_partition_eof=False)
    reader = readers.reading(client, topic, 0, 0)
    take(reader, 1, at_most=1)

    client.incremental_unassign([TopicPartition(topic, 0)])
    reader.remove([(topic, 0)])
    clients.send(topic, b"a2")
    clients.send(topic, b"b0", partition=1)

    assert values(take(reader, 1)) == [b"b0"]
    assert rows(reader.read(10, 0.2)) == []


@pytest.mark.parametrize("offset", [1, 9])
def test_offset_that_is_gone_or_never_was_is_an_error_of_its_partition(
    cluster: Cluster, clients: Clients, readers: Readers, offset: int
) -> None:
    topic = cluster.create_topic(2)
    clients.send(topic, b"0", b"1", b"2", b"3")
    clients.send(topic, b"b0", partition=1)
    cluster.truncate(topic, 0, 3)
    reader = readers.reading(clients.consumer(enable_partition_eof=False), topic, offset, 0)
    found: list[tuple[Place, KafkaError]] = []
    others: list[bytes | None] = []

    def turn() -> None:
        polled = reader.read(10, 0.1)
        found.extend(polled.errors)
        others.extend(value for _, messages in polled.messages for value in messages.values())

    until(lambda: bool(found and others), turn)

    ((place, error),) = found
    assert (place, error.code(), error.fatal()) == ((topic, 0), KafkaError._AUTO_OFFSET_RESET, False)
    assert others == [b"b0"]


def test_group_gives_and_takes_partitions_while_it_reads_or_rests(
    cluster: Cluster, clients: Clients, readers: Readers
) -> None:
    topic, group = cluster.create_topic(4), cluster.new_group()
    for partition in range(4):
        clients.send(topic, b"%d" % partition, partition=partition)
    owned: set[int] = set()
    client = clients.consumer(**(GROUP | {"group_id": group}))
    reader = readers(client)

    def on_assign(given: Consumer, partitions: list[TopicPartition]) -> None:
        owned.update(each.partition for each in partitions)
        reader.add([(each.topic, each.partition) for each in partitions])
        given.incremental_assign([TopicPartition(each.topic, each.partition, 0) for each in partitions])

    def on_revoke(given: Consumer, partitions: list[TopicPartition]) -> None:
        owned.difference_update(each.partition for each in partitions)
        given.incremental_unassign(partitions)
        reader.remove([(each.topic, each.partition) for each in partitions])

    client.subscribe([topic], on_assign=on_assign, on_revoke=on_revoke, on_lost=on_revoke)
    assert sorted(values(take(reader, 4)), key=str) == [b"0", b"1", b"2", b"3"]

    other = clients.member(group, topic)

    def turn(work: Callable[[], Any]) -> Callable[[], None]:
        def both() -> None:
            work()
            other.turn()

        return both

    until(lambda: len(other.owned) == 2, turn(lambda: reader.rest(0.05)))
    other.client.close()
    until(lambda: len(owned) == 4, lambda: reader.read(10, 0.1))


@pytest.mark.parametrize("kind", PAST_THE_CLIENT)
def test_a_client_of_the_pinned_version_is_read_past_its_objects(clients: Clients) -> None:
    reader = queues.reader_of(clients.consumer())
    reader.close()
    assert isinstance(reader, queues.QueueReader)


def test_another_version_is_read_by_its_objects(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "PROVEN", "0.0.1")
    assert isinstance(queues.reader_of(clients.consumer()), ClientReader)


@pytest.mark.parametrize("kind", PAST_THE_CLIENT)
def test_a_poll_of_large_messages_ends_before_it_is_full(cluster: Cluster, clients: Clients, readers: Readers) -> None:
    topic = cluster.create_topic()
    value = bytes(900_000)
    for _ in range(8):
        clients.send(topic, *[value] * 10)
    reader = readers.reading(clients.consumer(enable_partition_eof=False), topic, 0)

    began_s = time.monotonic()
    ((_, messages),) = reader.read(20_000, DEADLINE_S).messages

    assert time.monotonic() - began_s < DEADLINE_S, "it waits for no more"
    assert len(messages) * len(value) >= 64 * 2**20


@pytest.mark.parametrize("kind", PAST_THE_CLIENT)
def test_topic_that_is_deleted_is_an_error_of_its_partitions_and_of_no_other(
    cluster: Cluster, clients: Clients, readers: Readers
) -> None:
    gone, stays = cluster.create_topic(), cluster.create_topic()
    soon = {"topic_metadata_refresh_interval_ms": 100, "topic_metadata_propagation_max_ms": 100}
    client = clients.consumer(enable_partition_eof=False, **soon)
    reader = readers(client)
    reader.add([(gone, 0), (stays, 0)])
    client.assign([TopicPartition(gone, 0, 0), TopicPartition(stays, 0, 0)])
    clients.send(gone, b"0")
    clients.send(stays, b"0")
    take(reader, 2)

    cluster.delete_topic(gone)
    errors: list[tuple[Place, KafkaError]] = []
    until(lambda: bool(errors), lambda: errors.extend(reader.read(10, 0.1).errors))
    clients.send(stays, b"1")
    values: list[bytes | None] = []
    until(
        lambda: bool(values),
        lambda: values.extend(value for _, found in reader.read(10, 0.1).messages for value in found.values()),
    )

    assert {place for place, _ in errors} == {(gone, 0)}
    assert values == [b"1"]


@pytest.mark.parametrize("kind", PAST_THE_CLIENT)
def test_closed_queues_say_so_and_what_was_read_stays(cluster: Cluster, clients: Clients, readers: Readers) -> None:
    topic = cluster.create_topic()
    clients.send(topic, b"0", b"1")
    client = clients.consumer(enable_partition_eof=False)
    reader = readers.reading(client, topic, 0)
    ((_, messages),) = reader.read(2, DEADLINE_S).messages
    reader.close()
    client.close()

    assert list(messages.values()) == [b"0", b"1"], "what was read is its own"
    reader.remove([(topic, 0)])
    reader.add([(topic, 0)])  # as a client does that is given partitions while it closes
    with pytest.raises(RuntimeError, match="closed"):
        reader.read(1, 0.1)
