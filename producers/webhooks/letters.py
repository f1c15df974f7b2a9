"""Dead letters of the receiver: refused events as they came, with why, for people to look at.

They are sent on the side: an event that cannot be used keeps nobody waiting, and its sender is not told to come back.
What Kafka does not take is counted, and its reason is in the log.
"""

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from producers.webhooks import figures
from producers.webhooks.journal import EVENT
from schemas.topics import topic_of_event
from sentio import kafka, letters, log
from sentio.config import WebhookSettings

MOST_WAITING, MOST_WAITING_KB = 10_000, 64 * 1024
CLOSE_S = 1.0
LONGEST_BYTES = 200_000
"""Of an event; of a longer one only the reason is kept."""


class Letters:
    """Belongs to the event loop; never waits."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._topic = letters.dead_topic(topic_of_event(EVENT).full_name(settings.topic_prefix))
        self._producer = Producer(
            kafka.client(settings.kafka, name="webhooks-dead-letters")
            | {
                "enable.idempotence": True,
                "acks": "all",
                "queue.buffering.max.messages": MOST_WAITING,
                "queue.buffering.max.kbytes": MOST_WAITING_KB,
            }
        )
        self._once = log.OncePer()

    def send(self, event: bytes, *, index: int, signature: str | None, reason: str) -> None:
        """Send an event that is the one at ``index`` of its request."""
        headers: letters.Headers = [
            (letters.SOURCE_WEBHOOK, b"helius"),
            (letters.SOURCE_INDEX, str(index).encode()),
            (letters.SOURCE_SIGNATURE, (signature or "").encode()),
            *letters.error("Unusable", reason),
        ]
        if len(event) > LONGEST_BYTES:
            headers.append(letters.dropped(len(event)))
        kept = event if len(event) <= LONGEST_BYTES else None
        try:
            self._producer.produce(self._topic, kept, headers=headers, on_delivery=self._delivered)
        except (BufferError, KafkaException) as failure:
            self._lost(str(failure))
        self._producer.poll(0)

    def close(self) -> None:
        if left := self._producer.flush(CLOSE_S):
            figures.LETTERS_LOST.inc(left)
            log.get().warning("dead letters are lost: Kafka did not take them in time", lost=left)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._lost(error.str())

    def _lost(self, cause: str) -> None:
        figures.LETTERS_LOST.inc()
        if self._once.due("lost"):
            log.get().warning("a dead letter is lost", topic=self._topic, cause=cause)
