"""The loop of every consumer group on the fake broker: batches, dead letters, outages, the end."""

import time
from collections.abc import Mapping
from itertools import pairwise

import pytest

from consumers import deadletters, waiting
from sentio.batch import Batch
from sentio.errors import Fatal, Poison, Retryable
from sentio.kafka import Place
from sentio.testing.fake import FakeBroker
from tests.notebook import (
    GROUP,
    SETTINGS,
    TOPIC,
    Failing,
    Ledger,
    Notebook,
    Once,
    good,
    headers,
    offsets,
    run_to_its_end,
    send,
)
from tests.pipeline import running, until

# --- the straight way --------------------------------------------------------------------------------------------


def test_records_are_processed_in_order_and_offsets_committed_after(broker: FakeBroker) -> None:
    before: list[dict[Place, int]] = []
    notebook = Notebook(lambda _: before.append(broker.committed(GROUP)))
    send(broker, *good(3))
    send(broker, *good(2), partition=1)

    with running(notebook, SETTINGS, connect=broker.consumer) as runner:
        until(lambda: runner.records == 5 and len(broker.committed(GROUP)) == 2)

    assert notebook.offsets() == {0: [0, 1, 2], 1: [0, 1]}
    assert before[0] == {}
    assert broker.committed(GROUP) == {(TOPIC, 0): 3, (TOPIC, 1): 2}
    assert notebook.is_closed
    assert set(notebook.lost) == {(TOPIC, 0), (TOPIC, 1)}


def test_restarted_member_continues_where_it_committed(broker: FakeBroker) -> None:
    send(broker, *good(3))
    with running(Notebook(), SETTINGS, connect=broker.consumer):
        until(lambda: broker.committed(GROUP).get((TOPIC, 0)) == 3)
    send(broker, *good(2, first=3))

    notebook = Notebook()
    with running(notebook, SETTINGS, connect=broker.consumer):
        until(lambda: broker.committed(GROUP)[TOPIC, 0] == 5)

    assert notebook.offsets() == {0: [3, 4]}


def test_consumer_that_owns_its_offsets_is_asked_for_them_with_the_topics_id(broker: FakeBroker) -> None:
    send(broker, *good(4))
    ledger = Ledger()
    ledger.stands[TOPIC, 0] = 2

    with running(ledger, SETTINGS, connect=broker.consumer):
        until(lambda: ledger.offsets() == {0: [2, 3]})

    topic_id = broker.describe("", [TOPIC])[TOPIC].id
    assert ledger.claims == [{(TOPIC, 0): topic_id, (TOPIC, 1): topic_id}]


def test_ranges_account_for_what_lies_between_the_records(broker: FakeBroker) -> None:
    notebook = Notebook()
    send(broker, b"junk", *good(2), b"junk")

    with running(notebook, SETTINGS, connect=broker.consumer) as runner:
        until(lambda: runner.records == 4)

    spans = [batch.ranges[0] for batch in notebook.done]
    assert (spans[0].first, spans[-1].next) == (0, 4)
    assert all(before.next == after.first for before, after in pairwise(spans))


# --- bad records -------------------------------------------------------------------------------------------------


def test_poison_message_becomes_a_dead_letter_and_the_rest_is_processed(broker: FakeBroker) -> None:
    notebook = Notebook()
    send(broker, *good(2), partition=1)
    send(broker, b"\x00\x00\x00\x00\xffjunk", partition=1, key=b"TQQQ", headers=[("trace", b"\xfe")])
    send(broker, *good(1, first=2), partition=1)

    with running(notebook, SETTINGS, connect=broker.consumer):
        until(lambda: broker.committed(GROUP).get((TOPIC, 1)) == 4)

    assert notebook.offsets() == {1: [0, 1, 3]}
    (letter,) = broker.messages(f"{TOPIC}.dead")
    assert (letter.key(), letter.value()) == (b"TQQQ", b"\x00\x00\x00\x00\xffjunk")
    assert letter.headers() == [
        ("trace", b"\xfe"),
        ("source.group", b"t.notebook"),
        ("source.topic", TOPIC.encode()),
        ("source.partition", b"1"),
        ("source.offset", b"2"),
        ("error.type", b"decode"),
        ("error.message", b"unknown schema id 255"),
    ]


def test_tombstone_becomes_a_dead_letter_without_a_value(broker: FakeBroker) -> None:
    send(broker, None, key=b"TQQQ")
    with running(Notebook(), SETTINGS, connect=broker.consumer):
        until(lambda: broker.committed(GROUP).get((TOPIC, 0)) == 1)

    (letter,) = broker.messages(f"{TOPIC}.dead")
    assert (letter.key(), letter.value()) == (b"TQQQ", None)
    assert headers(letter)["error.message"] == "no value (a tombstone)"


def test_record_the_consumer_cannot_use_becomes_a_dead_letter_and_the_rest_comes_again(broker: FakeBroker) -> None:
    def behave(batch: Batch) -> None:
        if (0, 1) in batch.places():
            raise Poison({(0, 1): "no such account"})

    notebook = Notebook(behave)
    values = good(3)
    send(broker, *values, key=b"TQQQ")

    with running(notebook, SETTINGS, connect=broker.consumer):
        until(lambda: broker.committed(GROUP).get((TOPIC, 0)) == 3)

    assert notebook.offsets() == {0: [0, 2]}
    (letter,) = broker.messages(f"{TOPIC}.dead")
    assert (letter.key(), letter.value()) == (b"TQQQ", values[1])
    assert headers(letter) == {
        "source.group": GROUP,
        "source.topic": TOPIC,
        "source.partition": "0",
        "source.offset": "1",
        "error.type": "process",
        "error.message": "no such account",
    }


