"""Groups as their members see them: offsets that outlive a member, and partitions that move."""

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from tests.contract.clusters import MISSED_SOON, Clients, Cluster, Member, until

PARTITIONS = 4


def turn(*members: Member) -> None:
    for member in members:
        member.turn()


def test_committed_offsets_come_back_after_a_restart(cluster: Cluster, clients: Clients) -> None:
    topic, group = cluster.create_topic(2), cluster.new_group()
    clients.send(topic, b"0", b"1", b"2")
    first = clients.member(group, topic)
    until(lambda: len(first.read) == 3, first.turn)
    first.client.commit(offsets=[TopicPartition(topic, 0, 2)], asynchronous=False)
    first.client.close()

    second = clients.member(group, topic)
    until(lambda: bool(second.read), second.turn)

    assert second.values() == [b"2"]
    found = second.client.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)], timeout=10)
    assert [(each.partition, each.offset) for each in found] == [(0, 2), (1, -1001)]


def test_another_group_has_offsets_of_its_own(cluster: Cluster, clients: Clients) -> None:
    topic = cluster.create_topic()
    clients.send(topic, b"0")
    first = clients.member(cluster.new_group(), topic)
    until(lambda: bool(first.read), first.turn)
    first.client.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)

    second = clients.member(cluster.new_group(), topic)
    until(lambda: bool(second.read), second.turn)

    assert second.values() == [b"0"]


def test_two_members_share_the_partitions(cluster: Cluster, clients: Clients) -> None:
    topic, group = cluster.create_topic(PARTITIONS), cluster.new_group()
    first = clients.member(group, topic)
    until(lambda: len(first.owned) == PARTITIONS, first.turn)

    second = clients.member(group, topic)
    until(lambda: len(second.owned) == PARTITIONS // 2, lambda: turn(first, second))

    assert first.owned | second.owned == set(range(PARTITIONS))
    assert first.lost == second.owned, "cooperative: it gives back only what moves"
    for partition in range(PARTITIONS):
        clients.send(topic, str(partition).encode(), partition=partition)
    until(lambda: len(first.read) + len(second.read) == PARTITIONS, lambda: turn(first, second))
    assert {message.partition() for message in first.read} == first.owned


def test_member_that_gets_nothing_hears_so(cluster: Cluster, clients: Clients) -> None:
    topic, group = cluster.create_topic(1), cluster.new_group()
    first = clients.member(group, topic)
    until(lambda: len(first.owned) == 1, first.turn)
    second = clients.member(group, topic)

    until(lambda: bool(second.assignments), lambda: turn(first, second))

    assert second.assignments[0] == 0
    assert first.lost == set()


def test_topic_made_later_comes_to_a_member_that_is_subscribed_to_its_pattern(
    cluster: Cluster, clients: Clients
) -> None:
    topic = cluster.create_topic()
    pattern = f"^{topic.replace('.', '[.]')}[.]redrive[.]store$"
    member = clients.member(cluster.new_group(), topic, pattern, topic_metadata_refresh_interval_ms=200)
    until(lambda: bool(member.owned), member.turn)

    for name in ("store2", "xstore", "store"):
        cluster.create_topic(name=f"{topic}.redrive.{name}")
    until(lambda: len(member.assignments) > 1, member.turn)
    for name in ("store2", "xstore", "store"):
        clients.send(f"{topic}.redrive.{name}", name.encode())
    clients.send(topic, b"itself")
    until(lambda: len(member.read) > 1, member.turn)

    assert sorted(message.value() or b"" for message in member.read) == [b"itself", b"store"]


def test_survivors_take_over_and_keep_reading_their_own(cluster: Cluster, clients: Clients) -> None:
    topic, group = cluster.create_topic(PARTITIONS), cluster.new_group()
    members = [clients.member(group, topic) for _ in range(3)]
    until(lambda: sorted(len(member.owned) for member in members) == [1, 1, 2], lambda: turn(*members))
    for partition in range(PARTITIONS):
        clients.send(topic, b"before", partition=partition)
    until(lambda: sum(len(member.read) for member in members) == PARTITIONS, lambda: turn(*members))
    for member in members:
        done = [TopicPartition(topic, partition, 1) for partition in member.owned]
        member.client.commit(offsets=done, asynchronous=False)
        member.lost.clear()
    leaving, *staying = members
    gone, own = leaving.owned.copy(), [member.owned.copy() for member in staying]

    leaving.client.close()
    assert leaving.lost == gone
    for partition in range(PARTITIONS):
        clients.send(topic, b"after", partition=partition)
    until(lambda: sum(len(member.read) for member in staying) == 2 * PARTITIONS - len(gone), lambda: turn(*staying))

    for member, before in zip(staying, own, strict=True):
        assert member.lost == set(), "cooperative: who stays gives nothing back"
        assert all(member.values(partition) == [b"before", b"after"] for partition in before)
        assert all(member.values(partition) == [b"after"] for partition in member.owned - before)
    assert set.union(*(member.owned for member in staying)) == set(range(PARTITIONS))


def test_member_of_a_group_stands_where_it_committed_even_without_callbacks(cluster: Cluster, clients: Clients) -> None:
    topic, group = cluster.create_topic(), cluster.new_group()
    clients.send(topic, b"0", b"1")
    before = clients.member(group, topic)
    until(lambda: bool(before.owned), before.turn)
    before.client.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
    before.client.close()

    consumer = clients.consumer(group_id=group, partition_assignment_strategy="cooperative-sticky")
    consumer.subscribe([topic])
    found: list[Message] = []
    until(lambda: bool(found), lambda: found.extend(consumer.consume(1, 0.1)))

    assert [message.value() for message in found] == [b"1"]


def test_silent_member_loses_its_partitions_and_hears_of_it_when_it_comes_back(
    cluster: Cluster, clients: Clients
) -> None:
    topic, group = cluster.create_topic(2), cluster.new_group()
    silent = clients.member(group, topic, **MISSED_SOON)
    until(lambda: len(silent.owned) == 2, silent.turn)
    other = clients.member(group, topic)
    until(lambda: len(silent.owned) == len(other.owned) == 1, lambda: turn(silent, other))
    had = silent.owned.copy()

    cluster.miss(silent)
    until(lambda: len(other.owned) == 2, other.turn)
    assert silent.owned == had
    with pytest.raises(KafkaException) as zombie:
        silent.client.commit(offsets=[TopicPartition(topic, min(had), 1)], asynchronous=False)
    assert zombie.value.args[0].code() in {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION}

    until(lambda: silent.losses > 0, lambda: turn(silent, other))
    assert silent.lost >= had
    until(lambda: len(silent.owned) == len(other.owned) == 1, lambda: turn(silent, other))


def test_closed_consumer_says_so(cluster: Cluster, clients: Clients) -> None:
    consumer = clients.consumer()
    consumer.close()
    with pytest.raises(RuntimeError, match="closed"):
        consumer.consume(1, 0)
