"""Dead letters as they are read and put right, whatever is in them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import decode
from schemas.dissection import dissect
from schemas.layout import FRAME
from sentio import letters
from sentio.cli import redriving
from sentio.cli.burials import document
from sentio.cli.buried import DeadLetter, Filter, Sent, folded
from sentio.cli.editing import edited, fields, topic_of, with_fields
from sentio.cli.redriving import Obstacle, _headers, check, value_of
from sentio.config import RedriveSettings, load
from sentio.errors import SettingError
from tests.samples import encoded, trade

SETTINGS = load(RedriveSettings, topic_prefix="t")
TOPIC = "t.trades.executed"
GOOD = encoded(trade(1, pnl="3.5"), number=1)


def letter(
    value: bytes | None = GOOD, *more: tuple[str, Any], group: str = "t.store", topic: str = TOPIC
) -> DeadLetter:
    said = letters.source(group, topic, 0, 7) + letters.error("process", "no room")
    return DeadLetter((f"{TOPIC}.dead", 0, 3), 0, b"k", value, [*said, *more])


def values(**changes: Any) -> dict[str, Any]:
    return fields(dissect(GOOD)) | changes


def test_every_byte_of_a_good_record_is_shown_beside_its_field() -> None:
    found = dissect(GOOD)

    assert (found.reason, found.pieces[0].first, found.pieces[-1].end) == (None, FRAME.size, len(GOOD))
    assert all(one.end == other.first for one, other in zip(found.pieces, found.pieces[1:], strict=False))
    assert fields(found)["realized_pnl"] == "3.5"


@given(st.integers(0, len(GOOD)), st.binary(max_size=40))
def test_whatever_the_bytes_are_they_are_shown_as_far_as_they_can_be_read(cut: int, behind: bytes) -> None:
    message = GOOD[:cut] + behind
    found = dissect(message)

    json.dumps(document(letter(message)))
    assert found.reason != ""
    if not decode("TradeExecuted", [message]).poison:
        assert found.reason is None


@given(st.lists(st.tuples(st.sampled_from([*letters.ORIGIN, letters.SOURCE_OFFSET, "x"]), st.binary(max_size=30))))
def test_headers_that_anyone_may_write_break_nothing(headers: list[tuple[str, bytes]]) -> None:
    hostile = DeadLetter((f"{TOPIC}.dead", 0, 3), 0, None, b"junk", [*headers, (letters.REDRIVE_COUNT, b"9" * 9_999)])

    json.dumps(document(hostile))
    assert hostile.count == 0
    with pytest.raises(Obstacle):
        check(SETTINGS, hostile)


def test_count_of_redrives_is_believed_only_of_what_came_from_a_redrive_topic() -> None:
    counted = (letters.REDRIVE_COUNT, b"3")

    check(SETTINGS, letter(GOOD, counted))
    with pytest.raises(Obstacle, match="redriven 3 times, as often as SENTIO_REDRIVE_MOST=3 allows"):
        check(SETTINGS, letter(GOOD, counted, topic=f"{TOPIC}.redrive.store"))


def refused(sent: DeadLetter, at: int) -> DeadLetter:
    """The letter of a record of a redrive topic."""
    said = letters.own(sent.headers) + letters.source(sent.group, *sent.place) + letters.error("process", "no room")
    return DeadLetter((f"{TOPIC}.dead", 0, at), 0, b"k", GOOD, said)


def sent(of: DeadLetter, at: int, *more: tuple[str, Any]) -> DeadLetter:
    """As it lies in the redrive topic."""
    return DeadLetter((f"{TOPIC}.redrive.store", 0, at), 0, b"k", GOOD, [*_headers(of, "id"), *more])


def test_record_of_which_a_later_letter_was_edited_does_not_go_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = letter()
    once = sent(first, 0)
    second = refused(once, 4)
    twice = sent(second, 1)
    third = refused(twice, 5)
    edit = sent(third, 2, (letters.EDITED_FROM, b"old"))
    of_edit = refused(edit, 6)
    other = DeadLetter((f"{TOPIC}.dead", 0, 7), 0, b"k", GOOD, letters.source("t.store", TOPIC, 0, 8))

    def planned(*records: DeadLetter, again: bool = True) -> list[int]:
        monkeypatch.setattr(redriving, "redriven", lambda _: Sent(records))
        found = redriving.plan(SETTINGS.model_copy(update={"redrive_most": 9}), everything, again=again)
        return [each.place[2] for each in found.letters]

    everything = [first, second, third, of_edit, other]
    assert planned(once, twice) == [3, 4, 5, 6, 7]
    assert planned(once, twice, again=False) == [5, 6, 7]
    assert planned(once, twice, edit) == [6, 7], "the edited event itself was refused, and may be redriven"
    assert planned(once, twice, edit, sent(of_edit, 3)) == [7]


@pytest.mark.parametrize(
    ("group", "topic", "why"),
    [
        ("t.bridge.old", TOPIC, "a bridge refused it"),
        ("other.store", TOPIC, "which group of t refused"),
        ("t.store", "t.engine.fills", "no topic of the house"),
        ("t.odd name", TOPIC, "no topic can be named after its group"),
    ],
)
def test_letter_that_no_group_of_the_house_can_take_says_why(group: str, topic: str, why: str) -> None:
    with pytest.raises(Obstacle, match=why):
        check(SETTINGS, letter(group=group, topic=topic))


def test_tombstone_has_nothing_to_redrive() -> None:
    with pytest.raises(Obstacle, match="tombstone"):
        value_of(SETTINGS, letter(None))


def test_edit_has_one_id_however_often_and_keeps_the_number_and_time() -> None:
    one, other = (edited(SETTINGS, letter(), values(fees=fees)) for fees in ("1.5", "2"))
    [first] = decode("TradeExecuted", [one.value]).records.to_pylist()
    [second] = decode("TradeExecuted", [other.value]).records.to_pylist()

    assert first["event_id"] == second["event_id"] != (1).to_bytes(16)
    assert (first["producer"], first["sequence"], str(first["fees"])) == ("test@1", 1, "1.500000")
    assert one.edited_from == "00000000-0000-0000-0000-000000000001"


def test_record_of_which_nothing_can_be_read_is_edited_by_giving_all_of_it() -> None:
    made = edited(SETTINGS, letter(b"junk"), values())

    [row] = decode("TradeExecuted", [made.value]).records.to_pylist()
    assert (row["producer"], row["sequence"]) == ("edited@trades.executed:0:7", 0)
    assert made.edited_from == "trades.executed:0:7"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"executed_at": "2025-10-10T13:31:01Z"}, "executed_at stays 2025-10-10T13:31:00Z"),
        ({"side": "HOLD"}, "side is 'HOLD', not one of BUY, SELL"),
        ({"venue": "X"}, "has no field venue"),
        ({"quantity": "0"}, "quantity is '0', beyond its limits"),
    ],
)
def test_edit_that_is_no_event_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(SettingError, match=why):
        edited(SETTINGS, letter(), values(**changes))


def test_fields_are_set_as_their_types_want() -> None:
    topic = topic_of(SETTINGS, letter())

    assert with_fields(topic, {}, ["price=1.5", "order_id=null", "reason=a=b"]) == {
        "price": "1.5",
        "order_id": None,
        "reason": "a=b",
    }
    for wrong in ("price", "event_id=1", "venue=X"):
        with pytest.raises(SettingError, match="FIELD=VALUE with one of account"):
            with_fields(topic, {}, [wrong])


def test_reasons_are_folded_and_filters_take_names_with_and_without_prefix() -> None:
    assert folded("price times quantity is 1,000.50 USD, of 0199d2f0-0000-7000-8000-000000000000") == (
        "price times quantity is # USD, of #"
    )
    assert all(Filter(group=name, reason="room", kind="process").takes(letter(), "t") for name in ("store", "t.store"))
    assert not any(
        each.takes(letter(), "t")
        for each in (Filter(group="aggregates"), Filter(kind="decode"), Filter(reason="venue"), Filter(since_ms=1))
    )
