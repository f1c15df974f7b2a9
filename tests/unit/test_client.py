"""The Python client without a connection: its events, what it makes of frames, its pauses and what it keeps."""

import json
import random
import uuid
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sentio_client
from clients import generate
from gateway.stream import protocol
from gateway.stream.channels import parse, served
from gateway.stream.documents import documents
from gateway.wire import milliseconds_text
from schemas import events
from schemas.columns import arrow_schema, from_events
from sentio_client import BadFrame, FileCursors, Gap, Item, Refused, Resumed, Snapshot, Update
from sentio_client.backoff import GOOD_S, LONGEST_S, SHORTEST_S, SOON_S, Backoff, retry_after_s
from sentio_client.channels import Channels
from sentio_client.decoding import decode
from sentio_client.tokens import ends_at_s, refresh_in_s
from tests.scripted import TRADE
from tests.tokens import secret

AT = datetime(2025, 10, 10, 13, 30, 0, 1, tzinfo=UTC)
DECIMALS = {"price": "101.2500000001", "quantity": "12.5"}


def body_of(event: events.Event, at_ms: int) -> str:
    """What an update says of it, published then."""
    [document] = documents(from_events([event]))
    return f'"at":"{milliseconds_text(at_ms)}","data":{document}'


def event_of(name: str) -> events.Event:
    """One with something in every field."""
    kind = events.EVENTS[name]
    values: dict[str, Any] = {}
    for one in fields(kind):
        if one.name == "event_id":
            values[one.name] = uuid.uuid4().bytes
        elif one.type is float:
            values[one.name] = 0.1
        elif one.type is int:
            values[one.name] = 7
        elif one.type is datetime:
            values[one.name] = AT
        elif one.type is Decimal or Decimal in get_args(one.type):
            values[one.name] = Decimal("12.5")
        elif one.type is str or str in get_args(one.type):
            values[one.name] = "é"
        else:
            values[one.name] = get_args(one.type)[0]
    return kind(**values)


def update(
    number: int, prev: int | None = None, *, channel: str = "trades", partition: int = 0, **more: Any
) -> dict[str, Any]:
    """As the gateway writes it."""
    body = f'"at":"2025-10-10T13:30:00.001Z","data":{json.dumps({**TRADE, **more})}'
    frame: dict[str, Any] = json.loads(
        protocol.update(
            parse(channel), partition=partition, offset=number, prev=prev, cursor=f"{channel}{number}", body=body
        )
    )
    return frame


def heard(channels: Channels, *frames: dict[str, Any] | bytes, now_s: float = 0.0) -> list[Item]:
    whole = (json.loads(frame) if isinstance(frame, bytes) else frame for frame in frames)
    return [item for frame in whole for item in channels.heard(frame, now_s)]


def asked(channels: Channels, now_s: float = 0.0) -> list[dict[str, Any]]:
    """What the client asks for, acknowledged."""
    requests = [json.loads(text) for text in channels.requests(now_s)]
    for request in requests:
        assert heard(channels, protocol.ack(request["id"], map(parse, request["channels"]))) == []
    return requests


def subscribed(*names: str, **options: Any) -> Channels:
    channels = Channels(names, **{"cursors": {}, **options})
    channels.connected()
    asked(channels)
    return channels


def kinds(items: list[Item]) -> list[str]:
    return [
        type(item).__name__ + (item.seq if isinstance(item, Update) else getattr(item, "reason", "")) for item in items
    ]


def test_events_are_those_of_the_schemas() -> None:
    assert (generate.HERE / "python/sentio_client/events.py").read_text() == generate.python()
    assert (generate.HERE / "js/src/events.ts").read_text() == generate.typescript()
    assert (generate.HERE.parent / "docs/asyncapi-events.json").read_text() == generate.json_schema()
    assert sentio_client.CHANNELS.keys() == served().keys()


