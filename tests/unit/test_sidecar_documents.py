"""JSON objects as events: exact where they are right, refused in words where they are not, and never anything else."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.sidecar.documents import KINDS, Unusable, event_of, parse
from producers.sidecar.numbered import Numbered, messages

TRADE: dict[str, Any] = {
    "type": "TradeExecuted",
    "account": "paper-1",
    "strategy": "rotation",
    "symbol": "TQQQ",
    "action": "ENTRY",
    "side": "BUY",
    "quantity": 100,
    "price": 101.25,
    "fees": "0.35",
    "reason": "signal turned LONG",
    "executed_at": "2025-10-10T13:30:00Z",
}
SIGNAL: dict[str, Any] = {
    "type": "SignalGenerated",
    "symbol": "TQQQ",
    "direction": "LONG",
    "probability": 0.75,
    "confidence": 1,
    "bar_id": 7,
    "generated_at_ms": 1_760_103_000_000,
}


def read(document: dict[str, Any]) -> Any:
    return event_of(parse(json.dumps(document)))


def refused(document: Any) -> str:
    with pytest.raises(Unusable) as failure:
        event_of(parse(json.dumps(document)))
    return str(failure.value)


def test_amounts_are_the_decimals_that_were_written_rounded_once_half_even() -> None:
    text = '{"price": 1379.99000000000165, "quantity": 2.000000005, "fees": "0.0000015"}'
    event = event_of(TRADE | parse(text)).event  # type: ignore[operator] # an object
    assert (event.price, event.quantity, event.fees) == (  # type: ignore[attr-defined] # of the kind that was asked for
        Decimal("1379.9900000000"),
        Decimal("2.00000000"),
        Decimal("0.000002"),
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("executed_at", "2025-10-10T09:30:00.000001-04:00"),
        ("executed_at_us", 1_760_103_000_000_001),
    ],
)
def test_times_are_texts_with_an_offset_or_numbers_with_a_unit(name: str, value: object) -> None:
    document = {key: each for key, each in TRADE.items() if key != "executed_at"} | {name: value}
    assert read(document).event.executed_at == datetime(2025, 10, 10, 13, 30, 0, 1, tzinfo=UTC)


def test_what_no_schema_has_is_left_out_and_named() -> None:
    assert read(TRADE | {"desk": "7", "order_id": None}).unknown == ("desk",)


FUTURE = (datetime.now(UTC) + timedelta(days=2)).isoformat()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"type": "AggregateUpdated"}, "type is 'AggregateUpdated', not one of TradeExecuted"),
        ({"price": -1}, "price is -1, beyond its limits"),
        ({"price": "NaN"}, "price is 'NaN', not a finite number"),
        ({"price": "Infinity"}, "price is 'Infinity', not a finite number"),
        ({"price": True}, "price is True, not a number"),
        ({"price": 0.00000000001}, "beyond its limits"),
        ({"price": "1e30"}, "price is '1e30', beyond its limits"),
        ({"price": "1e400000"}, "price is '1e400000', beyond its limits"),
        ({"price": [1]}, "price is [1], not a number"),
        ({"side": "HOLD"}, "side is 'HOLD', not one of BUY, SELL"),
        ({"side": ["BUY"]}, "side is ['BUY'], not one of BUY, SELL"),
        ({"symbol": ""}, "symbol is '', not a text of one line"),
        ({"symbol": "A\nB"}, "not a text of one line"),
        ({"reason": "A\0B"}, "not a text"),
        ({"reason": 7}, "reason is 7, not a text"),
        ({"reason": "x" * 257}, "reason has 257 bytes, more than 256"),
        ({"reason": "\ud800"}, "reason is"),
        ({"executed_at": "2025-10-10T13:30:00"}, "without an offset"),
        ({"executed_at": "yesterday"}, "not a time such as"),
        ({"executed_at": 1}, "not a time such as"),
        ({"executed_at": "1969-12-31T23:59:59Z"}, "beyond its limits"),
        ({"executed_at": "0001-01-01T00:00:00+14:00"}, "executed_at is"),
        ({"executed_at": FUTURE}, "in the future"),
        ({"executed_at_ms": 1}, "executed_at is there twice"),
        ({"price": None}, "price is None, not a number"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(changed: dict[str, Any], reason: str) -> None:
    assert reason in refused(TRADE | changed)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"probability": 1.5}, "probability is 1.5, beyond its limits"),
        ({"bar_id": 7.0}, "bar_id is 7.0, not a whole number"),
        ({"bar_id": 1 << 63}, "beyond its limits"),
        ({"generated_at_ms": "1"}, "not a whole number"),
        ({"generated_at_ms": 10**18}, "beyond its limits"),
    ],
)
def test_numbers_of_signals_have_limits_too(changed: dict[str, Any], reason: str) -> None:
    assert reason in refused(SIGNAL | changed)


@pytest.mark.parametrize("written", ["NaN", "-Infinity", "1e99999999999999999999", "7" * 5_000])
@pytest.mark.parametrize("name", [name for name in SIGNAL if name != "type"])
def test_numbers_that_are_none_or_beyond_reason_are_refused_by_their_field(name: str, written: str) -> None:
    document = json.dumps(SIGNAL | {name: "@"}).replace('"@"', written)
    with pytest.raises(Unusable, match=f"{name} is "):
        event_of(parse(document))


def test_a_value_of_any_depth_is_refused_in_words() -> None:
    for depth in range(500, 1_000):  # around what can just be parsed, and not be written any more
        with pytest.raises(Unusable):
            event_of(parse(json.dumps(SIGNAL | {"probability": "@"}).replace('"@"', "[" * depth + "]" * depth)))


def test_all_that_is_lacking_is_named() -> None:
    assert (
        refused({"type": "SignalGenerated", "bar_id": 1})
        == "lacks symbol, direction, probability, confidence, generated_at"
    )


@pytest.mark.parametrize("text", ["{", "[1] 2", '{"price": nan}', '{"price": +1}', "[" * 100_000, b'{"a": "\xff"}'])
def test_what_is_no_json_is_refused_in_words(text: Any) -> None:
    with pytest.raises(Unusable, match="is not JSON"):
        parse(text)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["NaN", "1e999", "2025-01-01T00:00:00Z"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = [*TRADE, *SIGNAL, "executed_at_ms", "order_id", "realized_pnl", "beat_at", "price", "volume", "minute_at"]
DOCUMENTS = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=8)


@given(st.sampled_from(KINDS), DOCUMENTS, st.sampled_from([TRADE, SIGNAL, {}]))
def test_any_object_is_an_event_that_can_be_encoded_or_unusable(
    kind: str, document: dict[str, Any], base: dict[str, Any]
) -> None:
    try:
        found = event_of(parse(json.dumps({"type": kind} | base | document)))
    except Unusable:
        return
    (made,) = messages([Numbered("p", UUID(int=1), 1, found.event)])
    assert len(made.values) == 1
