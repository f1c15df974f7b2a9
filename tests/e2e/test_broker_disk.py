"""A broker that can write no more stops; all wait for it, and once there is room nothing is lost and nothing counted twice.

Room is taken away by a limit on the size of the broker's files, which needs no disk of its own and no root: what Kafka
meets is an append that fails, as on a full disk. What a full disk does besides is told in docs/runbooks/broker-disk-full.md.
"""

import resource
import secrets
from pathlib import Path

from prometheus_client import REGISTRY

from consumers.aggregates.aggregates import Aggregates
from consumers.store.store import Store
from producers.publisher import EventPublisher
from sentio.stack.kafka import KafkaServer
from sentio.testing.servers import fresh_prefix
from tests.pipeline import consumer_settings, count, publisher_settings, rows, running, until
from tests.samples import trade
from tests.shadows import sentio

ROOM_BYTES = 11 << 20
"""Of one file; Kafka makes an index of ten MiB beside each segment."""

AT_ONCE = 500
DAY = "select fills, realized_pnl from windows where kind = 'DAY' and strategy = '*' and symbol = '*'"


def publish(publisher: EventPublisher, first: int, amount: int) -> int:
    """Fills that do not compress; the number of the next."""
    for number in range(first, first + amount):
        publisher.publish(trade(number % 390, pnl="1", reason=secrets.token_hex(1_000)))
    return first + amount


def test_broker_without_room_stops_and_all_goes_on_once_there_is_some(
    own_kafka: KafkaServer, database: str, tmp_path: Path
) -> None:
    assert own_kafka.address
    assert own_kafka.pid
    broker: int = own_kafka.pid
    settings = consumer_settings(
        own_kafka.address, fresh_prefix(), database, partitions=1, session_timeout_ms=6_000, batch_wait_ms=5
    )
    spooled = publisher_settings(settings, spool=tmp_path / "spool")
    unlimited = resource.prlimit(broker, resource.RLIMIT_FSIZE)

    def waits(group: str) -> bool:
        return bool(REGISTRY.get_sample_value("sentio_consumer_waiting", {"group": f"{settings.topic_prefix}.{group}"}))

    with (
        running(Store(settings), settings) as store,
        running(Aggregates(settings), settings) as aggregates,
        EventPublisher(spooled, name="engine", durable=True) as publisher,
    ):
        until(lambda: store.ready and aggregates.ready)
        assert not waits("store")
        resource.prlimit(broker, resource.RLIMIT_FSIZE, (ROOM_BYTES, unlimited[1]))
        published = 0
        while own_kafka.process is not None:
            published = publish(publisher, published, AT_ONCE)
            until(lambda: publisher.counters().waiting < 10 * AT_ONCE or own_kafka.process is None)
        assert "File too large" in own_kafka.log.read_text()
        published = publish(publisher, published, AT_ONCE)
        counters = publisher.counters()
        assert counters.waiting >= AT_ONCE
        assert counters.failed == 0
        until(lambda: not store.ready and not aggregates.ready)
        assert waits("store")
        assert waits("aggregates")

        own_kafka.start()
        until(lambda: not publisher.counters().waiting)
        until(lambda: count(database, "trades") == published)
        until(lambda: rows(database, DAY) == [(published, published)])
        until(lambda: store.ready and aggregates.ready)
        assert not waits("store")

    assert publisher.counters().failed == 0
    assert rows(database, "select count(distinct (producer, sequence)), min(sequence), max(sequence) from trades") == [
        (published, 0, published - 1)
    ]
    assert rows(database, DAY) == [(published, published)]
    assert sentio(settings, "verify").exit_code == 0
