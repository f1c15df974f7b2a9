"""What a consumer group shows of itself on /metrics: counted once a batch, never once a record."""

import time

import pyarrow.compute as pc
from prometheus_client import Counter, Gauge, Histogram

from sentio.batch import Batch

RECORDS = Counter("sentio_consumer_records", "Records processed, dead letters included", ["group", "topic"])
BATCH_RECORDS = Histogram(
    "sentio_consumer_batch_records",
    "Records of a batch",
    ["group"],
    buckets=(1, 10, 100, 1_000, 5_000, 10_000, 20_000, 50_000, 100_000),
)
BATCH_SECONDS = Histogram(
    "sentio_consumer_batch_seconds",
    "From the records of a batch in hand to its commit, waits for the sink included",
    ["group", "topic"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
DELAY = Gauge(
    "sentio_consumer_delay_seconds",
    "Age of the newest record of the last batch when it was committed, by Kafka's timestamp",
    ["group", "topic"],
)
DEAD_LETTERS = Counter("sentio_consumer_dead_letters", "Records that could not be used", ["group", "topic", "error"])
RETRIES = Counter("sentio_consumer_retries", "Attempts that failed and were made again", ["group", "what"])
PARTITIONS = Gauge("sentio_consumer_partitions", "Partitions that are claimed", ["group"])
WAITING = Gauge("sentio_consumer_waiting", "1 while something outside is waited for, and nothing is read", ["group"])


def of_batch(group: str, topic: str, records: int, began_s: float, batch: Batch) -> None:
    """Count a batch that is committed; ``began_s`` is monotonic."""
    RECORDS.labels(group, topic).inc(records)
    BATCH_RECORDS.labels(group).observe(records)
    BATCH_SECONDS.labels(group, topic).observe(time.monotonic() - began_s)
    if len(batch):
        newest_ms = pc.max(batch.timestamps_ms).as_py()
        DELAY.labels(group, topic).set(max(0.0, time.time() - newest_ms / 1_000))