@pytest.mark.parametrize("channel", served())
def test_every_event_arrives_as_it_was_published(channel: str) -> None:
    published = event_of(served()[channel].event)
    body = body_of(published, 1_760_103_000_001)
    frame = protocol.update(parse(channel), partition=0, offset=1, prev=None, cursor="c", body=body)

    [item] = heard(subscribed(channel), frame)

    assert isinstance(item, Update)
    assert item.at == datetime(2025, 10, 10, 13, 30, 0, 1_000, UTC)
    assert type(item.event).__name__ == type(published).__name__
    for name in arrow_schema(type(published).__name__).names:
        value = getattr(published, name)
        assert getattr(item.event, name) == (UUID(bytes=value) if name == "event_id" else value), name


def test_fields_that_a_newer_gateway_adds_are_ignored_and_those_that_an_older_lacks_are_none() -> None:
    data = {**TRADE, "venue": "XNAS"}
    del data["order_id"]
    assert getattr(decode(sentio_client.TradeExecuted, data), "order_id") is None  # noqa: B009 - decode() says Event


@pytest.mark.parametrize(
    "data", [None, [], {**TRADE, "price": None}, {**TRADE, "price": 101.25}, {**TRADE, "price": "x"}]
)
def test_an_amount_that_is_no_exact_text_is_never_taken(data: Any) -> None:
    with pytest.raises(BadFrame):
        decode(sentio_client.TradeExecuted, data)


def test_a_message_that_did_not_come_is_asked_for_again_from_the_last_good_place() -> None:
    channels = subscribed("trades")
    assert kinds(heard(channels, update(1), update(2, 1))) == ["Update0:1", "Update0:2"]

    # What comes on the old subscription meanwhile is not given out: it comes again.
    assert kinds(heard(channels, update(4, 3), update(5, 4))) == ["Gapmissing"]
    [request] = [json.loads(text) for text in channels.requests(0.0)]
    assert request["cursor"] == {"trades": "trades2"}
    assert heard(channels, update(6, 5)) == []

    heard(channels, protocol.ack(request["id"], [parse("trades")]))
    assert kinds(heard(channels, update(3), update(4, 3))) == ["Resumed", "Update0:3", "Update0:4"]


def test_what_cannot_be_fetched_is_said_to_be_lost_and_the_stream_goes_on() -> None:
    channels = subscribed("trades")
    heard(channels, update(1))
    assert kinds(heard(channels, update(3, 2))) == ["Gapmissing"]
    asked(channels)
    assert kinds(heard(channels, update(3, 2), update(4, 3))) == ["Gaplost", "Resumed", "Update0:3", "Update0:4"]


def test_each_partition_and_channel_has_its_own_order() -> None:
    channels = subscribed("trades", "trades.TQQQ")
    items = heard(
        channels,
        update(1),
        update(7, partition=1),
        update(7, channel="trades.TQQQ", partition=1),
        update(2, 1),
        update(9, 7, partition=1),
    )
    assert kinds(items) == ["Update0:1", "Update1:7", "Update1:7", "Update0:2", "Update1:9"]


def test_what_was_heard_is_not_given_twice_and_a_repeat_left_out_by_the_gateway_is_no_gap() -> None:
    channels = subscribed("trades")
    heard(channels, update(1), update(2, 1), update(3, 2))
    assert heard(channels, update(2, 1)) == []
    # Offset 3 was a repeat of 2 that only this client's catching up has shown; the others never heard of it.
    assert kinds(heard(channels, update(4, 2))) == ["Update0:4"]


def test_on_a_new_connection_the_cursor_alone_says_what_came_before() -> None:
    channels = subscribed("trades")
    heard(channels, update(1), update(2, 1))
    channels.connected()
    assert asked(channels)[0]["cursor"] == {"trades": "trades2"}
    # Offset 3 was a repeat that the former gateway left out; this one began behind the first of the two.
    assert kinds(heard(channels, update(4, 3), update(5, 4))) == ["Resumed", "Update0:4", "Update0:5"]
    assert kinds(heard(channels, update(7, 6))) == ["Gapmissing"]