def test_dead_letters_that_cannot_be_sent_hold_the_batch_back(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadletters, "ACKNOWLEDGE_TIMEOUT_S", 0.01)
    broker.delete_topic(f"{TOPIC}.dead")
    notebook = Notebook()
    send(broker, b"junk", *good(1))

    with running(notebook, SETTINGS, connect=broker.consumer) as runner:
        until(lambda: runner._waiting)
        assert notebook.asked == []
        broker.create_topic(f"{TOPIC}.dead")
        until(lambda: broker.committed(GROUP).get((TOPIC, 0)) == 2)

    assert notebook.offsets() == {0: [1]}
    assert len(broker.messages(f"{TOPIC}.dead")) == 1


def test_more_than_half_poison_of_a_hundred_is_the_deployments_fault(broker: FakeBroker) -> None:
    send(broker, *good(49), *[b"junk"] * 51)

    with pytest.raises(Fatal, match=r"51 of the last 100 records cannot be used by group t\.notebook"):
        run_to_its_end(broker, Notebook())


@pytest.mark.parametrize(("usable", "junk"), [(50, 50), (0, 99)])
def test_half_poison_or_less_than_a_hundred_records_is_no_reason_to_stop(
    broker: FakeBroker, usable: int, junk: int
) -> None:
    send(broker, *good(usable), *[b"junk"] * junk)

    with running(Notebook(), SETTINGS, connect=broker.consumer):
        until(lambda: broker.committed(GROUP).get((TOPIC, 0)) == usable + junk)

    assert len(broker.messages(f"{TOPIC}.dead")) == junk


# --- outages -----------------------------------------------------------------------------------------------------


def test_same_batch_comes_again_until_the_world_is_well(broker: FakeBroker) -> None:
    failing = Failing()
    notebook = Notebook(failing)
    send(broker, *good(3))

    with running(notebook, SETTINGS, connect=broker.consumer) as runner:
        until(lambda: failing.tries >= 3)
        send(broker, *good(2, first=3))
        tries = failing.tries
        until(lambda: failing.tries >= tries + 2)
        assert not runner.ready
        assert broker.committed(GROUP) == {}
        failing.mend()
        until(lambda: broker.committed(GROUP).get((TOPIC, 0)) == 5)
        until(lambda: runner.ready)
        assert notebook.lost == [], "the membership was kept"

    assert [offsets(batch) for batch in notebook.asked[:-1]] == [{0: [0, 1, 2]}] * (failing.tries - 1)
    assert notebook.offsets() == {0: [0, 1, 2, 3, 4]}


def test_claim_is_tried_again_until_the_world_is_well(broker: FakeBroker) -> None:
    class Away(Ledger):
        tries = 0

        def assigned(self, topic_ids: Mapping[Place, str]) -> Mapping[Place, int]:
            self.tries += 1
            if self.tries < 3:
                raise Retryable("the database is away")
            return super().assigned(topic_ids)

    away = Away()
    send(broker, *good(1))

    with running(away, SETTINGS, connect=broker.consumer):
        until(lambda: away.done)

    assert away.tries == 3


def test_broker_that_was_away_is_read_on_from_where_it_was(broker: FakeBroker) -> None:
    notebook = Notebook()
    with running(notebook, SETTINGS, connect=broker.consumer) as runner:
        send(broker, *good(2))
        until(lambda: runner.records == 2)
        broker.down()
        send(broker, *good(2, first=2))
        broker.up()
        until(lambda: broker.committed(GROUP).get((TOPIC, 0)) == 4)

    assert notebook.offsets() == {0: [0, 1, 2, 3]}


def test_failing_open_is_tried_again(broker: FakeBroker) -> None:
    class Slow(Notebook):
        opened = 0

        def open(self) -> None:
            self.opened += 1
            if self.opened < 3:
                raise Retryable("the database is away")

    slow = Slow()
    send(broker, *good(1))
    with running(slow, SETTINGS, connect=broker.consumer):
        until(lambda: slow.done)

    assert slow.opened == 3


# --- the end -----------------------------------------------------------------------------------------------------


def test_stop_ends_a_wait_at_once(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "FIRST_S", 60.0)
    failing = Failing()
    notebook = Notebook(failing)
    send(broker, *good(1))

    with running(notebook, SETTINGS, connect=broker.consumer):
        until(lambda: failing.tries == 1)
        began_s = time.monotonic()

    assert time.monotonic() - began_s < 2
    assert notebook.is_closed
    assert broker.committed(GROUP) == {}


def test_stop_ends_an_idle_member_at_once(broker: FakeBroker) -> None:
    with running(Notebook(), SETTINGS, connect=broker.consumer) as runner:
        until(lambda: runner.ready)
        began_s = time.monotonic()

    assert time.monotonic() - began_s < 2


def test_fatal_error_ends_the_group_in_order(broker: FakeBroker) -> None:
    notebook = Notebook(Once(Fatal("the account is another")))
    send(broker, *good(1))

    with pytest.raises(Fatal, match="the account is another"):
        run_to_its_end(broker, notebook)

    assert notebook.is_closed
    assert set(notebook.lost) == {(TOPIC, 0), (TOPIC, 1)}
    assert broker.committed(GROUP) == {}
