"""The loop of a consumer group on a real broker, read as it is in production."""

from collections.abc import Sequence
from typing import ClassVar

from confluent_kafka import Producer

from consumers.consumer import Fenced
from schemas.topics import topics
from sentio import topics as kafka_topics
from sentio.batch import Batch
from sentio.config import ConsumerSettings, PublisherSettings, load
from sentio.testing.servers import Kafka
from tests.notebook import Notebook
from tests.pipeline import running, until
from tests.samples import encoded, signal, trade


class Both(Notebook):
    """Of two topics."""

    topics: ClassVar[Sequence[str]] = ["trades.executed", "signals.generated"]


def test_what_was_read_of_a_topic_that_is_lost_while_another_is_processed_is_left_to_its_new_owner(
    kafka: Kafka,
) -> None:
    settings = load(ConsumerSettings, kafka=kafka.bootstrap, topic_prefix=kafka.prefix, batch_wait_ms=200)
    publishing = load(PublisherSettings, kafka=kafka.bootstrap, topic_prefix=kafka.prefix, partitions=1)
    kafka_topics.apply(publishing, [change for change in kafka_topics.plan(publishing) if change.lines])
    names = {name: topics()[name].full_name(kafka.prefix) for name in Both.topics}
    producer = Producer({"enable.idempotence": True, "bootstrap.servers": kafka.bootstrap})
    for number in range(3):
        producer.produce(names["trades.executed"], encoded(trade(number), number=number))
        producer.produce(names["signals.generated"], encoded(signal(number), number=number))
    assert producer.flush(10) == 0

    def lose_the_other(batch: Batch) -> None:
        if len(notebook.asked) == 1:  # one poll brought both, as a rule
            raise Fenced(gone=[(name, 0) for topic, name in names.items() if topic != batch.topic.name])

    notebook = Both(lose_the_other)
    with running(notebook, settings) as group:
        until(lambda: notebook.done)
        again = group.turned_s
        until(lambda: group.turned_s > again)

    assert {batch.topic.name for batch in notebook.done} == {notebook.asked[0].topic.name}
    assert notebook.offsets() == {0: [0, 1, 2]}
