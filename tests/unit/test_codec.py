"""Bytes to columns and back: exact, and one bad message never spoils the others."""

import shutil
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import NATIVE, decode, encode
from schemas.columns import from_events, to_events
from schemas.layout import FRAME
from schemas.registry import current
from tests.codecs import batches
from tests.samples import encoded, signal, trade


def test_where_there_is_cargo_the_native_codec_is_built() -> None:
    assert NATIVE or shutil.which("cargo") is None


@given(batches())
def test_every_event_comes_back_as_it_was_encoded(batch: tuple[str, pa.RecordBatch]) -> None:
    event, records = batch
    decoded = decode(event, encode(event, records))
    assert decoded.poison == ()
    assert decoded.records == records


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_decoded_or_given_back_with_a_reason(noise: bytes, framed: bool) -> None:  # noqa: FBT001 - given by name
    message = FRAME.pack(0, current("TradeExecuted").id) + noise if framed else noise
    decoded = decode("TradeExecuted", [encoded(trade()), message])
    assert decoded.kept[0] == 0
    assert len(decoded.kept) + len(decoded.poison) == 2
    assert decoded.records.num_rows == len(decoded.kept)


@given(st.data())
def test_a_flipped_or_cut_message_costs_only_itself(data: st.DataObject) -> None:
    good = encoded(trade(1, pnl="-12.5"), number=1)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = data.draw(st.sampled_from([good[:at], good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :]]))
    decoded = decode("TradeExecuted", [good, bad, good])
    assert decoded.kept[0] == 0
    assert decoded.kept[-1] == 2
    ends = decoded.records.take(pa.array([0, decoded.records.num_rows - 1]))
    assert to_events(ends, "TradeExecuted")[0] == to_events(ends, "TradeExecuted")[1]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (None, "tombstone"),
        (b"hello, this is no Avro", "not framed"),
        (b"", "not framed"),
        (FRAME.pack(0, 7) + b"abc", "unknown schema id 7"),
        (encoded(signal()), "SignalGenerated, this topic carries TradeExecuted"),
        (encoded(trade())[:-1], "ends too early"),
        (encoded(trade()) + b"\0", "1 bytes after the end"),
        (encoded(trade(quantity=Decimal(0))), "quantity is 0E-8, not above 0"),
        (encoded(trade(price=Decimal(-1))), "not above 0"),
        (encoded(trade(reason="a\0b")), "reason holds a NUL character"),
        (encoded(trade(executed_at=datetime(2300, 1, 1, tzinfo=UTC))), "outside the years"),
        # A length of 2**40 in front of a string that is not there.
        (encoded(trade())[:21] + b"\x80\x80\x80\x80\x80\x80\x01", "TradeExecuted in Avro"),
    ],
)
def test_what_cannot_be_used_says_why(message: bytes | None, reason: str) -> None:
    decoded = decode("TradeExecuted", [encoded(trade()), message, encoded(trade())])
    assert list(decoded.kept) == [0, 2]
    [(index, why)] = decoded.poison
    assert index == 1
    assert reason in why


@pytest.mark.parametrize(
    ("probability", "reason"), [(float("nan"), "is nan"), (-0.1, "is -0.1, below 0"), (1.5, "is 1.5, above 1")]
)
def test_a_probability_is_from_0_to_1(probability: float, reason: str) -> None:
    decoded = decode("SignalGenerated", [encoded(signal(probability=probability))])
    assert f"probability {reason}" in decoded.poison[0][1]


def test_an_amount_larger_than_its_column_is_poison() -> None:
    message = encoded(trade(price=Decimal("123456.7890123456")))
    digits = int(Decimal("123456.7890123456").scaleb(10)).to_bytes(7, "big")
    assert message.count(b"\x0e" + digits) == 1
    larger = message.replace(b"\x0e" + digits, b"\x1c" + (10**30).to_bytes(14, "big"))
    decoded = decode("TradeExecuted", [larger])
    assert decoded.poison == ((0, "price has more than 18 digits before the point"),)


def test_nothing_is_rounded_on_the_way_to_columns() -> None:
    with pytest.raises(pa.ArrowInvalid):
        from_events([trade(price=Decimal("1.00000000001"))])