def test_conflated_channels_name_no_predecessor_and_have_no_gaps() -> None:
    channels = subscribed("trades")
    assert kinds(heard(channels, update(1), update(9), update(5))) == ["Update0:1", "Update0:9", "Update0:5"]


def test_coming_back_is_said_once_a_channel_shows_that_it_goes_on() -> None:
    channels = subscribed("trades", "signals", cursors={"trades": "trades5", "signals": "s"})
    assert heard(channels, protocol.heartbeat({})) == []
    beat = protocol.heartbeat({"trades": "trades6", "signals": "s"})
    assert heard(channels, beat, beat, update(7)) == [
        Resumed("trades"),
        Resumed("signals"),
        *heard(channels, update(7)),
    ]
    assert channels.cursors == {"trades": "trades7", "signals": "s"}


def test_a_cursor_that_is_no_good_is_a_gap_and_a_snapshot_and_is_not_shown_again() -> None:
    channels = subscribed("trades", cursors={"trades": "old"})
    failed = protocol.resume_failed(parse("trades"), "expired", "the log no longer goes back")
    assert heard(channels, failed) == [Gap("trades", "expired", "the log no longer goes back")]
    channels.connected()
    assert asked(channels)[0]["cursor"] == {}
    rows = [json.dumps({**TRADE, "event_id": None, "producer": None, "sequence": None})]
    [snapshot] = heard(channels, protocol.snapshot(parse("trades"), "new", rows, truncated=True))
    assert isinstance(snapshot, Snapshot)
    assert (snapshot.cursor, snapshot.truncated, len(snapshot.events)) == ("new", True, 1)
    assert channels.cursors == {"trades": "new"}


def test_a_channel_that_cannot_be_served_is_asked_for_again_when_the_gateway_says() -> None:
    channels = subscribed("trades", "signals")
    assert heard(channels, protocol.unavailable(1, parse("signals"), "not now"), now_s=100.0) == []
    assert channels.due_s == 100.0 + protocol.RETRY_S
    assert asked(channels, 100.0) == []
    assert [request["channels"] for request in asked(channels, 105.0)] == [["signals"]]


def test_too_many_requests_are_asked_again_later() -> None:
    channels = Channels(["trades"], cursors={})
    channels.connected()
    channels.requests(0.0)
    heard(channels, {"type": "error", "id": 1, "code": "too_many_requests", "message": "", "retry_s": 2}, now_s=10.0)
    assert channels.due_s == 12.0


def test_a_refused_subscription_ends_the_stream_and_says_why() -> None:
    channels = subscribed("trades")
    with pytest.raises(Refused, match="trades is not granted to you") as refusal:
        heard(channels, protocol.forbidden(1, parse("trades")))
    assert refusal.value.code == "forbidden"
    assert heard(channels, protocol.error(3, "unauthorized", "another user's")) == []


def test_frames_and_fields_that_are_not_known_are_ignored_and_torn_ones_are_not() -> None:
    channels = subscribed("trades")
    assert heard(channels, {"type": "sale"}, {**update(1), "more": 1}) == heard(subscribed("trades"), update(1))
    with pytest.raises(BadFrame, match="cursor"):
        heard(channels, {"type": "update", "channel": "trades", "seq": "0:2", "prev": "0:1", "at": "x", "data": TRADE})


@pytest.mark.parametrize(
    "frame",
    [
        update(1, channel="trades.SPY"),
        {"type": "heartbeat", "cursors": {"trades.SPY": "c"}},
        {"type": "resume_failed", "channel": "trades.SPY", "reason": "expired", "message": ""},
    ],
)
def test_a_frame_of_a_channel_that_was_not_asked_for_is_said(frame: dict[str, Any]) -> None:
    with pytest.raises(BadFrame, match=r"trades\.SPY"):
        heard(subscribed("trades"), frame)


def test_wishes_are_said_as_the_gateway_understands_them() -> None:
    channels = Channels(["positions"], cursors={}, conflate=False, lowest_latency=True, since=AT)
    channels.connected()
    [text] = channels.requests(0.0)
    wishes = protocol.parse_request(text).wishes
    assert (wishes.latency, wishes.conflate) == ("lowest", False)
    assert json.loads(text)["from"] == "2025-10-10T13:30:00.000001Z"


