"""A member that froze in the middle of a COPY, where no timeout of the server ends its transaction."""

import psycopg
import pytest

from consumers.store.store import Store
from producers.publisher import EventPublisher
from sentio.testing.servers import Kafka
from tests.pipeline import consumer_settings, count, publisher_settings, running, until
from tests.samples import trade


def test_a_member_frozen_in_the_middle_of_a_copy_holds_nobody_up(kafka: Kafka, database: str) -> None:
    settings = consumer_settings(kafka.bootstrap, kafka.prefix, database, session_timeout_ms=6_000)

    def publish() -> None:
        with EventPublisher(publisher_settings(settings), name="engine") as publisher:
            for number in range(10):
                publisher.publish(trade(number))

    publish()
    with running(Store(settings), settings):
        until(lambda: count(database, "trades") == 10)
    publish()
    frozen = psycopg.connect(database, application_name=Store.name)
    frozen.execute("select from consumer_offsets for update")
    with (
        pytest.raises(psycopg.errors.AdminShutdown),
        frozen.cursor().copy("copy trades from stdin"),
        running(Store(settings), settings),
    ):
        until(lambda: count(database, "trades") == 20)
    frozen.close()
