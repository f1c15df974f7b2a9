"""The native codec and the one on fastavro are one: same columns, same bytes, same verdicts, whatever comes."""

import json
import shutil
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import codec, codec_fastavro
from schemas.layout import FRAME
from schemas.registry import Schema, Version, avro_files, current, locked
from tests.codecs import batches, rows_of

native = pytest.importorskip("schemas.codec_native", reason="native/ is not built: there is no cargo here")

FIRST, SECOND = 7, 8


def test_where_there_is_cargo_the_native_codec_is_built() -> None:
    assert codec.NATIVE or shutil.which("cargo") is None


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
    return records


@given(batches())
def test_both_write_the_same_bytes_and_read_the_same_columns(batch: tuple[str, pa.RecordBatch]) -> None:
    event, records = batch
    ours, theirs = PAIRS[event]
    messages = ours.encode(records)
    assert messages == theirs.encode(records)
    assert same(PAIRS[event], messages) == records


# A number of 2**40, of 2**63 - 1, of -1, of more than 64 bits, of more than ten bytes, written long, and a decimal's
# length of 20.
NUMBERS = [
    b"\x80\x80\x80\x80\x80\x40", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x01",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", b"\x80" * 12 + b"\x00", b"\x84\x80\x00", b"\x28",
]  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes | None:
    at = draw(st.integers(0, len(good)))
    upto = draw(st.integers(at, min(len(good), at + 8)))
    kinds: list[st.SearchStrategy[bytes | None]] = [
        st.just(good),
        st.none(),
        st.just(good[:at]),
        st.integers(0, 255).map(lambda byte: good[:at] + bytes([byte]) + good[at + 1 :]),
        st.sampled_from(NUMBERS).map(lambda number: good[:at] + number + good[at + 1 :]),
        st.sampled_from(NUMBERS).map(lambda number: good[:at] + number + good[at:]),
        st.binary(max_size=12).map(lambda noise: good[:at] + noise + good[upto:]),
        st.binary(max_size=200).map(lambda noise: good[:5] + noise),
        st.binary(max_size=60),
        st.integers(0, 2**32 - 1).map(lambda other: FRAME.pack(0, other) + good[5:]),
    ]
    return draw(st.one_of(kinds))


@settings(max_examples=400)
@given(st.data(), batches())
def test_both_have_the_same_verdict_on_any_bytes(data: st.DataObject, batch: tuple[str, pa.RecordBatch]) -> None:
    event, records = batch
    good = PAIRS[event][0].encode(records)
    messages = [data.draw(damaged(data.draw(st.sampled_from(good)))) for _ in range(data.draw(st.integers(1, 6)))]
    same(PAIRS[event], [*messages, good[0]])


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
    from io import BytesIO

    import fastavro

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
    newest = Version(SECOND, "Probe", NOW)
    codecs = pair(newest, [Version(FIRST, "Probe", older), newest])
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


@settings(max_examples=200)
@given(st.data(), st.sampled_from(OLDER))
def test_both_have_the_same_verdict_on_damaged_messages_of_older_writers(data: st.DataObject, older: Schema) -> None:
    newest = Version(SECOND, "Probe", NOW)
    codecs = _probe_pair(json.dumps(older))
    good = FRAME.pack(0, FIRST) + probes(older, data.draw(st.integers(0, 50)))
    same(codecs, [data.draw(damaged(good)), good, FRAME.pack(0, newest.id) + probes(NOW, 2), data.draw(damaged(good))])


_made: dict[str, tuple[Any, codec_fastavro.Codec]] = {}


def _probe_pair(older: str) -> tuple[Any, codec_fastavro.Codec]:
    newest = Version(SECOND, "Probe", NOW)
    return _made.setdefault(older, pair(newest, [Version(FIRST, "Probe", json.loads(older)), newest]))


def test_a_word_that_is_none_of_the_enum_is_refused_by_both() -> None:
    records = rows_of("TradeExecuted", 2)
    at = records.schema.get_field_index("side")
    wrong = records.set_column(at, records.schema.field(at), pa.array(["BUY", "HOLD"]))
    for each in PAIRS["TradeExecuted"]:
        with pytest.raises(ValueError, match="HOLD"):
            each.encode(wrong)