def test_many_channels_with_long_cursors_are_several_requests_that_a_gateway_takes() -> None:
    names = [f"trades.{number}" for number in range(protocol.MAX_CHANNELS)]
    channels = Channels(names, cursors=dict.fromkeys(names, "x" * 700))
    channels.connected()
    requests = [protocol.parse_request(text) for text in channels.requests(0.0)]
    assert [one.name for request in requests for one in request.channels] == names
    assert len(requests) > 1


@given(st.integers(0, 40), st.integers(0, 2**32), st.sampled_from([0.0, 3.0]))
def test_pauses_vary_up_to_a_bound_and_are_never_shorter_than_asked(
    failures: int, seed: int, at_least_s: float
) -> None:
    backoff = Backoff(random.Random(seed))
    for _ in range(failures):
        backoff.pause_s()
    bound_s = max(at_least_s, min(LONGEST_S, SHORTEST_S * 2**failures))
    assert at_least_s <= backoff.pause_s(at_least_s=at_least_s) <= at_least_s + bound_s


def test_pauses_fill_their_range_and_a_good_connection_makes_them_short_again() -> None:
    backoff = Backoff(random.Random(1))
    drawn = [backoff.pause_s() for _ in range(1_000)][10:]
    assert min(drawn) < 0.1 * LONGEST_S
    assert max(drawn) > 0.9 * LONGEST_S
    backoff.lived(GOOD_S - 1)
    assert max(backoff.pause_s() for _ in range(10)) > SHORTEST_S
    backoff.lived(GOOD_S)
    assert backoff.pause_s() <= SHORTEST_S


def test_a_restart_is_come_back_from_at_once_but_not_again_and_again() -> None:
    assert max(Backoff(random.Random(seed)).pause_s(soon=True) for seed in range(100)) <= SOON_S
    backoff = Backoff(random.Random(1))
    assert max(backoff.pause_s(soon=True) for _ in range(20)) > 5


def test_retry_after_is_read_in_both_forms() -> None:
    assert [retry_after_s(text) for text in (None, "", "7", "-7", "soon")] == [0, 0, 7, 0, 0]
    assert 55 < retry_after_s(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)) <= 60


def test_cursors_in_a_file_are_the_former_or_the_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileCursors(tmp_path / "cursors")
    assert store.load() == {}
    store.save({"trades": "a"})

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        store.save({"trades": "b"})
    assert store.load() == {"trades": "a"}


@pytest.mark.parametrize("text", ["", "[]", '{"trades": 1}', '{"trades":'])
def test_a_file_of_something_else_is_not_taken_for_a_first_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "cursors").write_text(text)
    with pytest.raises(ValueError, match="remove it to begin with a snapshot"):
        FileCursors(tmp_path / "cursors").load()


def test_a_token_is_renewed_before_it_ends() -> None:
    now_s = 1_760_000_000.0
    ends_s = ends_at_s(secret().token("*", exp=int(now_s) + 3_600))
    assert ends_s == now_s + 3_600
    assert refresh_in_s(secret().token("*", exp=int(now_s) + 3_600), now_s) == 3_540
    assert refresh_in_s(secret().token("*", exp=int(now_s) + 10), now_s) == 8
    assert refresh_in_s(secret().token("*", exp=int(now_s) - 10), now_s) == 0
    for other in ("", "a.b.c", "opaque", "a.e30.c", "a.W10.c"):
        assert ends_at_s(other) is None


def test_channels_that_are_not_known_are_refused_before_anything_connects() -> None:
    with pytest.raises(ValueError, match="no channel 'tradez'; there are trades"):
        sentio_client.Stream("ws://x", ["tradez"])
    with pytest.raises(ValueError, match="time zone"):
        sentio_client.Stream("ws://x", ["trades"], since=datetime(2025, 10, 10))  # noqa: DTZ001 - without a zone is what is refused
