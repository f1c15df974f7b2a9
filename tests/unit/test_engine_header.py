"""clients/c/sentio.h: it is what the schemas say, refuses what they refuse, and one producer at a time has a ring."""

import itertools
import re
import struct
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from producers.sidecar import layout
from producers.sidecar.layout import Field
from producers.sidecar.ring import Ring
from tests import engines
from tests.engines import (
    BAD_AMOUNT,
    BAD_FRACTION,
    BAD_TEXT,
    BAD_TIME,
    BAD_WORD,
    DROPPED,
    FULL,
    HEADER,
    MEMORY,
    NOT_OPEN,
    OK,
    SOURCES,
    Engine,
)
from tests.written import columns

# Of each event: its structure in the header for callers, the one in a slot, and where that is.
IN_C = {
    "TradeExecuted": ("sentio_trade", "sentio_trade_body", "trade"),
    "SignalGenerated": ("sentio_signal", "sentio_signal_body", "signal"),
    "PositionUpdated": ("sentio_position", "sentio_position_body", "held"),
    "PerformanceMinute": ("sentio_performance", "sentio_performance_body", "performance"),
}
NUMBERS = [
    pytest.param(event, field, id=f"{event}.{field.name}")
    for event in layout.KINDS.values()
    for field in layout.fields(event)
    if field.whole
]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "programs"


@pytest.fixture(scope="module")
def driver(programs: Path) -> Path:
    """Under the sanitizers, so that whatever is tried here ends the program where it reads or writes beyond."""
    return engines.built(programs, SOURCES / "driver.c", engines.C, *MEMORY)


@pytest.fixture
def ring(tmp_path: Path) -> Path:
    return tmp_path / "ring"


@pytest.fixture
def engine(driver: Path, ring: Path) -> Iterator[Engine]:
    with engines.engine(driver, ring, capacity=1024) as running:
        yield running


@pytest.mark.parametrize("event", IN_C)
def test_header_has_every_field_of_the_schema(event: str) -> None:
    text = HEADER.read_text()
    caller, body, _ = IN_C[event]
    for name, pattern in (
        (caller, rf"typedef struct {{([^}}]*)}} {caller};"),
        (body, rf"struct {body} {{([^}}]*)}};"),
    ):
        [fields] = re.findall(pattern, text)
        missing = [field.c_name for field in layout.fields(event) if not re.search(rf"\b{field.c_name}\b", fields)]
        assert not missing, f"clients/c/sentio.h: {name} lacks {', '.join(missing)}, which {event} has in schemas/avro"


def test_header_has_the_hash_of_the_layout() -> None:
    [found] = re.findall(r"#define SENTIO_LAYOUT UINT64_C\((0x[0-9a-f]+)\)", HEADER.read_text())
    assert int(found, 16) == layout.layout_hash(), (
        f"schemas/avro has changed: once clients/c/sentio.h has its fields, SENTIO_LAYOUT is {layout.layout_hash():#018x}"
    )


def test_header_lays_out_slots_as_the_reader_reads_them(programs: Path, tmp_path: Path) -> None:
    wanted = {
        f"body.{IN_C[event][2]}.{field.c_name}": (field.offset, field.size)
        for event in layout.KINDS.values()
        for field in layout.fields(event)
    }
    lines = "".join(
        f'    printf("{name} %zu %zu\\n", offsetof(struct sentio_slot, {name}), sizeof slot.{name});\n'
        for name in wanted
    )
    source = tmp_path / "offsets.c"
    source.write_text(
        f'#include "sentio.h"\nint main(void)\n{{\n    struct sentio_slot slot;\n{lines}    return 0;\n}}\n'
    )
    for language in (engines.C, engines.CPP):
        said = [line.split() for line in engines.ran(engines.built(programs, source, language)).splitlines()]
        assert {name: (int(offset), int(size)) for name, offset, size in said} == wanted


def test_words_of_the_header_are_those_of_the_schemas() -> None:
    text = HEADER.read_text()
    for event in layout.KINDS.values():
        for field in layout.fields(event):
            for number, word in enumerate(field.words, 1):
                assert re.search(rf"\bSENTIO_{word} = {number}\b", text), f"{word} of {event}.{field.name}"


