"""The native codec and the one on fastavro are one: same columns, same bytes, same verdicts, whatever comes."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from io import BytesIO
from math import inf, nan
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.stream.documents import documents
from schemas import codec_fastavro
from schemas.amounts import EXACT
from schemas.codec import encode
from schemas.columns import HEADER, from_events, to_events
from schemas.events import Event
from schemas.layout import FRAME
from schemas.registry import Schema, Version, avro_files, current, locked
from tests.codecs import batches, rows_of

native = pytest.importorskip("schemas.codec_native", reason="native/ is not built: there is no cargo here")

FIRST, SECOND = 7, 8


def pair(newest: Version, versions: Sequence[Version]) -> tuple[Any, codec_fastavro.Codec]:
    return native.Codec(newest, versions), codec_fastavro.Codec(newest, versions)


def house(event: str) -> tuple[Any, codec_fastavro.Codec]:
    return pair(current(event), [version for version in locked().values() if version.event == event])


PAIRS = {event: house(event) for event in avro_files()}


def same(codecs: tuple[Any, codec_fastavro.Codec], messages: list[bytes | None]) -> pa.RecordBatch:
    ours, theirs = codecs
    records, kept, poison = ours.decode(messages)
    expected, expected_kept, unusable = theirs.decode(messages)
    assert list(kept) == list(expected_kept)
    assert [(index, kind) for index, kind in poison] == [(index, why.kind) for index, why in unusable]
    assert records.schema == expected.schema
    # NaN equals nothing, itself included.
    assert repr(records.to_pylist()) == repr(expected.to_pylist())
    same_without_columns(ours, messages, expected, list(kept), poison)
    return records


def same_without_columns(
    ours: Any, messages: list[bytes | None], records: pa.RecordBatch, kept: list[int], poison: list[tuple[int, str]]
) -> None:
    """Where all is of the newest version, fields and JSON text straight from the messages are those of the columns."""
    plain = [n for n, kind in enumerate(records.schema.types) if pa.types.is_string(kind) or pa.types.is_integer(kind)]
    found = ours.fields(messages, plain)
    sound = [messages[index] for index in kept]
    assert (found is None) >= (ours.documents(sound) is None)
    if found is not None:
        columns = [records.column(place).to_pylist() for place in plain]
        assert found == (list(zip(*columns, strict=True)) if columns else [()] * len(kept), kept, poison)
        assert ours.documents(sound) == documents(records)


@given(batches())
def test_both_write_the_same_bytes_and_read_the_same_columns(batch: tuple[str, pa.RecordBatch]) -> None:
    event, records = batch
    ours, theirs = PAIRS[event]
    messages = ours.encode(records)
    assert messages == theirs.encode(records)
    assert same(PAIRS[event], messages) == records
    assert ours.documents(messages) == documents(records)


@pytest.mark.parametrize("unscaled", [0, 127, 128, -128, -129, 2**15 - 1, -(2**15), -(2**15) - 1, -(2**63), 10**28 - 1])
def test_both_write_a_decimal_as_short_as_can_be(unscaled: int) -> None:
    good = rows_of("PerformanceMinute", 1)
    place = good.schema.get_field_index("equity")
    amount = pa.array([Decimal(unscaled).scaleb(-6, EXACT)], good.schema.field(place).type)
    records = good.set_column(place, good.schema.field(place), amount)
    ours, theirs = PAIRS["PerformanceMinute"]
    assert ours.encode(records) == theirs.encode(records)
    assert same(PAIRS["PerformanceMinute"], [*theirs.encode(records)]) == records


# A number of 2**40, of 2**63 - 1, of -1, of more than 64 bits, of more than ten bytes, written long, and a decimal's
# length of 20.
NUMBERS = [
    b"\x80\x80\x80\x80\x80\x40", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x01",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", b"\x80" * 12 + b"\x00", b"\x84\x80\x00", b"\x28",
]  # fmt: skip


Damage = tuple[int, int, int, bytes]
DAMAGE: st.SearchStrategy[Damage] = st.tuples(
    st.integers(0, 9), st.integers(0, 300), st.integers(0, 2**32 - 1), st.binary(max_size=40)
)


def damaged(good: bytes, damage: Damage) -> bytes | None:
    """A message as it may come: whole, cut, with other bytes in it, or noise."""
    kind, at, number, noise = damage
    at %= len(good) + 1
    other = NUMBERS[number % len(NUMBERS)]
    ways: list[bytes | None] = [
        good,
        None,
        good[:at],
        good[:at] + bytes([number % 256]) + good[at + 1 :],
        good[:at] + other + good[at + 1 :],
        good[:at] + other + good[at:],
        good[:at] + noise + good[at + number % 9 :],
        good[:5] + noise,
        noise,
        FRAME.pack(0, number) + good[5:],
    ]
    return ways[kind]


@settings(max_examples=300)
@given(st.sampled_from(sorted(avro_files())), st.lists(DAMAGE, min_size=1, max_size=8))
def test_both_have_the_same_verdict_on_any_bytes(event: str, damages: list[Damage]) -> None:
    good = PAIRS[event][0].encode(rows_of(event, 2))
    same(PAIRS[event], [*(damaged(good[number % 2], damage) for number, damage in enumerate(damages)), good[0]])


@pytest.mark.parametrize("event", sorted(avro_files()))
def test_both_have_the_same_verdict_on_every_byte_changed_one_at_a_time(event: str) -> None:
    good = PAIRS[event][0].encode(rows_of(event, 1))[0]
    changed = [
        good[:at] + bytes([byte]) + good[at + 1 :]
        for at in range(5, len(good))
        for byte in (0, 1, 2, 3, 0x7F, 0x80, 0xFF, good[at] ^ 1)
    ]
    same(PAIRS[event], changed)
    same(PAIRS[event], [good[:at] + number + good[at + 1 :] for at in range(5, len(good)) for number in NUMBERS])
    same(PAIRS[event], [good[:at] for at in range(len(good))])


def test_a_stated_length_of_a_terabyte_costs_nothing() -> None:
    message = FRAME.pack(0, current("TradeExecuted").id) + bytes(16) + NUMBERS[0]
    _, kept, poison = PAIRS["TradeExecuted"][0].decode([message] * 100)
    assert not kept
    assert poison == [(index, "malformed") for index in range(100)]


# --- typed events -------------------------------------------------------------------------------------------------


class Word(str):
    __slots__ = ()


class Moment(datetime):
    """As pandas has: a time that may be finer than its microseconds."""


ODD: list[Any] = [
    None, True, 0, 2**31, -(2**63), 2**63, 1.5, -0.0, inf, nan, "", "text é", "\0", "\ud800", Word("BUY"), "BUY", b"", bytes(16),
    Decimal(0), Decimal("-0"), Decimal("0E-30"), Decimal("1E-30"), Decimal("1E+3"), Decimal("-12.5000000000000"), Decimal("0.07"),
    Decimal("1E+400"), Decimal("9" * 18), Decimal("9" * 19), Decimal("-" + "9" * 22), Decimal("9" * 40), Decimal("0." + "9" * 20),
    Decimal("NaN"), Decimal("-Infinity"), Decimal("sNaN"), "12.5",
    datetime(2025, 3, 1, tzinfo=UTC).replace(tzinfo=None), datetime(2025, 3, 1, tzinfo=timezone(timedelta(hours=-5))), Moment(2025, 3, 1, tzinfo=UTC),
    datetime(1900, 1, 1, 0, 0, 0, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC), date(2025, 3, 1),
]  # fmt: skip


def by_columns(events: list[Any], first_id: bytes, sequences: list[int]) -> list[bytes] | None:
    """What the way over columns makes of them; None where it refuses."""
    ids = [(int.from_bytes(first_id) + place).to_bytes(16) for place in range(len(events))]
    try:
        columns = from_events(events, event_id=ids, producer=["p@1"] * len(events), sequence=sequences)
        return encode(type(events[0]).__name__, columns)
    except (ValueError, TypeError, OverflowError, pa.ArrowException):
        return None


@given(batches(), st.binary(min_size=16, max_size=16).filter(lambda first: first < b"\xff"))
def test_events_are_written_as_their_columns_are(batch: tuple[str, pa.RecordBatch], first_id: bytes) -> None:
    event, records = batch
    events = [
        replace(each, **{name: value.astimezone(UTC) for name, value in times(each)})
        for each in to_events(records, event)
    ]
    sequences = [each.sequence for each in events]
    written = PAIRS[event][0].write(events, first_id, "p@1", sequences)
    assert written is not None, "it takes what a program gives"
    assert written == by_columns(events, first_id, sequences)


def times(event: Event) -> Iterator[tuple[str, Any]]:
    """An event's times as a program gives them: in the zone that Python has for UTC."""
    values = ((each.name, getattr(event, each.name)) for each in fields(event))
    return ((name, value.astimezone(UTC)) for name, value in values if isinstance(value, datetime))


