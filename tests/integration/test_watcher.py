"""The watcher on a real log: it is level while the engine never pauses, and amounts with many decimals are no difference."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Consumer, Message

from gateway.watch import tape as tape_module
from producers.publisher import EventPublisher
from schemas.amounts import price, quantity
from sentio.testing.servers import Kafka
from tests.pipeline import consumer_settings, publisher_settings, until
from tests.receivers import receiver
from tests.samples import trade
from tests.watched import ACCOUNT, day, watched


def test_tape_is_level_with_a_log_that_never_pauses(
    kafka: Kafka, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = consumer_settings(kafka.bootstrap, kafka.prefix, database)
    with EventPublisher(publisher_settings(settings), name="engine") as publisher:

        class Busy(Consumer):
            """Whenever it is asked, something new has come."""

            def consume(self, *_: object, **__: object) -> list[Message]:
                publisher.publish(trade())
                until(lambda: not publisher.counters().waiting)
                return super().consume(1, 30.0)  # ends with the first

        publisher.publish(trade())
        until(lambda: not publisher.counters().waiting)  # what comes later may be beyond the end that is read to
        monkeypatch.setattr(tape_module, "Consumer", Busy)
        tape = tape_module.Tape(settings, datetime.now(UTC) - timedelta(hours=1))
        try:
            assert tape.drain(30)
            assert tape.book.accounts["paper"].fills
        finally:
            tape.close()


def test_fills_of_parts_of_shares_are_no_difference(kafka: Kafka, database: str) -> None:
    part: dict[str, Any] = {"account": ACCOUNT, "quantity": quantity("0.00000001"), "price": price("150.0000000001")}
    with watched(kafka, database) as platform:
        platform.publish([trade(number, **part) for number in range(5)])
        until(platform.agreed)
        [account] = platform.document()["accounts"]
        assert account["engine"]["notional"] == "0.00001"


def test_a_watcher_that_was_restarted_says_no_alert_twice_and_says_its_end(kafka: Kafka, database: str) -> None:
    newest = "where minute_at = (select max(minute_at) from performance)"
    with receiver() as hook:

        def said() -> list[str]:
            posts = [json.loads(body) for _, body in list(hook.requests)]
            return [post["state"] for post in posts if post["alert"] == "divergence"]

        with watched(kafka, database, alert_webhook=f"{hook.url}/alerts") as platform:
            platform.publish(day(5))
            until(platform.agreed)
            platform.execute(f"update performance set equity = equity - 5000 {newest}")
            until(said)
        before = platform.document()["at"]
        with watched(kafka, database, alert_webhook=f"{hook.url}/alerts") as platform:
            until(lambda: platform.document()["at"] > before and platform.document()["differing"])
            assert said() == ["begin"]
            platform.execute(f"update performance set equity = equity + 5000 {newest}")
            until(lambda: said()[1:])
        assert said() == ["begin", "end"]
