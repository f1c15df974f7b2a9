"""The loop of every consumer group on the fake broker: what comes again by its own redrive topic."""

from consumers.group import Group
from sentio import letters
from sentio.batch import Batch
from sentio.errors import Poison
from sentio.testing.fake import FakeBroker
from tests.notebook import SETTINGS, TOPIC, Notebook, good, headers, send
from tests.pipeline import running, until

REDRIVEN = f"{TOPIC}.redrive.notebook"


def redrive(broker: FakeBroker, *values: bytes, **more: object) -> None:
    producer = broker.producer({})
    for value in values:
        producer.produce(REDRIVEN, value, **more)  # type: ignore[arg-type] # what is given fits


def test_redrive_topic_made_while_the_group_runs_is_read_by_that_group_alone(broker: FakeBroker) -> None:
    notebook = Notebook()
    with running(notebook, SETTINGS, connect=broker.consumer) as runner:
        until(lambda: runner.ready)
        broker.create_topic(REDRIVEN)
        broker.create_topic(f"{TOPIC}.redrive.notebooks")
        redrive(broker, *good(2))
        send(broker, *good(1))
        until(lambda: runner.records == 3)

    found = {batch.redrive_topic: batch for batch in notebook.done}
    assert set(found) == {None, REDRIVEN}
    assert found[REDRIVEN].topic.name == "trades.executed"
    assert found[REDRIVEN].log_name("t") == REDRIVEN
    originals = {topic: batch.originals and batch.originals.num_rows for topic, batch in found.items()}
    assert originals == {None: None, REDRIVEN: 2}, "for their headers, which say what was redriven"
    assert broker.committed("t.notebook")[REDRIVEN, 0] == 2


def test_record_that_fails_again_is_a_letter_of_the_topic_it_was_of_at_first_and_keeps_its_count(
    broker: FakeBroker,
) -> None:
    broker.create_topic(REDRIVEN)
    first = [*letters.source("t.notebook", TOPIC, 0, 7), *letters.error("process", "no room")]
    origin = list(zip(letters.ORIGIN, (TOPIC.encode(), b"0", b"7"), strict=True))
    redrive(broker, b"junk", headers=[*first, *origin, (letters.REDRIVE_COUNT, b"1")])

    with running(Notebook(), SETTINGS, connect=broker.consumer) as runner:
        until(lambda: runner.records == 1)

    (letter,) = broker.messages(f"{TOPIC}.dead")
    assert headers(letter) == {
        "origin.topic": TOPIC,
        "origin.partition": "0",
        "origin.offset": "7",
        "redrive-count": "1",
        "source.group": "t.notebook",
        "source.topic": REDRIVEN,
        "source.partition": "0",
        "source.offset": "0",
        "error.type": "decode",
        "error.message": "not framed Avro: it does not start with byte 0 and a 4-byte schema id",
    }


def test_what_is_refused_again_does_not_stop_the_group(broker: FakeBroker) -> None:
    broker.create_topic(REDRIVEN)
    redrive(broker, *[b"junk"] * 150)

    with running(Notebook(), SETTINGS, connect=broker.consumer) as runner:
        until(lambda: runner.records == 150)

    assert len(broker.messages(f"{TOPIC}.dead")) == 150


def test_group_whose_name_no_topic_can_have_has_no_redrive_topic(broker: FakeBroker) -> None:
    class Odd(Notebook):
        name = "odd name"

    send(broker, *good(1))
    odd = Odd()
    with running(odd, SETTINGS, connect=broker.consumer) as runner:
        until(lambda: odd.done)

    assert isinstance(runner, Group)


def test_batch_says_what_of_it_became_dead_letters(broker: FakeBroker) -> None:
    def refuse(batch: Batch) -> None:
        if (0, 2) in batch.places():
            raise Poison({(0, 2): "no such account"})

    first, *rest = good(3)
    send(broker, first, b"junk", *rest)
    send(broker, first, partition=1)
    notebook = Notebook(refuse)
    with running(notebook, SETTINGS, connect=broker.consumer) as runner:
        until(lambda: runner.records == 5)

    assert notebook.offsets() == {0: [0, 3], 1: [0]}
    spans = [(partition, span) for batch in notebook.done for partition, span in batch.ranges.items()]
    assert sorted(offset for _, span in spans for offset in span.refused) == [1, 2]
    assert not any(span.refused for partition, span in spans if partition == 1)