@settings(max_examples=300)
@given(batches(), st.integers(0, 99), st.sampled_from(ODD))
def test_an_odd_value_is_written_as_columns_have_it_or_not_at_all(
    batch: tuple[str, pa.RecordBatch], place: int, odd: Any
) -> None:
    event, records = batch
    names = [name for name in records.schema.names if name not in HEADER]
    events = [*to_events(records, event)]
    events[-1] = replace(events[-1], **{names[place % len(names)]: odd})
    sequences = list(range(len(events)))
    written = PAIRS[event][0].write(events, bytes(16), "p@1", sequences)
    assert written is None or written == by_columns(events, bytes(16), sequences)


def test_what_events_lack_or_are_not_is_left_to_the_columns() -> None:
    write = PAIRS["TradeExecuted"][0].write
    assert write([object()], bytes(16), "p@1", [0]) is None
    assert write([None], bytes(16), "p@1", [0]) is None
    assert write([], bytes(16), "p@1", []) == []


# --- several writers of one event ----------------------------------------------------------------------------------

ENUM = {"type": "enum", "name": "Side", "symbols": ["BUY", "SELL"]}
CENTS = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
NOW: Schema = {
    "type": "record",
    "name": "Probe",
    "fields": [
        {"name": "symbol", "type": "string"},
        {"name": "amount", "type": CENTS, "from": -5},
        {"name": "side", "type": ENUM},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "venue", "type": "string", "default": "XNYS"},
        {"name": "count", "type": "long", "default": 3, "above": 0},
        {"name": "ratio", "type": "double", "default": 0.5, "from": 0, "to": 1},
        {"name": "seen_at", "type": {"type": "long", "logicalType": "timestamp-micros"}, "default": 0},
    ],
}


