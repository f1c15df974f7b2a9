"""A ring that is damaged: what can be read is read, the rest is named, and nothing is read beyond the file."""

import struct
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.sidecar import layout, records, ring
from producers.sidecar.records import Records, Refusal
from producers.sidecar.ring import Ring
from sentio.errors import RingUnusable
from tests import engines
from tests.engines import OK, SOURCES
from tests.written import columns

Decode = Callable[[bytes, int, UUID, str, int], Records]

LATEST_US = 1_800_000_000_000_000

DECODERS = [pytest.param(decode, id=name) for name, decode in ring.DECODERS.items()]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engines.built(tmp_path_factory.getbasetemp() / "programs", SOURCES / "driver.c")


@pytest.fixture(scope="module")
def sound(driver: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A ring with all kinds of events."""
    path = tmp_path_factory.mktemp("sound") / "ring"
    with engines.engine(driver, path) as engine:
        for number in range(8):
            assert [engine.signal(number), engine.trade(), engine.position(), engine.performance()] == [OK] * 4
    return path.read_bytes()


@pytest.fixture(params=DECODERS)
def decode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Decode:
    """The one that the ring uses, too."""
    monkeypatch.setattr(ring, "decode", request.param)
    chosen: Decode = request.param
    return chosen


def slot_of(data: bytes, position: int) -> bytearray:
    start = layout.HEAD_BYTES + position * layout.SLOT_BYTES
    return bytearray(data[start : start + layout.SLOT_BYTES])


def with_slot(data: bytes, position: int, slot: bytearray) -> bytes:
    start = layout.HEAD_BYTES + position * layout.SLOT_BYTES
    return data[:start] + slot + data[start + layout.SLOT_BYTES :]


def sealed(slot: bytearray, event: str) -> bytes:
    """With the checksum of what it holds now: written so by an engine, not damaged."""
    struct.pack_into("<Q", slot, 0, records.checksum(bytes(slot), layout.slot_bytes(event)))
    return bytes(slot)


@pytest.mark.usefixtures("decode")
@pytest.mark.parametrize("at", [0, 7, 8, 15, 16, 24, 40, 47, 79])
def test_a_damaged_record_is_named_and_the_rest_goes_on(sound: bytes, tmp_path: Path, at: int) -> None:
    slot = slot_of(sound, 4)
    slot[at] ^= 0x10
    (tmp_path / "ring").write_bytes(with_slot(sound, 4, slot))
    with Ring(tmp_path / "ring") as reader:
        found = reader.read()
    assert columns(found)["SignalGenerated"].column("bar_id").to_pylist() == [0, 2, 3, 4, 5, 6, 7]
    assert found.refused == (Refusal(4, "it is damaged: its checksum is not that of its content"),)


@pytest.mark.usefixtures("decode")
def test_a_record_in_anothers_place_is_named(sound: bytes, tmp_path: Path) -> None:
    (tmp_path / "ring").write_bytes(with_slot(sound, 4, slot_of(sound, 8)))
    with Ring(tmp_path / "ring") as reader:
        found = reader.read()
    assert columns(found)["SignalGenerated"].column("bar_id").to_pylist() == [0, 2, 3, 4, 5, 6, 7]
    assert found.refused == (Refusal(4, "it says that it is at position 8"),)


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (24, b"\xff\xfe\0", "symbol is not UTF-8"),
        (40, struct.pack("<i", 4), "direction is none of its words"),
        (40, struct.pack("<i", 0), "direction is none of its words"),
        (48, struct.pack("<d", float("nan")), "probability is beyond its limits"),
        (56, struct.pack("<d", 1.5), "confidence is beyond its limits"),
        (72, struct.pack("<q", -1), "generated_at is beyond its limits"),
    ],
)
def test_what_no_header_would_write_is_refused_with_the_reason(
    sound: bytes, decode: Decode, at: int, value: bytes, reason: str
) -> None:
    slot = slot_of(sound, 0)
    slot[at : at + len(value)] = value
    found = decode(sealed(slot, "SignalGenerated"), 0, UUID(int=1), "engine@1", LATEST_US)
    assert found.refused == (Refusal(0, reason),)
    assert not found.messages


damage = st.lists(st.tuples(st.integers(0, 2**32), st.binary(min_size=1, max_size=16)), min_size=1, max_size=8)


def damaged(data: bytes, damage: list[tuple[int, bytes]], size: int) -> bytearray:
    """Somewhere in its first ``size`` bytes."""
    changed = bytearray(data)
    for at, content in damage:
        start = at % (size - 16)
        changed[start : start + len(content)] = content
    return changed


@given(damage=damage, in_head=st.booleans(), cut=st.one_of(st.none(), st.integers(0, 30_000)))
def test_whatever_is_damaged_the_reader_ends_in_its_own_words(
    sound: bytes,
    tmp_path_factory: pytest.TempPathFactory,
    damage: list[tuple[int, bytes]],
    *,
    in_head: bool,
    cut: int | None,
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(damaged(sound, damage, 464 if in_head else len(sound))[:cut])
    try:
        with Ring(path) as reader:
            count = reader.counts().unread
            found = reader.read()
    except RingUnusable as failure:
        said = str(failure)
    else:
        said = str(path)
        assert sum(len(messages.values) for messages in found.messages) + len(found.refused) == count
    assert str(path) in said


@pytest.mark.skipif("native" not in ring.DECODERS, reason="the native code is not built")
@given(damage=damage, seal=st.booleans())
def test_both_decoders_find_the_same(sound: bytes, damage: list[tuple[int, bytes]], *, seal: bool) -> None:
    data = damaged(sound[layout.HEAD_BYTES :], damage, 32 * layout.SLOT_BYTES)
    slots = [data[start : start + layout.SLOT_BYTES] for start in range(0, 32 * layout.SLOT_BYTES, layout.SLOT_BYTES)]
    if seal:  # so that what lies beyond its limits comes through the checksum
        slots = [bytearray(sealed(slot, event)) if (event := kind(slot)) else slot for slot in slots]
    given = (b"".join(slots), 0, UUID(int=2**100 + 7), "engine@1", LATEST_US)
    plain, native = (decode(*given) for decode in ring.DECODERS.values())
    assert plain == native


def kind(slot: bytearray) -> str | None:
    return layout.KINDS.get(int.from_bytes(slot[16:24], "little"))
