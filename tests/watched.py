"""The whole platform in threads of a test: store, aggregates, a gateway and the watcher, and a day that was published."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

from pydantic import SecretStr

from consumers.aggregates.aggregates import Aggregates
from consumers.store.store import Store
from gateway.stream.server import run as stream
from gateway.watch.app import Watcher
from producers.publisher import EventPublisher
from producers.simulator import events
from schemas.events import Event, TradeExecuted
from sentio.config import ConsumerSettings, StreamSettings, WatchSettings, load
from sentio.testing.servers import Kafka
from tests.pipeline import consumer_settings, in_thread, publisher_settings, rows, running, until

DAY = date(2025, 10, 10)
ACCOUNT = "sim-7"
ENDS_S = 20.0


@dataclass
class Watched:
    """A running platform."""

    settings: ConsumerSettings
    database: str
    stream_url: str
    fills: int = 0
    """That were published."""

    def publish(self, some: Sequence[Event]) -> None:
        self.fills += sum(isinstance(event, TradeExecuted) for event in some)
        with EventPublisher(publisher_settings(self.settings), name="engine") as publisher:
            for event in some:
                publisher.publish(event)

    def document(self) -> dict[str, Any]:
        """What the watcher says now."""
        found = rows(self.database, "select document from watch_now")
        return dict(found[0][0]) if found else {}

    def execute(self, statement: str) -> None:
        """Somebody meddles with the tables."""
        rows(self.database, f"{statement} returning 1")

    def agreed(self) -> bool:
        """Whether all have said the same, of all that was published."""
        said = self.document()
        accounts = {one["account"]: one for one in said.get("accounts", ())}
        sides = said.get("sides", ())
        return (
            ACCOUNT in accounts
            and len(sides) == 3
            and all(accounts[ACCOUNT]["compared"][side["side"]] == side["figures"] for side in sides)
            and {one["fills"] for one in [accounts[ACCOUNT]["engine"], *accounts[ACCOUNT]["sides"].values()]}
            == {str(self.fills)}
            and not said["differing"]
        )


def day(minutes: int = 30) -> list[Event]:
    return list(events(seed=7, day=DAY, minutes=minutes))


@contextmanager
def watched(kafka: Kafka, database: str, **more: Any) -> Iterator[Watched]:
    """``more``: settings of the watcher."""
    settings = consumer_settings(kafka.bootstrap, kafka.prefix, database)
    common = {
        "kafka": kafka.bootstrap,
        "topic_prefix": kafka.prefix,
        "partitions": settings.partitions,
        "database": SecretStr(database),
    }
    with ExitStack() as stack:
        for consumer in (Store(settings), Aggregates(settings)):
            stack.enter_context(running(consumer, settings))
        keys = {name: value for name, value in more.items() if name == "auth_keys"}
        port = stack.enter_context(_gateway(load(StreamSettings, **common, **keys, stream_port=0, stream_drain_s=0)))
        url = f"ws://127.0.0.1:{port}"
        stop = threading.Event()
        watcher = Watcher(
            load(WatchSettings, **common, **({"watch_streams": url, "watch_hours": "never"} | more)), stop
        )
        stack.enter_context(in_thread(watcher.run, stop))
        yield Watched(settings, database, url)


@contextmanager
def _gateway(settings: StreamSettings) -> Iterator[int]:
    """Its port."""
    loop, stop, ports = asyncio.new_event_loop(), asyncio.Event(), []

    async def main() -> None:
        listening = loop.create_future()
        task = asyncio.create_task(stream(settings, stop, listening=listening))
        ports.append(await listening)
        await task

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    try:
        yield int(until(lambda: ports)[0])
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(ENDS_S)
        loop.close()
