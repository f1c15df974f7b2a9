"""Produces the same trades again and again, in one of several ways, and prints what it cost as a line of JSON.

Usage: publishing.py HOW BOOTSTRAP TOPIC EVENTS WARM_UP BROKER_PID SCHEMA_FILE TRADES_FILE, HOW being "raw", "fastavro",
"serializer" or "sentio". "serializer" runs in the environment of requirements-avro-serializer.txt, the others in ours.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Producer

from benchmarks import clocks

CLIENT = {"enable.idempotence": True, "acks": "all", "compression.type": "lz4", "linger.ms": 5}
TURN = 1_000
"""Deliveries are served once in so many events, and once more when the queue is full."""

WAITING = 50_000
"""An engine is slower than this loop: ours is not given more while so many wait."""

Publish = Callable[[int], None]
"""Publishes so many events and waits until all are acknowledged."""


def main(how: str, bootstrap: str, topic: str, events: int, warm_up: int, broker: int, files: Sequence[Path]) -> None:
    schema, rows = json.loads(files[0].read_text()), [_row(line) for line in files[1].read_text().splitlines()]
    publish: Publish
    if how == "sentio":
        publish = _sentio(bootstrap, topic, rows)
    elif how == "raw":
        publish = ByHand(bootstrap, topic, list(map(_fastavro(schema), rows)), rows, encode=None)
    else:
        encode = _fastavro(schema) if how == "fastavro" else _serializer(topic, schema)
        publish = ByHand(bootstrap, topic, rows, rows, encode=encode)
    publish(warm_up)
    watch = clocks.Watch({"caller": time.thread_time, "all": clocks.own, "broker": clocks.tree(broker)}).start()
    publish(events)
    cpu_s, wall_s = watch.stop()
    parts = {"caller": cpu_s["caller"], "thread": cpu_s["all"] - cpu_s["caller"], "broker": cpu_s["broker"]}
    print(json.dumps({"cpu_s": parts, "wall_s": wall_s}))


class ByHand:
    """On a Producer: bytes that are ready (``encode`` is None), or an encoder's."""

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        values: Sequence[Any],
        rows: Sequence[dict[str, Any]],
        *,
        encode: Callable[[dict[str, Any]], bytes] | None,
    ) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, **CLIENT})
        self._topic = topic
        self._source = cycle([(row["symbol"].encode(), value) for row, value in zip(rows, values, strict=True)])
        self._encode = encode
        # The limit leaves it to the count of records in the topic, which is compared: a call back costs 1 µs.
        self._told: dict[str, Any] = {"on_delivery": self._delivered} if encode else {}
        self._failed = 0

    def __call__(self, count: int) -> None:
        encode = self._encode
        for number, (key, value) in enumerate(islice(self._source, count)):
            self._put(key, encode(value) if encode else value)
            if number % TURN == 0:
                self._producer.poll(0)
        left = self._producer.flush(60)
        assert not left + self._failed, f"{left} events are not acknowledged, {self._failed} failed"

    def _put(self, key: bytes, value: bytes) -> None:
        while True:
            try:
                self._producer.produce(self._topic, value, key, **self._told)
            except BufferError:
                self._producer.poll(0.05)
            else:
                return

    def _delivered(self, error: object, _: object) -> None:
        self._failed += error is not None


def _fastavro(schema: dict[str, Any]) -> Callable[[dict[str, Any]], bytes]:
    parsed = fastavro.parse_schema(schema)
    frame = b"\0\0\0\0\1"

    def encode(row: dict[str, Any]) -> bytes:
        body = BytesIO()
        body.write(frame)
        fastavro.schemaless_writer(body, parsed, row)
        return body.getvalue()

    return encode


def _serializer(topic: str, schema: dict[str, Any]) -> Callable[[dict[str, Any]], bytes]:
    """confluent-kafka's own; its registry is the one in memory that it has for tests, asked once."""
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.avro import AvroSerializer
    from confluent_kafka.serialization import MessageField, SerializationContext

    serializer: Any = AvroSerializer(SchemaRegistryClient.new_client({"url": "mock://bench"}), json.dumps(schema))
    context = SerializationContext(topic, MessageField.VALUE)

    def encode(row: dict[str, Any]) -> bytes:
        value: bytes = serializer(row, context)
        return value

    return encode


def _sentio(bootstrap: str, topic: str, rows: list[dict[str, Any]]) -> Publish:
    from producers.publisher import EventPublisher
    from schemas.columns import HEADER
    from schemas.events import TradeExecuted
    from sentio.config import PublisherSettings

    events: Iterator[TradeExecuted] = cycle(
        TradeExecuted(**{name: value for name, value in row.items() if name not in HEADER}) for row in rows
    )
    prefix = topic.removesuffix(".trades.executed")
    publisher = EventPublisher(PublisherSettings(kafka=bootstrap, topic_prefix=prefix), name="bench")

    def publish(count: int) -> None:
        for number, event in enumerate(islice(events, count)):
            publisher.publish(event)
            if number % TURN == 0:
                while publisher.counters().waiting > WAITING:
                    time.sleep(0.005)
        left = publisher.flush(60)
        failed = publisher.counters().failed
        assert not left + failed, f"{left} events are not acknowledged, {failed} failed"

    return publish


def _row(line: str) -> dict[str, Any]:
    """A trade with the values that a program has in hand."""
    row: dict[str, Any] = json.loads(line)
    for name in ("quantity", "price", "realized_pnl", "fees"):
        row[name] = None if row[name] is None else Decimal(row[name])
    executed_at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=row["executed_at"])
    return row | {"event_id": bytes.fromhex(row["event_id"]), "executed_at": executed_at}


if __name__ == "__main__":
    words = sys.argv[1:]
    main(words[0], words[1], words[2], int(words[3]), int(words[4]), int(words[5]), [Path(word) for word in words[6:]])
