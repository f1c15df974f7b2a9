"""The eight recorded days by each way in: the log has the same rows, in the same order."""

import gzip
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined] # it is theirs to give

from producers import session
from producers.sidecar import mapping
from producers.sidecar.bridge import Bridge
from producers.sidecar.follow import Follower
from producers.sidecar.listening import Listener
from producers.sidecar.posting import Receiver
from producers.sidecar.rings import RingSource
from producers.source import dump
from schemas.events import Event, PerformanceMinute, PositionUpdated, SignalGenerated, TradeExecuted
from sentio.config import SidecarSettings
from sentio.testing.servers import Kafka
from tests import engines
from tests.data import ABSENT, DATA
from tests.engines import OK, SOURCES, Engine
from tests.pipeline import until
from tests.ways import draining, rows_of, running, settings_for, told

TOKEN = "a token of sixteen"
Way = Callable[[SidecarSettings, list[Event], Path], None]
"""Publishes events, or the recorded days themselves, and returns when the log has them."""


def days() -> list[Path]:
    folders = sorted((DATA / "session").glob("*-*-*"))
    if not folders:
        pytest.skip(ABSENT)
    return folders


def by_ring(settings: SidecarSettings, events: list[Event], folder: Path) -> None:
    driver = engines.built(folder / "programs", SOURCES / "driver.c")
    ring = folder / "ring"
    with draining(settings, RingSource(ring)) as sidecar, engines.engine(driver, ring, capacity=1 << 16) as engine:
        assert {_publish(engine, event) for event in events} == {OK}
        until(lambda: sidecar.tallies[str(ring)].events == len(events), timeout_s=30)


def _publish(engine: Engine, event: Event) -> int:
    """As an engine in C does."""
    match event:
        case TradeExecuted():
            gain = event.realized_pnl
            return engine.trade(
                account=event.account,
                strategy=event.strategy,
                symbol=event.symbol,
                action=["ENTRY", "EXIT"].index(event.action) + 1,
                side=["BUY", "SELL"].index(event.side) + 1,
                quantity=int(event.quantity.scaleb(8)),
                price=int(event.price.scaleb(10)),
                has_realized_pnl=int(gain is not None),
                realized_pnl=int(gain.scaleb(6)) if gain is not None else 0,
                fees=int(event.fees.scaleb(6)),
                reason=event.reason,
                order_id=event.order_id,
                executed_at=_us(event.executed_at),
            )
        case SignalGenerated():
            return engine.signal(
                symbol=event.symbol,
                direction=["NEUTRAL", "LONG", "SHORT"].index(event.direction) + 1,
                probability=repr(event.probability),
                confidence=repr(event.confidence),
                bar_id=event.bar_id,
                generated_at=_us(event.generated_at),
            )
        case PositionUpdated():
            return engine.position(
                account=event.account,
                symbol=event.symbol,
                quantity=int(event.quantity.scaleb(8)),
                average_entry=int(event.average_entry.scaleb(10)),
                mark=int(event.mark.scaleb(10)),
                unrealized_pnl=int(event.unrealized_pnl.scaleb(6)),
                realized_pnl=int(event.realized_pnl.scaleb(6)),
                updated_at=_us(event.updated_at),
            )
        case PerformanceMinute():
            return engine.performance(
                account=event.account,
                equity=int(event.equity.scaleb(6)),
                day_return=int(event.day_return.scaleb(10)),
                open_positions=event.open_positions,
                realized_pnl=int(event.realized_pnl.scaleb(6)),
                unrealized_pnl=int(event.unrealized_pnl.scaleb(6)),
                minute_at=_us(event.minute_at),
            )
    raise TypeError(event)


def _us(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000)


