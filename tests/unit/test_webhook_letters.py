"""Refused events become dead letters as they came, to the last digit."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.webhooks import letters
from producers.webhooks.bodies import NoEvents, exact_events, texts
from producers.webhooks.finding import Finder
from producers.webhooks.letters import Letters
from sentio.config import WebhookSettings, load
from sentio.letters import Headers
from tests.unit.test_webhook_prices import json_values
from tests.webhooks import BONK, NOW_S, SECRET, TOKENS, bought


class Producer:
    """Kafka's client, for what is given to it."""

    def __init__(self, _: object) -> None:
        self.given: list[tuple[bytes | None, dict[str, bytes]]] = []

    def produce(self, _: str, value: bytes | None, *, headers: Headers, **__: Any) -> None:
        self.given.append((value, dict(headers)))

    def poll(self, _: float) -> None: ...


@pytest.fixture
def sending(monkeypatch: pytest.MonkeyPatch) -> Letters:
    monkeypatch.setattr(letters, "Producer", Producer)
    return Letters(load(WebhookSettings, webhook_secret=SECRET, webhook_tokens=Path("x"), spool=Path("x")))


EVENTS = [
    b"7",
    b'"text"',
    b'{"tokenAmount": -1.50, "slot": 1e3}',
    b'{"a": 0.1000000000000000055511151231257827, "b": 1E-7, "c": -0, "d": 1e400}',
    json.dumps(bought(BONK, -1.5, 1)).encode(),
    json.dumps(bought(BONK, float("nan"), 1), indent=1).encode(),
    b'{"signature": "\\ud800", "x": "\\u00e9\xc3\xa9", "x": [ 1 , 2 ] }',
    b'{"signature":' + b"9" * 10_000 + b"}",
]


@pytest.mark.parametrize("between", [b",", b" \n,\t "])
def test_refused_events_are_sent_as_they_came(sending: Letters, between: bytes) -> None:
    good = json.dumps(bought(BONK, 5, 1)).encode()
    body = b" [ " + between.join([good, *EVENTS]) + b" ] "
    finder = Finder(TOKENS, lambda: float(NOW_S))
    for found in (finder.find(body), finder.find_in_python(body)):
        assert [(each.index, each.event) for each in found.refused] == list(enumerate(EVENTS, 1))
    for each in found.refused:
        sending.send(each.event, index=each.index, signature=each.signature, reason=each.reason)
    assert [value for value, _ in sending._producer.given] == EVENTS  # type: ignore[attr-defined] # a fake has it


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-le"])
def test_of_other_encodings_than_utf_8_they_are_sent_in_it(encoding: str) -> None:
    body = '[{"signature": "\u00e9", "slot": 1.50}, 7]'.encode(encoding)
    found = Finder(TOKENS, lambda: float(NOW_S)).find(body)
    assert [each.event for each in found.refused] == ['{"signature": "\u00e9", "slot": 1.50}'.encode(), b"7"]


def test_half_of_a_character_is_escaped() -> None:
    found = Finder(TOKENS, lambda: float(NOW_S)).find(b'["\xed\xa0\x80"]')
    assert [each.event for each in found.refused] == [b'"\\ud800"']


@given(st.lists(json_values, max_size=4), st.sampled_from([None, 0, 2]), st.booleans())
def test_the_texts_of_a_body_are_its_events(values: list[Any], indent: int | None, ascii_only: bool) -> None:  # noqa: FBT001 - drawn
    body = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    alone = [exact_events(b"[%b]" % text)[0] for text in texts(body)]
    assert repr(alone) == repr(exact_events(body))


@given(st.text('[]{},:" 1.-etrufalsn\\ud8\n', max_size=30))
def test_any_body_that_can_be_read_has_texts(inner: str) -> None:
    body = f"[{inner}]".encode()
    try:
        found = exact_events(body)
    except NoEvents:
        return
    assert len(texts(body)) == len(found)


def test_of_a_long_event_only_the_reason_is_kept(sending: Letters) -> None:
    event = b'"%b"' % (b"x" * letters.LONGEST_BYTES)
    sending.send(event, index=3, signature=None, reason="why")
    [(value, headers)] = sending._producer.given  # type: ignore[attr-defined] # a fake has it
    assert value is None
    assert (headers["source.index"], headers["error.message"]) == (b"3", b"why")
    assert headers["value.dropped_bytes"] == str(len(event)).encode()
