"""Windows as columns to `aggregates.updated`: encoded and handed to librdkafka in one go. Nothing is kept here."""

from typing import Any
from uuid import UUID

import polars as pl
import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from uuid_utils import uuid7

from schemas.codec import encode
from schemas.columns import HEADER, arrow_schema
from schemas.topics import topic_of_event
from sentio import kafka, log

EVENT = "AggregateUpdated"
SCHEMA = pa.schema([field for field in arrow_schema(EVENT) if field.name not in HEADER])
"""Columns of a lot: those of the event without the ones that sending gives it."""


class Sender:
    """Sends one lot of windows after the other. Used by one thread; it never waits.

    It has no spool and sends nothing again: a lot that did not arrive is in the database still.
    """

    def __init__(self, bootstrap: str, topic_prefix: str, *, name: str) -> None:
        self.producer = f"{name}@{UUID(bytes=uuid7().bytes)}"
        # An outage is waited out; meanwhile the windows change on, and the next lot has their newest state.
        self._config = kafka.writer(bootstrap, name=f"sentio-{name}")
        self._topic = topic_of_event(EVENT).full_name(topic_prefix)
        self._client = Producer(self._config)
        self._next = 0
        self._error: KafkaError | None = None
        self._once = log.OncePer()

    def send(self, windows: pa.Table) -> None:
        """Hand over a lot, columns as in `SCHEMA`. The one before must have arrived or failed."""
        if not (count := len(windows)):
            return
        header = [
            pa.array([uuid7().bytes for _ in range(count)], pa.binary(16)),
            pa.repeat(self.producer, count),
            pa.array(range(self._next, self._next + count), pa.int64()),
        ]
        self._next += count
        [records] = pa.table([*header, *windows.columns], arrow_schema(EVENT)).combine_chunks().to_batches()
        messages: list[dict[str, Any]] = [
            {"key": key, "value": value} for key, value in zip(_keys(windows), encode(EVENT, records), strict=True)
        ]
        if self._client.produce_batch(self._topic, messages, on_delivery=self._failed) < count:
            self._error = next(error for message in messages if (error := message.get("_error")))

    def arrived(self) -> bool | None:
        """Whether Kafka has acknowledged all of the lot; None as long as that is open."""
        try:
            self._client.poll(0)
        except KafkaException as failure:  # a fatal error of librdkafka's own
            self._error = failure.args[0]
        if self._error is not None:
            self._client.purge()
        if len(self._client):
            return None
        if self._error is None:
            return True
        if self._once.due("failed"):
            log.get().warning("kafka did not take the newest windows; they go out again", cause=self._error.str())
        # After some errors an idempotent client takes no more.
        self._client = Producer(self._config)
        self._error = None
        return False

    def close(self) -> None:
        self._client.purge()

    def _failed(self, error: KafkaError | None, _: Message) -> None:
        self._error = error or self._error


def _keys(windows: pa.Table) -> list[bytes]:
    """As `Topic.record_key` makes them."""
    key = topic_of_event(EVENT).key
    columns = pl.DataFrame(windows.select(key))
    start_at = pl.col("start_at").dt.strftime("%Y-%m-%d %H:%M:%S+00:00")
    return (
        columns.select(pl.concat_str(pl.col(key[:-1]), start_at, separator="|").cast(pl.Binary)).to_series().to_list()
    )
