"""Repeats one event in a hundred, byte for byte, soon or much later, and mixes poison into the log.

A header marks what it adds, so that the oracle need not trust the codec to tell poison from events.
"""

import heapq
import threading
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import Any

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from schemas.codec import encode
from schemas.columns import from_events
from schemas.events import Event, PriceBar, SignalGenerated, TradeExecuted
from schemas.layout import FRAME, MAGIC
from schemas.registry import current
from schemas.topics import Topic
from sentio import kafka
from sentio.kafka import Place

REPEATED = 0.01
POISONED = 0.001
LATEST_REPEAT = 30_000

REPEAT = "chaos.repeat"
POISON = "chaos.poison"

NOW = datetime(2026, 1, 2, 15, tzinfo=UTC)
_FILL: dict[str, Any] = {
    "account": "paper-0", "strategy": "rotation", "symbol": "TQQQ", "action": "ENTRY", "side": "BUY",
    "quantity": Decimal(1), "price": Decimal(1), "fees": Decimal(0), "reason": "poison", "executed_at": NOW,
}  # fmt: skip
_SIGNAL: dict[str, Any] = {"symbol": "TQQQ", "direction": "LONG", "confidence": 0.5, "bar_id": 1, "generated_at": NOW}

# What decodes and is out of range; the last one only the table's constraint knows (a low above the high).
_WRONG: dict[str, Event] = {
    "no quantity": TradeExecuted(**_FILL | {"quantity": Decimal(0)}),
    "a price below zero": TradeExecuted(**_FILL | {"price": Decimal(-1)}),
    "in the year 1912": TradeExecuted(**_FILL | {"executed_at": NOW.replace(year=1912)}),
    "a NUL in a text": TradeExecuted(**_FILL | {"reason": "a\0b"}),
    "surer than sure": SignalGenerated(**_SIGNAL, probability=1.5),
    "not a number": SignalGenerated(**_SIGNAL, probability=float("nan")),
    "low above high": PriceBar(
        symbol="TQQQ",
        open=Decimal(2),
        high=Decimal(1),
        low=Decimal(3),
        close=Decimal(2),
        volume=Decimal(1),
        minute_at=NOW,
    ),
}

# What does not decode, made from a good value.
_BROKEN = (
    "garbage", "nothing", "a tombstone", "cut short", "bytes behind the end", "an unknown schema", "another schema"
)  # fmt: skip


def _broken(kind: str, value: bytes, random: Random) -> bytes | None:
    body = value[FRAME.size :]
    made: dict[str, bytes | None] = {
        "garbage": b"\x07" + random.randbytes(random.randint(0, 200)),
        "nothing": b"",
        "a tombstone": None,
        "cut short": value[: random.randint(1, len(value) - 1)],
        "bytes behind the end": value + b"\0",
        "an unknown schema": FRAME.pack(MAGIC, 1_999_999_999) + body,
        "another schema": FRAME.pack(MAGIC, current("EngineHeartbeat").id) + body,
    }
    return made[kind]


class Meddler:
    """A thread of the test that reads the log along and writes to it."""

    def __init__(self, bootstrap: str, places: list[Place], names: Mapping[str, Topic], seed: int) -> None:
        self.kinds: Counter[str] = Counter()
        self.repeats = 0
        self._random = Random(seed)
        self._names = names
        self._places = places
        self._bootstrap = bootstrap
        self._consumer = Consumer(kafka.reader(bootstrap, name="meddler"))
        self._consumer.assign([TopicPartition(*place, 0) for place in places])
        self._producer = Producer(
            kafka.client(bootstrap, name="meddler") | {"enable.idempotence": True, "message.timeout.ms": 0}
        )
        self._later: list[tuple[int, int, Message]] = []
        self._seen = 0
        self._read: dict[Place, int] = dict.fromkeys(places, 0)
        self._numbers = 0
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Read to the end of the log, repeat what is still to be repeated, and be gone."""
        deadline_s = time.monotonic() + timeout_s
        if self._thread.is_alive():
            ends = kafka.spans(self._bootstrap, self._places)
            while any(self._read[place] < end for place, (_, end) in ends.items()) and not self._failure:
                assert time.monotonic() < deadline_s, "the meddler does not reach the end of the log"
                self._stop.wait(0.05)
        self.abandon()
        while self._later:
            self._repeat(heapq.heappop(self._later)[2])
        assert self._producer.flush(timeout_s) == 0
        if self._failure:
            raise self._failure

    def abandon(self) -> None:
        """Stop at once."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                for message in self._consumer.consume(1_000, 0.1):
                    if message.error() is None:
                        self._meddle(message)
                self._producer.poll(0)
        except BaseException as failure:  # noqa: BLE001 - raised by `close`
            self._failure = failure
        finally:
            self._consumer.close()

    def _meddle(self, message: Message) -> None:
        if not message.headers():
            self._seen += 1
            if self._random.random() < REPEATED:
                heapq.heappush(self._later, (self._seen + self._delay(), self._seen, message))
            if self._random.random() < POISONED:
                self._poison(message)
            while self._later and self._later[0][0] <= self._seen:
                self._repeat(heapq.heappop(self._later)[2])
        self._read[message.topic() or "", message.partition() or 0] = (message.offset() or 0) + 1

    def _delay(self) -> int:
        return self._random.choice((0, self._random.randint(0, 500), self._random.randint(0, LATEST_REPEAT)))

    def _repeat(self, message: Message) -> None:
        self.repeats += 1
        self._producer.produce(message.topic() or "", message.value(), message.key(), headers={REPEAT: b"1"})

    def _poison(self, message: Message) -> None:
        """One of everything that fits the topic, with equal chances."""
        name = message.topic() or ""
        event = self._names[name].event
        wrong = [kind for kind, made in _WRONG.items() if type(made).__name__ == event]
        kind = self._random.choice([*_BROKEN, *wrong])
        value = self._wrong(kind) if kind in _WRONG else _broken(kind, message.value() or b"", self._random)
        self.kinds[kind] += 1
        self._producer.produce(name, value, message.key(), headers={POISON: kind.encode()})

    def _wrong(self, kind: str) -> bytes:
        event = _WRONG[kind]
        self._numbers += 1
        records = from_events(
            [event], event_id=[self._random.randbytes(16)], producer=["meddler"], sequence=[self._numbers]
        )
        return encode(type(event).__name__, records)[0]
