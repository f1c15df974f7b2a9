"""The words of the stream, and how events are written in them."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import wire
from gateway.stream import documents, protocol
from gateway.stream.channels import parse
from gateway.stream.protocol import Refused, parse_request
from schemas.columns import from_events
from schemas.events import SignalGenerated, TradeExecuted

AT = datetime(2025, 10, 10, 13, 30, 0, 1, tzinfo=UTC)


def refusal(text: str | bytes) -> Refused:
    with pytest.raises(Refused) as raised:
        parse_request(text)
    return raised.value


def test_subscribe_names_channels_and_cursors() -> None:
    request = parse_request(
        '{"id":"x","op":"subscribe","channels":["trades","signals.BRK.B","trades"],"cursor":{"trades":"abc"}}'
    )
    assert [(one.name, one.topic.name, one.value) for one in request.channels] == [
        ("trades", "trades.executed", None),
        ("signals.BRK.B", "signals.generated", "BRK.B"),
    ]
    assert (request.id, request.op, request.cursors) == ("x", "subscribe", {"trades": "abc"})


def test_time_to_begin_at_may_be_of_any_zone() -> None:
    request = parse_request('{"op":"subscribe","channels":["trades"],"from":"2026-11-19T09:30:00.5-05:00"}')
    assert request.since == datetime(2026, 11, 19, 14, 30, 0, 500_000, UTC)
    assert request.since.tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "bad_json"),
        (b"{}", "bad_json"),
        ("[" * 50_000, "bad_json"),
        ('{"id":' + "9" * 5_000 + "}", "bad_json"),
        ("null", "bad_request"),
        ('{"op":"subscribe","channels":[]}', "bad_request"),
        ('{"op":"subscribe","channels":"trades"}', "bad_request"),
        ('{"op":"subscribe","channels":[1]}', "bad_request"),
        ('{"op":"subscribe","channels":["trades"],"cursor":{"trades":1}}', "bad_request"),
        ('{"op":"subscribe","channels":["trades"],"cursor":["x"]}', "bad_request"),
        ('{"op":"subscribe","channels":["trades"],"from":1}', "bad_request"),
        ('{"op":"subscribe","channels":["trades"],"from":"yesterday"}', "bad_request"),
        ('{"op":"subscribe","channels":["trades"],"from":"2026-11-19T14:30:00"}', "bad_request"),
        ('{"op":"subscribe","channels":["trades"],"from":"0001-01-01T00:00:00+23:00"}', "bad_request"),
        ('{"op":"subscribe","channels":["trades"],"from":"9999-12-31T23:59:59-23:00"}', "bad_request"),
        ('{"op":"ping","id":NaN}', "bad_request"),
        ('{"op":"ping","id":true}', "bad_request"),
        ('{"op":"ping","id":[1]}', "bad_request"),
        ("{}", "unknown_op"),
        ('{"op":["ping"]}', "unknown_op"),
        ('{"op":"subscribe","channels":["trades."]}', "unknown_channel"),
        ('{"op":"subscribe","channels":["trades.\\ud800"]}', "unknown_channel"),
        ('{"op":"subscribe","channels":["Trades"]}', "unknown_channel"),
        (json.dumps({"op": "subscribe", "channels": [f"trades.{n}" for n in range(201)]}), "too_many_channels"),
        ('{"op":"ping"}' + " " * 65_536, "too_large"),
        ('"' + "é" * 33_000 + '"', "too_large"),
    ],
)
def test_what_cannot_be_followed_has_a_code(text: str | bytes, code: str) -> None:
    assert refusal(text).code == code


def test_refusal_repeats_the_id() -> None:
    assert refusal('{"id":5,"op":"dance"}').request_id == 5


@given(st.text() | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_no_text_crashes(text: str) -> None:
    try:
        parse_request(text)
    except Refused as refused:
        json.loads(protocol.error(refused.request_id, refused.code, str(refused)))


@given(st.fixed_dictionaries({"op": st.sampled_from(["subscribe", "unsubscribe"]), "channels": st.lists(st.text())}))
def test_no_channel_name_crashes(said: dict[str, object]) -> None:
    try:
        request = parse_request(json.dumps(said))
    except Refused as refused:
        json.loads(protocol.error(None, refused.code, str(refused)))
    else:
        json.loads(protocol.ack(request.id, request.channels))


@given(
    st.decimals(min_value=Decimal("-1e17"), max_value=Decimal("1e17"), places=10),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.datetimes(timezones=st.just(UTC)),
    st.none() | st.decimals(min_value=-(10**20), max_value=10**20, places=6),
)
def test_event_survives_its_json(
    price: Decimal, reason: str, executed_at: datetime, realized_pnl: Decimal | None
) -> None:
    trade = TradeExecuted(
        event_id=UUID(int=9).bytes,
        producer="engine",
        sequence=3,
        account="a",
        strategy="s",
        symbol='"',
        action="EXIT",
        side="SELL",
        quantity=Decimal("0.00000001"),
        price=price,
        realized_pnl=realized_pnl,
        fees=Decimal("0E-6"),
        reason=reason,
        executed_at=executed_at,
    )
    [text] = documents.documents(from_events([trade]))
    read = json.loads(text)
    assert list(read) == list(asdict(trade))
    assert read["event_id"] == "00000000-0000-0000-0000-000000000009"
    assert (read["symbol"], read["reason"], read["order_id"]) == ('"', reason, None)
    assert read["quantity"] == "0.00000001"
    assert read["fees"] == "0"
    assert Decimal(read["price"]) == price
    assert "E" not in read["price"]
    assert (read["realized_pnl"] and Decimal(read["realized_pnl"])) == realized_pnl or realized_pnl == 0
    assert read["executed_at"].endswith("Z")
    assert datetime.fromisoformat(read["executed_at"]) == executed_at


def test_rows_of_the_database_are_written_as_updates_are() -> None:
    signals = [
        SignalGenerated(
            event_id=UUID(int=1).bytes,
            producer="p",
            sequence=0,
            symbol="SPY",
            direction="LONG",
            probability=probability,
            confidence=0.1,
            bar_id=7,
            generated_at=AT,
        )
        for probability in (0.25, float("nan"), float("inf"))
    ]
    written = documents.documents(from_events(signals))
    rows = [{**asdict(signal), "event_id": UUID(bytes=signal.event_id)} for signal in signals]
    assert written == [wire.dumps(wire.document(row)) for row in rows]
    assert [json.loads(text)["probability"] for text in written] == [0.25, None, None]


def test_no_rows_make_no_documents() -> None:
    assert documents.documents(pa.record_batch({"a": pa.array([], pa.string())})) == []


def test_frames_are_json_with_all_they_need() -> None:
    channel = parse("trades.é")
    frame = json.loads(protocol.update(channel, partition=3, offset=7, prev=5, cursor="c", body='"at":"t","data":{}'))
    assert frame == {
        "type": "update",
        "channel": "trades.é",
        "seq": "3:7",
        "prev": "3:5",
        "cursor": "c",
        "at": "t",
        "data": {},
    }
    first = protocol.update(channel, partition=3, offset=7, prev=None, cursor="c", body='"at":"t","data":{}')
    assert json.loads(first)["prev"] is None
    snapshot = json.loads(protocol.snapshot(channel, "c", ['{"a":1}', '{"a":2}'], truncated=False))
    assert (snapshot["data"], snapshot["truncated"]) == ([{"a": 1}, {"a": 2}], False)
    greeting = json.loads(protocol.greeting(15))
    assert (greeting["type"], greeting["version"], greeting["heartbeat_s"]) == ("greeting", 1, 15)
    assert {"trades", "signals", "positions", "performance", "bars", "prices", "engine", "aggregates"} == set(
        greeting["channels"]
    )


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0E-10", "0"),
        ("-0.00", "0"),
        ("100.500", "100.5"),
        ("1E+3", "1000"),
        ("1200", "1200"),
        ("-0.0000000001", "-0.0000000001"),
    ],
)
def test_amounts_are_plain(amount: str, text: str) -> None:
    assert wire.decimal_text(Decimal(amount)) == text


def test_kafka_time_that_is_no_time_is_the_start_of_1970() -> None:
    assert wire.milliseconds_text(1_760_103_000_001) == "2025-10-10T13:30:00.001Z"
    assert wire.milliseconds_text(-1) == wire.milliseconds_text(1 << 62) == "1970-01-01T00:00:00.000Z"