@pytest.mark.parametrize(("event", "field"), NUMBERS)
def test_a_number_is_refused_where_its_schema_ends_it_and_not_before(engine: Engine, event: str, field: Field) -> None:
    assert field.whole
    bits = 8 * field.size - 1
    least, most = -(2**bits), 2**bits - 1
    refusal = BAD_TIME if field.suffix == "_us" else BAD_AMOUNT
    publish = getattr(engine, IN_C[event][0].removeprefix("sentio_"))
    tried = {value for limit in (*field.whole, 0, least, most) for value in (limit - 1, limit, limit + 1)}
    forgotten = {0} if field.suffix == "_us" else set()
    also = {"has_realized_pnl": 1} if field.name == "realized_pnl" and field.optional else {}
    for value in sorted(value for value in tried if least <= value <= most):
        unlike_schema = value in forgotten or (also and value == layout.NULL)
        allowed = field.whole[0] <= value <= field.whole[1] and not unlike_schema
        assert publish(**{field.name: value}, **also) == (OK if allowed else refusal), value


@pytest.mark.parametrize("value", ["nan", "-nan", "inf", "-inf", "1.0000000000000002", "-5e-324", "2"])
@pytest.mark.parametrize("field", ["probability", "confidence"])
def test_what_is_no_fraction_is_refused(engine: Engine, field: str, value: str) -> None:
    assert engine.signal(1, **{field: value}) == BAD_FRACTION


@pytest.mark.parametrize("value", ["0", "-0.0", "5e-324", "1"])
def test_a_fraction_is_taken(engine: Engine, value: str) -> None:
    assert engine.signal(probability=value) == OK


def test_what_is_no_number_is_refused_even_where_the_compiler_was_told_that_there_is_none(
    programs: Path, ring: Path
) -> None:
    fast = engines.built(programs, SOURCES / "driver.c", engines.C, "-O3", "-ffast-math")
    with engines.engine(fast, ring) as running:
        assert running.signal(probability="nan") == BAD_FRACTION
        assert running.signal(confidence="inf") == BAD_FRACTION


@pytest.mark.parametrize("name", layout.ROOM)
def test_a_text_of_just_its_room_is_taken_and_a_byte_more_refused(engine: Engine, ring: Path, name: str) -> None:
    room = layout.ROOM[name]
    assert engine.trade(**{name: "x" * (room + 1)}) == BAD_TEXT
    assert engine.trade(**{name: "x" * 5_000}) == BAD_TEXT
    assert engine.trade(**{name: "x" * room}) == OK
    with Ring(ring) as reader:
        assert columns(reader.read())["TradeExecuted"].column(name).to_pylist() == ["x" * room]


@pytest.mark.parametrize("name", layout.ROOM)
def test_a_text_of_any_length_is_read_as_it_was_published(engine: Engine, ring: Path, name: str) -> None:
    least = name in {"account", "symbol"}
    texts = ["abcdefghijklmnopqrstuvwxyz"[length % 7 :][:length] for length in range(least, 20)]
    texts += [(text + "Ö") for text in texts if len(text) + 2 <= layout.ROOM[name]]
    texts = [text for text in texts if len(text.encode()) <= layout.ROOM[name]]
    for text in texts:
        assert engine.trade(**{name: text}) == OK, text
    with Ring(ring) as reader:
        found = columns(reader.read())["TradeExecuted"].column(name).to_pylist()
    assert found == [text or None if name == "order_id" else text for text in texts]


def test_a_text_is_taken_if_it_is_utf_8_and_only_then(engine: Engine) -> None:
    # On both sides of every limit that RFC 3629 sets, in every order.
    borders = bytes.fromhex("41 7f 80 8f 90 9f a0 bf c0 c1 c2 df e0 ec ed ee ef f0 f1 f3 f4 f5 ff")
    long = itertools.product(b"\xe1\xf0\xf3\xf4\xf5", b"\x8f\x90\xbf\x41", b"\x7f\x80\xbf\xc2", b"\x41\x80\xbf\xc0")
    short = (itertools.product(borders, repeat=size) for size in (1, 2, 3))
    for tried in map(bytes, itertools.chain(*short, long)):
        # Across the end of a word, since texts are looked at by words.
        text = (b"sixteen" + tried).decode(errors="surrogateescape")
        assert (engine.signal(symbol=text) != BAD_TEXT) == is_utf8(tried), tried


def is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_no_field_takes_a_text_that_is_not_utf_8(engine: Engine) -> None:
    for name in layout.ROOM:
        assert engine.trade(**{name: "\udcff"}) == BAD_TEXT
        assert engine.trade(**{name: "x" * (layout.ROOM[name] - 2) + "Ö"}) == OK
        assert engine.trade(**{name: "x" * (layout.ROOM[name] - 1) + "\udcc3"}) == BAD_TEXT  # half of it


@pytest.mark.parametrize("name", ["account", "symbol"])
def test_a_key_is_no_empty_text(engine: Engine, name: str) -> None:
    assert engine.trade(**{name: ""}) == engine.trade(**{name: None}) == engine.position(**{name: ""}) == BAD_TEXT


