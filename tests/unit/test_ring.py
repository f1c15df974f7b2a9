"""What an engine wrote into a ring is read once it is whole, in order, the same every time, and never beyond its file."""

import struct
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.sidecar import layout, records, ring
from producers.sidecar.messages import of_columns
from producers.sidecar.ring import Ring
from schemas.columns import to_events
from schemas.events import NO_ID, PerformanceMinute, PositionUpdated, SignalGenerated, TradeExecuted
from sentio.errors import RingUnusable
from tests import engines
from tests.engines import OK, SOURCES
from tests.written import columns

AT = datetime(2025, 10, 10, 14, 30, tzinfo=UTC)
DECODERS = [pytest.param(decode, id=name) for name, decode in ring.DECODERS.items()]


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engines.built(tmp_path_factory.getbasetemp() / "programs", SOURCES / "driver.c")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ring"


@pytest.fixture(params=DECODERS)
def _decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "decode", request.param)


def bars(found: records.Records) -> list[int]:
    batch = columns(found).get("SignalGenerated")
    bars: list[int] = batch.column("bar_id").to_pylist() if batch else []
    return bars


def write(driver: Path, path: Path, count: int, *, first: int = 0, capacity: int = 64) -> None:
    with engines.engine(driver, path, capacity=capacity) as engine:
        assert engine.opened == "open"
        assert [engine.signal(first + number) for number in range(count)] == [OK] * count


@pytest.mark.usefixtures("_decoder")
def test_events_are_read_as_the_engine_gave_them(driver: Path, path: Path) -> None:
    with engines.engine(driver, path, name="rotation-1") as engine, Ring(path) as reader:
        answers = [
            engine.trade(),
            engine.signal(7, direction=3, probability=1, confidence="0.1"),
            engine.position(),
            engine.performance(),
            engine.trade(side=2, action=2, has_realized_pnl=1, realized_pnl=-1500000, order_id="o-1", symbol="ÖL"),
        ]
        assert answers == [OK] * 5
        found = reader.read()
    assert found.refused == ()
    assert reader.producer == f"rotation-1@{reader.id}"
    events = [event for kind, batch in columns(found).items() for event in to_events(batch, kind)]
    in_order = sorted(events, key=lambda event: event.sequence)
    assert [event.sequence for event in in_order] == [0, 1, 2, 3, 4]
    entry = TradeExecuted(
        account="paper-1",
        strategy="rotation",
        symbol="TQQQ",
        action="ENTRY",
        side="BUY",
        quantity=Decimal(100),
        price=Decimal("101.25"),
        fees=Decimal("0.35"),
        reason="signal turned LONG",
        executed_at=AT,
    )
    assert [replace(event, event_id=NO_ID, producer="", sequence=-1) for event in in_order] == [
        entry,
        SignalGenerated(
            symbol="TQQQ",
            direction="SHORT",
            probability=1.0,
            confidence=0.1,
            bar_id=7,
            generated_at=AT + timedelta(microseconds=7),
        ),
        PositionUpdated(
            account="paper-1",
            symbol="TQQQ",
            quantity=Decimal(-5),
            average_entry=Decimal(100),
            mark=Decimal("101.0000000001"),
            unrealized_pnl=Decimal(-5),
            realized_pnl=Decimal("0.000001"),
            updated_at=AT,
        ),
        PerformanceMinute(
            account="paper-1",
            equity=Decimal("100000.25"),
            day_return=Decimal("-0.0000025"),
            open_positions=3,
            realized_pnl=Decimal("0.25"),
            unrealized_pnl=Decimal("-0.000001"),
            minute_at=AT,
        ),
        replace(entry, symbol="ÖL", action="EXIT", side="SELL", realized_pnl=Decimal("-1.5"), order_id="o-1"),
    ]


@pytest.mark.usefixtures("_decoder")
def test_messages_are_those_of_the_codec(driver: Path, path: Path) -> None:
    with engines.engine(driver, path) as engine, Ring(path) as reader:
        assert [engine.trade(), engine.signal(), engine.position(), engine.performance()] == [OK] * 4
        found = reader.read()
    assert [messages.event for messages in found.messages] == list(layout.KINDS.values())
    for messages in found.messages:
        assert of_columns(messages.event, columns(found)[messages.event]) == messages


@pytest.mark.usefixtures("_decoder")
def test_what_happens_in_the_far_future_is_refused_and_the_rest_goes_on(driver: Path, path: Path) -> None:
    soon, late = (int((time.time() + hours * 3_600) * 1e6) for hours in (23, 25))
    with engines.engine(driver, path) as engine, Ring(path) as reader:
        assert [engine.signal(n, generated_at=at) for n, at in enumerate((soon, late, soon))] == [OK] * 3
        found = reader.read()
    assert bars(found) == [0, 2]
    assert found.refused == (records.Refusal(1, "generated_at is in the future, by more than a day"),)


