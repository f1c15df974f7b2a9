"""A producer of the fake broker: what waits, what was delivered, and in which partition."""

import random
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from confluent_kafka import TIMESTAMP_CREATE_TIME, KafkaError, KafkaException, Message

if TYPE_CHECKING:
    from sentio.testing.fake.broker import FakeBroker

Delivery = Callable[[KafkaError | None, Message], None]
Headers = Sequence[tuple[str, str | bytes | None]]

MESSAGE_MAX_BYTES = 1_000_000


class FakeProducer:
    """Sends at once, or when the broker is up again; deliveries are told in `poll` and `flush`, as ever."""

    def __init__(self, broker: "FakeBroker", config: Mapping[str, Any]) -> None:
        self._broker = broker
        self._most: int = config.get("queue.buffering.max.messages", 100_000)
        self._tells_only_errors: bool = config.get("delivery.report.only.error", False)
        self._queue: deque[tuple[Message, Delivery | None]] = deque()
        self._told: deque[tuple[KafkaError | None, Message, Delivery | None]] = deque()

    def __len__(self) -> int:
        return len(self._queue) + len(self._told)

    def produce(
        self,
        topic: str,
        value: str | bytes | None = None,
        key: str | bytes | None = None,
        partition: int = -1,
        on_delivery: Delivery | None = None,
        timestamp: int = 0,
        headers: Headers | None = None,
    ) -> None:
        """Raises `BufferError` when as much waits as the settings allow, `KafkaException` for a record too large."""
        message = Message(
            topic=topic,
            partition=partition,
            key=_bytes(key),
            value=_bytes(value),
            headers=[(name, _bytes(each)) for name, each in headers or ()] or None,
            timestamp=(TIMESTAMP_CREATE_TIME, timestamp or int(time.time() * 1000)),
        )
        if len(message) > MESSAGE_MAX_BYTES:
            raise KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
        with self._broker.changed:
            if len(self) >= self._most:
                raise BufferError("Local: Queue full")
            self._queue.append((message, on_delivery))
            self.transmit()

    def produce_batch(
        self,
        topic: str,
        messages: list[dict[str, Any]],
        partition: int = -1,
        on_delivery: Delivery | None = None,
    ) -> int:
        """How many are taken. Each of the others has its error as ``_error``; behind one that finds no room, all do."""
        full: KafkaError | None = None
        for message in messages:
            if "timestamp" in message:
                raise NotImplementedError("Message timestamps are not currently supported in batch mode")
        for message in messages:
            try:
                if full is None:
                    self.produce(topic, message.get("value"), message.get("key"), partition, on_delivery)
            except BufferError:
                full = KafkaError(KafkaError._QUEUE_FULL)  # noqa: SLF001 - its public name
            except KafkaException as failure:
                message["_error"] = failure.args[0]
            if full is not None:
                message["_error"] = full
        return sum("_error" not in message for message in messages)

    def poll(self, timeout: float = -1) -> int:
        """Tell deliveries, waiting so long for the first; returns how many."""
        with self._broker.changed:
            self._broker.changed.wait_for(lambda: self._told, timeout if timeout >= 0 else None)
            told, self._told = self._told, deque()
        for error, message, on_delivery in told:
            if on_delivery and (error or not self._tells_only_errors):
                on_delivery(error, message)
        return len(told)

    def flush(self, timeout: float = -1) -> int:
        """Wait so long for everything to be delivered and told; returns how much is left."""
        with self._broker.changed:
            self._broker.changed.wait_for(lambda: not self._queue, timeout if timeout >= 0 else None)
        self.poll(0)
        return len(self)

    def purge(self) -> None:
        with self._broker.changed:
            purged = KafkaError(KafkaError._PURGE_QUEUE)  # noqa: SLF001 - its public name
            self._told.extend((purged, message, on_delivery) for message, on_delivery in self._queue)
            self._queue.clear()
            self._broker.changed.notify_all()

    def transmit(self) -> None:
        """Send what waits; the caller holds the lock."""
        while self._queue and self._broker.is_up:
            message, on_delivery = self._queue.popleft()
            try:
                self._told.append((None, self._append(message), on_delivery))
            except KafkaException as failure:
                self._told.append((failure.args[0], message, on_delivery))
        self._broker.changed.notify_all()

    def _append(self, message: Message) -> Message:
        topic, partition, key = message.topic() or "", message.partition(), message.key()
        if partition is None or partition < 0:
            count = self._broker.partitions(topic) or 1
            # librdkafka's default partitioner
            partition = zlib.crc32(key) % count if key else random.randrange(count)  # noqa: S311 - no secret
        log = self._broker.log((topic, partition))
        log.messages.append(
            Message(
                topic=topic,
                partition=partition,
                offset=log.next,
                key=key,
                value=message.value(),
                headers=message.headers(),
                timestamp=message.timestamp(),
            )
        )
        return log.messages[-1]


def _bytes(text: str | bytes | None) -> bytes | None:
    return text.encode() if isinstance(text, str) else text