def test_a_word_that_is_none_is_refused(engine: Engine) -> None:
    for number in (-(2**31), -1, 0, 3, 2**31 - 1):
        assert engine.trade(action=number) == engine.trade(side=number) == BAD_WORD
    assert engine.signal(direction=0) == engine.signal(direction=4) == BAD_WORD


def test_what_is_refused_is_counted_and_not_in_the_ring(engine: Engine) -> None:
    assert [engine.trade(), engine.trade(price=0), engine.trade()] == [OK, BAD_AMOUNT, OK]
    assert engine.stats() == (2, 0, 1, 2, 1024)


def test_a_full_ring_says_so_and_has_room_again_once_it_was_read(driver: Path, ring: Path) -> None:
    with engines.engine(driver, ring) as running, Ring(ring) as reader:
        assert [running.signal(number) for number in range(66)] == [OK] * 64 + [FULL] * 2
        assert columns(reader.read(1))["SignalGenerated"].column("bar_id").to_pylist() == [0]
        assert running.signal(64) == FULL  # read, and not yet safe elsewhere
        reader.acknowledge(1)
        assert [running.signal(64), running.signal(65)] == [OK, FULL]
        assert running.stats() == (65, 0, 0, 64, 64)


def test_a_full_ring_drops_the_newest_and_counts_them_where_it_was_told_to(driver: Path, ring: Path) -> None:
    with engines.engine(driver, ring, drop=True) as running, Ring(ring) as reader:
        assert [running.signal(number) for number in range(66)] == [OK] * 64 + [DROPPED] * 2
        assert running.stats().dropped == reader.counts().dropped == 2
        found = reader.read()
        assert columns(found)["SignalGenerated"].column("bar_id").to_pylist() == list(range(64))


def test_nothing_is_published_into_a_closed_ring(engine: Engine) -> None:
    engine.tell("close")
    assert engine.trade() == engine.signal() == engine.position() == engine.performance() == NOT_OPEN


def test_publishing_makes_no_system_call(programs: Path, ring: Path) -> None:
    quiet = engines.built(programs, SOURCES / "quiet.c")
    engines.ran(quiet, ring)
    engines.ran(quiet, ring, "and one call", status=-9)


def test_header_is_cpp_as_well(programs: Path, ring: Path) -> None:
    with engines.engine(engines.built(programs, SOURCES / "driver.c", engines.CPP, *MEMORY), ring) as running:
        assert [running.trade(), running.signal(), running.position(), running.performance()] == [OK] * 4


def test_reader_and_producer_share_a_ring_without_a_race(programs: Path, ring: Path) -> None:
    for language in (engines.C, engines.CPP):
        engines.ran(engines.built(programs, SOURCES / "race.c", language, *engines.THREADS), ring, 20_000)
        ring.unlink()


def test_strict_c_is_told_to_include_the_header_first(tmp_path: Path) -> None:
    source = tmp_path / "late.c"
    source.write_text('#include <stdio.h>\n#include "sentio.h"\nint main(void) { return 0; }\n')
    with pytest.raises(AssertionError, match=r"include sentio\.h before the system"):
        engines.built(tmp_path, source)


def test_the_example_does_what_the_page_says(tmp_path: Path) -> None:
    page = (HEADER.parents[2] / "docs/engine.md").read_text()
    [code] = re.findall(r"```cpp\n(// engine\.cpp\n.*?)```", page, re.DOTALL)
    (tmp_path / "engine.cpp").write_text(code)
    program = engines.built(tmp_path, tmp_path / "engine.cpp", engines.CPP)
    [said] = re.findall(r"It prints `([^`]*)`", page)
    assert engines.ran(program, cwd=tmp_path) == f"{said}\n"
    with Ring(tmp_path / "engine.ring") as reader:
        assert columns(reader.read())["TradeExecuted"].column("price").to_pylist() == [Decimal("101.25")]


def test_every_number_in_a_head_is_where_the_reader_looks(engine: Engine, ring: Path) -> None:
    assert [engine.trade(), engine.trade(price=-1)] == [OK, BAD_AMOUNT]
    head = ring.read_bytes()[: layout.HEAD_BYTES]
    assert head[:32] == struct.pack("<8sQQQ", layout.MAGIC, layout.VERSION, layout.layout_hash(), 1024)
    with Ring(ring) as reader:
        counts = reader.counts()
    assert (counts.published, counts.dropped, counts.refused, counts.unread, counts.capacity) == (1, 0, 1, 1, 1024)