def test_a_reader_that_is_gone_before_it_acknowledged_finds_the_same_again(driver: Path, path: Path) -> None:
    write(driver, path, 5)
    with Ring(path) as reader:
        reader.read(2)
        reader.acknowledge(2)
        rest = reader.read()
    with Ring(path) as reader:
        assert reader.position == 2
        assert reader.read() == rest
        assert reader.read() == ring.NOTHING
        reader.rewind()
        assert bars(reader.read(2)) == [2, 3]
        with pytest.raises(ValueError, match="position 5 was not read; 2 to 4 were"):
            reader.acknowledge(5)


def test_a_ring_goes_round(driver: Path, path: Path) -> None:
    found = []
    with Ring(made(driver, path)) as reader:
        for turn in range(10):
            write(driver, path, 50, first=50 * turn)
            found += bars(reader.read())
            reader.acknowledge(reader.position)
    assert found == list(range(500))


def made(driver: Path, path: Path) -> Path:
    write(driver, path, 0)
    return path


def test_an_engine_killed_in_the_middle_of_an_event_goes_on_in_its_place(driver: Path, path: Path) -> None:
    with engines.engine(driver, path) as engine:
        engine.signal(0)
        engine.die_halfway()
    with Ring(path) as reader:
        assert bars(reader.read()) == [0]
        write(driver, path, 2, first=1)
        assert bars(reader.read()) == [1, 2]


def test_ids_are_uuids_of_version_7_in_the_order_of_time_and_of_publishing(driver: Path, path: Path) -> None:
    with engines.engine(driver, path) as engine:
        for at_us in (1_000_000, 1_000_001, 1_000_002, 1_001_000):
            engine.signal(generated_at=at_us)
    with Ring(path) as reader:
        found = [UUID(bytes=each) for each in columns(reader.read())["SignalGenerated"].column("event_id").to_pylist()]
    assert all((each.version, each.variant) == (7, RFC_4122) for each in found)
    assert found == sorted(found)
    assert [each.int >> 80 for each in found] == [1_000, 1_000, 1_000, 1_001]


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.integers(0, 7_258_118_400_000_000 - 1))
def test_two_positions_have_one_id_only_if_2_to_the_40_lie_between_them(one: int, other: int, at_us: int) -> None:
    same = records.event_id(UUID(int=5), one, at_us) == records.event_id(UUID(int=5), other, at_us)
    assert same == (one % 2**40 == other % 2**40)


def test_ids_of_a_millisecond_are_in_the_order_of_positions_up_to_2_to_the_40() -> None:
    positions = [0, 1, 2**28 - 1, 2**28, 2**29, 2**39, 2**39 + 1, 2**40 - 1]
    found = [records.event_id(UUID(int=5), position, 1_000_000) for position in positions]
    assert found == sorted(set(found))


def test_one_reader_at_a_time(driver: Path, path: Path) -> None:
    with Ring(made(driver, path)), pytest.raises(RingUnusable, match=f"ring {path}: another reader has it open"):
        Ring(path)
    with Ring(path):
        pass


def test_a_ring_of_another_layout_is_refused_with_both(driver: Path, path: Path) -> None:
    data = bytearray(made(driver, path).read_bytes())
    struct.pack_into("<Q", data, 16, 0xABC)
    path.write_bytes(data)
    with pytest.raises(RingUnusable, match=f"layout 1-0000000000000abc, this reader 1-{layout.layout_hash():016x}"):
        Ring(path)


@pytest.mark.parametrize(("at", "number"), [(256, 2**40), (256, 2**63), (256, 2), (384, 6), (384, 2**63), (24, 128)])
def test_a_head_that_makes_no_sense_is_refused(driver: Path, path: Path, at: int, number: int) -> None:
    write(driver, path, 5)
    with Ring(path) as reader:
        reader.read(3)
        reader.acknowledge(3)
    data = bytearray(path.read_bytes())
    struct.pack_into("<Q", data, at, number)
    path.write_bytes(data)
    with pytest.raises(RingUnusable, match=f"ring {path}: its head is damaged"):
        Ring(path)


def test_a_head_that_is_damaged_while_it_is_read_is_said(driver: Path, path: Path) -> None:
    write(driver, path, 5)
    with Ring(path) as reader:
        reader.read(3)
        with path.open("r+b") as file:
            file.seek(256)
            file.write(struct.pack("<Q", 2))
        with pytest.raises(RingUnusable, match="its head is damaged: 2 written, 0 read, 64 slots"):
            reader.read()


def test_a_file_that_is_no_ring_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"SENTIORG", bytes(10_000)):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(RingUnusable, match="the file is no ring"):
            Ring(tmp_path / "file")
    with pytest.raises(RingUnusable, match="No such file"):
        Ring(tmp_path / "none")