def before(*fields: Schema) -> Schema:
    """An earlier version with other fields; those of today in reverse order, some of them not there yet."""
    return {**NOW, "fields": [*NOW["fields"][2::-1], *fields]}


OLDER = [
    before(),
    before({"name": "gone", "type": ["null", "string"], "default": None}, {"name": "blob", "type": "bytes"}),
    before({"name": "count", "type": "int"}),
    before({"name": "kind", "type": {"type": "enum", "name": "Gone", "symbols": ["A", "B"]}}, NOW["fields"][6]),
]


def probes(schema: Schema, number: int) -> bytes:
    row = {
        "symbol": f"S{number}", "amount": Decimal(number) / 100, "side": "BUY" if number % 2 else "SELL", "note": "é",
        "venue": "", "count": number + 1, "ratio": 1 / (number + 1), "seen_at": number, "gone": None, "blob": b"\xff",
        "kind": "B",
    }  # fmt: skip
    body = BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), row)
    return body.getvalue()


@pytest.mark.parametrize("older", OLDER, ids=["added", "removed", "promoted", "reordered"])
def test_messages_of_several_versions_in_one_batch_come_in_their_order_as_the_newest(older: Schema) -> None:
    codecs = PROBES[OLDER.index(older)]
    messages: list[bytes | None] = []
    for number in range(40):
        version, schema = (FIRST, older) if number % 3 else (SECOND, NOW)
        messages.append(FRAME.pack(0, version) + probes(schema, number))
    messages[20] = None
    records = same(codecs, messages)
    assert records["symbol"].to_pylist() == [f"S{number}" for number in range(40) if number != 20]
    assert records["amount"].to_pylist()[1] == Decimal("0.01")
    assert records["venue"].to_pylist()[:4] == ["", "XNYS", "XNYS", ""]


def test_a_field_that_was_renamed_is_found_by_its_alias() -> None:
    renamed = {**NOW, "fields": [{**NOW["fields"][0], "name": "ticker", "aliases": ["symbol"]}, *NOW["fields"][1:]]}
    newest = Version(SECOND, "Probe", renamed)
    records = same(pair(newest, [Version(FIRST, "Probe", NOW), newest]), [FRAME.pack(0, FIRST) + probes(NOW, 1)])
    assert records["ticker"].to_pylist() == ["S1"]


NEWEST = Version(SECOND, "Probe", NOW)
PROBES = [pair(NEWEST, [Version(FIRST, "Probe", older), NEWEST]) for older in OLDER]


@settings(max_examples=200)
@given(st.integers(0, len(OLDER) - 1), st.integers(0, 50), DAMAGE, DAMAGE)
def test_both_have_the_same_verdict_on_damaged_messages_of_older_writers(
    which: int, number: int, first: Damage, second: Damage
) -> None:
    good = FRAME.pack(0, FIRST) + probes(OLDER[which], number)
    same(PROBES[which], [damaged(good, first), good, FRAME.pack(0, SECOND) + probes(NOW, 2), damaged(good, second)])


def test_a_word_that_is_none_of_the_enum_is_refused_by_both() -> None:
    records = rows_of("TradeExecuted", 2)
    at = records.schema.get_field_index("side")
    wrong = records.set_column(at, records.schema.field(at), pa.array(["BUY", "HOLD"]))
    for each in PAIRS["TradeExecuted"]:
        with pytest.raises(ValueError, match="HOLD"):
            each.encode(wrong)
