"""The words of Pusher's protocol, its signatures, and how events are written in them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.pusher import words
from gateway.pusher.dialect import PRIVATE, PUBLIC
from gateway.pusher.session import Apps
from gateway.pusher.signature import is_signed
from gateway.pusher.words import Malformed, Refused, parse
from gateway.stream import protocol
from gateway.stream.channels import parse as channel_of
from gateway.stream.channels import served
from gateway.stream.cursor import Positions
from gateway.stream.ring import Log
from schemas.columns import arrow_schema
from sentio.config import StreamSettings
from sentio.errors import SettingError
from tests.gateways import trade
from tests.stages import rows

# Those of Pusher's documentation.
KEY, SECRET = "278d425bdf160c739803", "7ad3773142a6692b25b8"
OF_PRIVATE = "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"
OF_PRESENCE = "31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80"
MEMBER = '{"user_id":10,"user_info":{"name":"Mr. Channels"}}'

TEXT = st.text(st.characters(exclude_categories=()))  # halves of characters too, which JSON may hold
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
)
EVENTS = st.sampled_from(["pusher:subscribe", "pusher:unsubscribe", "pusher:ping", "pusher:pong", "client-x", "x"])
DATA = st.dictionaries(st.sampled_from(["channel", "auth", "channel_data"]), ANY_JSON)
FRAMES = st.fixed_dictionaries({"event": EVENTS | ANY_JSON}, optional={"data": DATA | DATA.map(json.dumps) | ANY_JSON})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"event":"pusher:ping","data":""}', words.Ping()),
        ('{"event":"pusher:ping"}', words.Ping()),
        ('{"event":"pusher:pong","data":{}}', words.Pong()),
        ('{"event":"pusher:subscribe","data":{"channel":"trades","auth":""}}', words.Subscribe("trades", "")),
        (
            '{"event":"pusher:subscribe","data":"{\\"channel\\":\\"private-a\\",\\"auth\\":\\"k:s\\"}"}',
            words.Subscribe("private-a", "k:s"),
        ),
        (
            '{"event":"pusher:subscribe","data":{"channel":"presence-a","channel_data":"{}"}}',
            words.Subscribe("presence-a", None, "{}"),
        ),
        (
            '{"event":"pusher:subscribe","data":{"channel":"presence-a","channel_data":{}}}',
            words.Subscribe("presence-a"),
        ),
        ('{"event":"pusher:unsubscribe","data":{"channel":"trades"}}', words.Unsubscribe("trades")),
        ('{"event":"client-typing","channel":"private-a","data":[1]}', words.ClientEvent("client-typing")),
    ],
)
def test_what_pushers_clients_say_is_understood(text: str, said: words.Said) -> None:
    assert parse(text) == said


@pytest.mark.parametrize(
    "text",
    [
        "",
        b"{}",
        "null",
        '"{}x"',
        "[" * 50_000,
        '{"event":' + "9" * 5_000 + "}",
        '{"event":"pusher:subscribe"}',
        '{"event":"pusher:subscribe","data":"trades"}',
        '{"event":"pusher:subscribe","data":{"channel":1}}',
        '{"event":"pusher:subscribe","data":{"channel":""}}',
        '{"event":"pusher:subscribe","data":{"channel":"trades","auth":1}}',
        '{"event":"pusher:signin","data":{}}',
        '{"event":["pusher:ping"]}',
        '{"event":"pusher:ping","data":"' + "x" * words.MAX_REQUEST_BYTES + '"}',
    ],
)
def test_what_is_none_of_pushers_is_refused(text: str | bytes) -> None:
    with pytest.raises(Malformed):
        parse(text)


@given(st.text() | st.binary() | ANY_JSON.map(json.dumps) | FRAMES.map(json.dumps))
def test_no_frame_does_more_than_be_refused(text: str | bytes) -> None:
    try:
        said = parse(text)
    except Malformed as failure:
        answer = words.error(None, str(failure))
    else:
        channel, auth = getattr(said, "channel", ""), getattr(said, "auth", "") or ""
        extra = getattr(said, "channel_data", None)
        assert not is_signed(auth, key=KEY, secret=SECRET, socket_id="1.1", channel=channel, channel_data=extra)
        answer = words.subscription_error(channel, 404, "no")
        assert json.loads(answer)["channel"] == channel
    assert json.loads(answer)["data"]


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/app/", 4005),
        ("/app/?protocol=7", 4005),
        ("/app/a/b?protocol=7", 4005),
        ("/app/a", 4008),
        ("/app/a?client=js", 4008),
        ("/app/a?protocol=seven", 4006),
        ("/app/a?protocol=-7", 4006),
        ("/app/a?protocol=%C2%B2", 4006),
        ("/app/a?protocol=7&protocol=6", 4006),
        ("/app/a?protocol=" + "7" * 5_000, 4006),
        ("/app/a?protocol=4", 4007),
        ("/app/a?protocol=8", 4007),
    ],
)
def test_handshake_that_cannot_be_served_has_the_code_for_it(target: str, code: int) -> None:
    with pytest.raises(Refused) as raised:
        words.key_of(target)
    assert raised.value.code == code
    assert len(str(raised.value).encode()) <= 123  # as much as a close frame holds


@pytest.mark.parametrize("protocol", [5, 6, 7])
def test_handshake_names_its_app(protocol: int) -> None:
    assert words.key_of(f"/app/a-b_1?protocol={protocol}&client=js&version=8.6.0&flash=false") == "a-b_1"


@pytest.mark.parametrize("target", ["/", "", "/stream?token=x", "/application/a?protocol=7", "/app?protocol=7", "//["])
def test_any_other_path_is_the_streams_own(target: str) -> None:
    assert words.key_of(target) is None


def test_signatures_of_the_documentation_are_good() -> None:
    app = {"key": KEY, "secret": SECRET, "socket_id": "1234.1234"}
    assert is_signed(f"{KEY}:{OF_PRIVATE}", **app, channel="private-foobar")
    assert is_signed(f"{KEY}:{OF_PRESENCE}", **app, channel="presence-foobar", channel_data=MEMBER)


@pytest.mark.parametrize(
    ("auth", "changed"),
    [
        ("", {}),
        (OF_PRIVATE, {}),
        (f"other:{OF_PRIVATE}", {}),
        (f"{KEY}:{OF_PRIVATE.upper()}", {}),
        (f"{KEY}:{OF_PRIVATE[:-1]}", {}),
        (f"{KEY}:{OF_PRIVATE}", {"socket_id": "1234.1235"}),
        (f"{KEY}:{OF_PRIVATE}", {"channel": "private-foobaz"}),
        (f"{KEY}:{OF_PRIVATE}", {"secret": SECRET[::-1]}),
        (f"{KEY}:{OF_PRIVATE}", {"channel_data": ""}),
        (f"{KEY}:\ud800", {}),
        (f"{KEY}:{OF_PRIVATE}", {"channel_data": "\ud800"}),
    ],
)
def test_signature_is_good_for_one_connection_and_one_channel(auth: str, changed: dict[str, str]) -> None:
    signed: Any = {"key": KEY, "secret": SECRET, "socket_id": "1234.1234", "channel": "private-foobar", **changed}
    assert not is_signed(auth, **signed)


def test_codes_of_closing_give_the_same_answer_to_whether_to_come_back() -> None:
    assert words.close_code(protocol.CLOSE_RESTART) == 4200
    assert words.close_code(protocol.CLOSE_SLOW) == 4100
    assert words.close_code(protocol.CLOSE_BAD_REQUESTS) == words.close_code(protocol.CLOSE_EXPIRED) == 4009


def test_events_are_named_after_their_kind_and_carry_their_fields_as_text() -> None:
    log = Log(channel_of("trades").topic, "id", {0: 0}, ring=100)
    entries = log.append(rows([trade(0, "SPY", reason='a "quoted" é\\\u2028'), trade(1, "QQQ"), trade(2, "SPY")], 0))
    positions = Positions(b"12345678", [0])

    told = json.loads(PRIVATE.update(entries[2], channel_of("trades.SPY"), positions, conflate=False))
    assert (told["event"], told["channel"]) == ("TradeExecuted", "private-trades.SPY")
    data = json.loads(told["data"])
    assert (data["seq"], data["prev"], data["at"]) == ("0:2", "0:0", "1970-01-01T00:00:00.000Z")
    assert (data["symbol"], data["quantity"], data["executed_at"]) == ("SPY", "3", "2025-10-10T13:30:02.000000Z")

    first = json.loads(PUBLIC.update(entries[0], channel_of("trades"), positions, conflate=False))
    assert first["channel"] == "trades"
    assert json.loads(first["data"])["reason"] == 'a "quoted" é\\\u2028'
    assert json.loads(first["data"])["prev"] is None
    conflated = json.loads(PUBLIC.update(entries[2], channel_of("trades"), positions, conflate=True))
    assert json.loads(conflated["data"])["prev"] is None

    snapshot = json.loads(PUBLIC.snapshot(channel_of("trades"), positions, ['{"a":"1"}', '{"a":2}'], truncated=True))
    assert (snapshot["event"], snapshot["channel"]) == ("snapshot", "trades")
    assert json.loads(snapshot["data"]) == {"truncated": True, "data": [{"a": "1"}, {"a": 2}]}


def test_documentation_names_every_event() -> None:
    page = (Path(__file__).parents[2] / "docs/pusher.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| `TradeExecuted`"))
    assert sorted(re.findall(r"`([A-Z]\w+)`", row)) == sorted(topic.event for topic in served().values())


def test_no_event_has_a_field_of_the_name_of_its_place() -> None:
    for topic in served().values():
        assert not {"seq", "prev", "at"} & set(arrow_schema(topic.event).names)


def test_key_without_a_secret_names_both_settings() -> None:
    with pytest.raises(SettingError, match="SENTIO_PUSHER_KEY is set and SENTIO_PUSHER_SECRET is not"):
        Apps(StreamSettings(pusher_key="a"), sources=None, admission=None)  # type: ignore[arg-type] # not looked at