def by_socket(settings: SidecarSettings, events: list[Event], folder: Path) -> None:
    dump(events, folder / "lines")
    listener = Listener(str(folder / "socket"))
    greeting = {"engine": "rotation", "source": str(uuid4()), "line": 1, "acknowledge": True}
    try:
        with draining(settings, listener.inbox), socket.socket(socket.AF_UNIX) as engine:
            engine.settimeout(30)
            engine.connect(str(folder / "socket"))
            engine.sendall(json.dumps(greeting).encode() + b"\n" + (folder / "lines").read_bytes())
            for answer in map(json.loads, engine.makefile("rb")):
                assert answer.keys() == {"acknowledged"}
                if answer["acknowledged"] == len(events):
                    break
    finally:
        listener.close()


def by_files(settings: SidecarSettings, events: list[Event], folder: Path) -> None:
    for day in days():
        (folder / "logs" / day.name).mkdir(parents=True)
        for path in day.glob("*.jsonl.gz"):
            (folder / "logs" / day.name / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    follower = Follower(folder / "logs", engine="rotation", settle_s=0.3)
    with draining(settings, follower) as sidecar:
        until(lambda: sidecar.tallies[follower.name].events >= len(events), timeout_s=60)
    assert sidecar.tallies[follower.name].refused == 0


@contextmanager
def posting(settings: SidecarSettings) -> Iterator[httpx.Client]:
    import threading

    receiver = Receiver("127.0.0.1:0", settings)
    thread = threading.Thread(target=receiver.run)
    with draining(settings, receiver.inbox):
        thread.start()
        try:
            with httpx.Client(
                base_url=f"http://127.0.0.1:{receiver.port}", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30
            ) as client:
                yield client
        finally:
            receiver.stop()
            thread.join(20)


def by_http(settings: SidecarSettings, events: list[Event], folder: Path) -> None:
    dump(events, folder / "lines")
    lines = (folder / "lines").read_bytes().splitlines(keepends=True)
    headers = {"Content-Type": "application/x-ndjson", "Sentio-Source": str(uuid4()), "Sentio-Engine": "rotation"}
    with posting(settings) as client:
        for first in range(0, len(lines), 2_000):
            part = lines[first : first + 2_000]
            answer = client.post(
                "/v1/events", content=b"".join(part), headers=headers | {"Sentio-Line": f"{first + 1}"}
            )
            assert answer.json() == {"acknowledged": len(part), "refused": [], "unknown_fields": []}


MAPPING = """
[[map]]
topic = "PREFIX.engine-fills"
event = "TradeExecuted"
[map.fields]
account = "acct"
strategy = { value = "rotation" }
symbol = "sym"
action = { from = "open", words = { true = "ENTRY", false = "EXIT" } }
side = { from = "side", words = { b = "BUY", s = "SELL" } }
quantity = "fill.shares"
price = "fill.price"
realized_pnl = "pnl"
fees = { value = 0 }
reason = "why"
executed_at = { from = "ts", unit = "ms" }

[[map]]
topic = "PREFIX.engine-signals"
event = "SignalGenerated"
[map.fields]
symbol = "sym"
direction = { from = "signal", words = { 0 = "NEUTRAL", 1 = "LONG", 2 = "SHORT" } }
probability = "p"
confidence = "c"
bar_id = "bar"
generated_at = { from = "ts", unit = "s" }

[[map]]
topic = "PREFIX.engine-state"
event = "PositionUpdated"
each = "book.positions"
[map.fields]
account = "^acct"
symbol = "sym"
quantity = "q"
average_entry = "entry"
mark = "mark"
unrealized_pnl = "open_pnl"
realized_pnl = "pnl"
updated_at = { from = "^ts", unit = "ms" }

[[map]]
topic = "PREFIX.engine-minute"
event = "PerformanceMinute"
[map.fields]
account = "acct"
equity = "equity"
day_return = "return"
open_positions = "open"
realized_pnl = "pnl"
unrealized_pnl = "open_pnl"
minute_at = { from = "ts", unit = "ms" }
"""


def by_bridge(settings: SidecarSettings, events: list[Event], folder: Path) -> None:
    (folder / "map.toml").write_text(MAPPING.replace("PREFIX", settings.topic_prefix))
    maps = mapping.load(folder / "map.toml")
    admin = AdminClient({"bootstrap.servers": settings.kafka})
    for made in admin.create_topics([NewTopic(each.topic, 1) for each in maps]).values():
        made.result(20)
    producer = Producer({"enable.idempotence": True, "bootstrap.servers": settings.kafka, "linger.ms": 20})
    for count, (topic, message) in enumerate(_messages(events)):
        producer.produce(f"{settings.topic_prefix}.{topic}", json.dumps(message))
        if count % 10_000 == 0:
            producer.flush(30)
    assert producer.flush(30) == 0
    with running(Bridge(settings, maps, name="days")) as bridge:
        until(lambda: bridge.tallies[bridge.name].events == len(events), timeout_s=60)
    assert bridge.tallies[bridge.name].refused == 0


def _messages(events: list[Event]) -> Iterator[tuple[str, dict[str, object]]]:
    """As an engine of its own words says it; positions of a moment in one message."""
    state: dict[str, Any] = {}
    for event in events:
        if state and not (isinstance(event, PositionUpdated) and state["ts"] == _us(event.updated_at) // 1_000):
            yield "engine-state", state
            state = {}
        match event:
            case TradeExecuted():
                fill = {"shares": float(event.quantity), "price": float(event.price)}
                pnl = None if event.realized_pnl is None else float(event.realized_pnl)
                yield (
                    "engine-fills",
                    {"acct": event.account, "sym": event.symbol, "open": event.action == "ENTRY", "fill": fill}
                    | {"side": event.side[0].lower(), "pnl": pnl, "why": event.reason}
                    | {"ts": _us(event.executed_at) // 1_000},
                )
            case SignalGenerated():
                yield (
                    "engine-signals",
                    {"sym": event.symbol, "signal": ["NEUTRAL", "LONG", "SHORT"].index(event.direction)}
                    | {"p": event.probability, "c": event.confidence, "bar": event.bar_id}
                    | {"ts": event.generated_at.timestamp()},
                )
            case PositionUpdated():
                state = state or {
                    "acct": event.account,
                    "ts": _us(event.updated_at) // 1_000,
                    "book": {"positions": []},
                }
                state["book"]["positions"].append(
                    {"sym": event.symbol, "q": str(event.quantity), "entry": str(event.average_entry)}
                    | {"mark": float(event.mark), "open_pnl": str(event.unrealized_pnl), "pnl": str(event.realized_pnl)}
                )
            case PerformanceMinute():
                yield (
                    "engine-minute",
                    {"acct": event.account, "equity": float(event.equity), "return": str(event.day_return)}
                    | {"open": event.open_positions, "pnl": float(event.realized_pnl)}
                    | {"open_pnl": float(event.unrealized_pnl), "ts": _us(event.minute_at) // 1_000},
                )
    if state:
        yield "engine-state", state


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return [event for day in days() for event in session.events(day)]


@pytest.mark.parametrize("way", [by_ring, by_socket, by_files, by_http, by_bridge])
def test_the_recorded_days_give_the_same_rows_by_each_way_in(
    way: Way, events: list[Event], kafka: Kafka, tmp_path: Path
) -> None:
    settings = settings_for(kafka.bootstrap, kafka.prefix, events_token=TOKEN)
    way(settings, events, tmp_path)
    expected, found = rows_of(events), told(settings)
    if way is by_files:  # a file is never given in another order than its own, and not all signals are in that of time
        for rows in (expected, found):
            rows["SignalGenerated"].sort(key=lambda row: sorted(map(str, row.items())))
    assert {kind: len(rows) for kind, rows in found.items()} == {kind: len(rows) for kind, rows in expected.items()}
    assert found == expected
