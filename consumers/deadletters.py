"""Dead letters: the original bytes of a record that cannot be used, with where it came from and why."""

from collections import deque
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from consumers.polled import Letter
from sentio import kafka, letters, log
from sentio.errors import Fatal, Retryable
from sentio.letters import DEAD_SUFFIX, Headers

ACKNOWLEDGE_TIMEOUT_S = 5.0  # then the group polls, and they are sent again

Delivered = Callable[[KafkaError | None, Message], None]
WINDOW = 1_000
WINDOW_MIN = 100


class DeadLetters:
    """Sends dead letters of one consumer group; a repeat is known by the four ``source.`` headers."""

    def __init__(self, bootstrap: str, group: str) -> None:
        self._producer = Producer(
            kafka.client(bootstrap, name=f"{group}-dead-letters") | {"enable.idempotence": True, "acks": "all"}
        )
        self._group = group
        self._recent: deque[bool] = deque(maxlen=WINDOW)
        self.sent = 0

    def send(self, topic: str, refused: Sequence[tuple[Letter, str, str]]) -> None:
        """Send (message of the topic, error type, reason), wait until all are acknowledged.

        Raises `Retryable` if they are not.
        """
        lost: list[str] = []

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                lost.append(error.str())

        for letter, kind, reason in refused:
            partition, offset = letter.partition, letter.offset
            log.get().warning("dead letter", topic=topic, partition=partition, offset=offset, error=kind, reason=reason)
            headers = letters.own(letter.headers)
            headers += letters.source(self._group, topic, partition, offset) + letters.error(kind, reason)
            self._produce(letters.dead_topic(topic), letter, headers, delivered)
        left = self._producer.flush(ACKNOWLEDGE_TIMEOUT_S)
        if left or lost:
            self._producer.purge()
            raise Retryable(f"{left + len(lost)} dead letters not acknowledged: {', '.join(lost) or 'time is over'}")
        self.sent += len(refused)

    def _produce(self, topic: str, letter: Letter, headers: Headers, delivered: Delivered) -> None:
        """Hand one letter to librdkafka; one that its headers make too large goes without its value."""
        try:
            self._producer.produce(topic, letter.value, letter.key, headers=headers, on_delivery=delivered)
        except BufferError as failure:
            raise Retryable("dead letters: the producer's queue is full") from failure
        except KafkaException as failure:
            if failure.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE:
                raise Retryable(f"dead letters: {failure.args[0].str()}") from failure
            headers = [*headers, letters.dropped(len(letter.value or b""))]
            self._producer.produce(topic, None, letter.key, headers=headers, on_delivery=delivered)

    def count(self, *, good: int, poison: int) -> None:
        """Note what a batch held; raises `Fatal` when more than half of the last records were poison."""
        # A batch may hold more than the window: then each kind takes its share of it.
        share = min(1.0, WINDOW / max(1, good + poison))
        self._recent.extend([False] * round(good * share))
        self._recent.extend([True] * round(poison * share))
        if poison and len(self._recent) >= WINDOW_MIN and sum(self._recent) * 2 > len(self._recent):
            raise Fatal(
                f"{sum(self._recent)} of the last {len(self._recent)} records cannot be used by group {self._group}:"
                f" that is a deployment's fault, not a record's; mend it, then start again (reasons: in *{DEAD_SUFFIX})"
            )
