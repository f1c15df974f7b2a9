"""Events from sockets and HTTP, without Kafka: what is acknowledged was taken, in order, and nothing twice."""

import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import fastavro
import httpx
import pytest

from producers.sidecar import inbox as inboxes
from producers.sidecar import listening, posting
from producers.sidecar.inbox import Inbox, Jump, Line, line_of
from producers.sidecar.listening import Listener
from producers.sidecar.posting import Receiver
from producers.sidecar.source import QUIET_S, Portion
from schemas.registry import avro_files
from sentio.config import SidecarSettings, load
from sentio.errors import SettingError
from tests.pipeline import until
from tests.samples import signal, trade
from tests.written import columns

SIGNAL = {
    "type": "SignalGenerated",
    "symbol": "TQQQ",
    "direction": "LONG",
    "probability": 0.75,
    "confidence": 1,
    "generated_at_ms": 1_760_103_000_000,
}
TOKEN = "a token of sixteen"


def text(bar: int) -> bytes:
    return json.dumps(SIGNAL | {"bar_id": bar}).encode()


def lines(first: int, count: int) -> list[Line]:
    return [line_of(number, text(number)) for number in range(first, first + count)]


class Drain:
    """Takes from an inbox in a thread, as a sidecar does, while it is not held."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.portions: list[Portion] = []
        self.held = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.001):
            if not self.held and (portion := self.inbox.take(1_000)):
                self.portions.append(portion)
                self.inbox.acknowledge()

    def bars(self) -> list[int]:
        return [row["bar_id"] for row in self.rows()]

    def rows(self) -> list[dict[str, Any]]:
        return [row for portion in self.portions for batch in columns(portion).values() for row in batch.to_pylist()]

    def refused(self) -> list[tuple[str, str]]:
        return [(each.place, each.reason) for portion in self.portions for each in portion.refused]

    def close(self) -> None:
        self.inbox.close()
        self._stop.set()
        self._thread.join(10)


@contextmanager
def drained(inbox: Inbox) -> Iterator[Drain]:
    drain = Drain(inbox)
    try:
        yield drain
    finally:
        drain.close()


def nothing() -> None:
    pass


def test_what_comes_again_goes_nowhere_twice_and_is_acknowledged_in_its_turn() -> None:
    inbox = Inbox("test")
    origin = inbox.origin("engine", UUID(int=1))
    done: list[str] = []
    assert inbox.put(origin, lines(1, 5), where="a", done=lambda: done.append("first"))
    assert inbox.put(origin, lines(3, 5), where="a", done=lambda: done.append("again"))
    portion = inbox.take(100)
    assert portion
    (batch,) = columns(portion).values()
    assert batch.column("sequence").to_pylist() == [1, 2, 3, 4, 5, 6, 7]
    assert done == []
    inbox.acknowledge()
    assert done == ["first", "again"]
    assert inbox.figures()["repeated"] == 3


def test_lines_that_would_leave_some_out_or_go_back_behind_the_first_are_refused() -> None:
    inbox = Inbox("test")
    origin = inbox.origin("engine", UUID(int=1))
    inbox.put(origin, lines(10, 2), where="a", done=nothing)
    for first in (13, 9):
        with pytest.raises(Jump, match="and 12 is next"):
            inbox.put(origin, lines(first, 1), where="a", done=nothing)
    assert inbox.origin("engine", UUID(int=1)) is origin
    assert inbox.origin("other", UUID(int=1)) is not origin


def test_who_finds_no_room_waits_or_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inboxes, "ROOM", 3)
    inbox = Inbox("test")
    assert inbox.put(inbox.own, lines(1, 3), where="a", done=nothing)
    assert not inbox.put(inbox.own, lines(4, 1), where="a", done=nothing, wait=False)
    waiting = threading.Thread(target=inbox.put, args=(inbox.own, lines(4, 1)), kwargs={"where": "a", "done": nothing})
    waiting.start()
    assert inbox.take(10)
    waiting.join(10)
    assert not waiting.is_alive()
    inbox.close()
    assert not inbox.put(inbox.own, lines(5, 1), where="a", done=nothing)


def test_origins_are_forgotten_oldest_first_but_not_while_they_are_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inboxes, "SOURCES", 2)
    inbox = Inbox("test")
    first, second = (inbox.origin("engine", UUID(int=n)) for n in (1, 2))
    inbox.connected(first, 1)
    inbox.origin("engine", UUID(int=3))
    assert inbox.origin("engine", UUID(int=1)) is first
    assert inbox.origin("engine", UUID(int=2)) is not second


class Engine:
    """A client of a listener."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        self._answers = self.socket.makefile("rb")

    def send(self, *parts: bytes) -> None:
        self.socket.sendall(b"".join(parts))

    def greet(self, **greeting: object) -> None:
        self.send(json.dumps(greeting).encode(), b"\n")

    def answer(self) -> Any:
        return json.loads(self._answers.readline() or "null")

    def close(self) -> None:
        self._answers.close()
        self.socket.close()


@contextmanager
def engine(path: Path) -> Iterator[Engine]:
    made = Engine(path)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def listener(path: Path) -> Iterator[Drain]:
    made = Listener(str(path))
    try:
        with drained(made.inbox) as drain:
            yield drain
    finally:
        made.close()


def test_lines_are_taken_without_a_greeting_cut_wherever_they_are(tmp_path: Path) -> None:
    with listener(tmp_path / "s") as drain, engine(tmp_path / "s") as client:
        data = b"".join(text(bar) + b"\n" for bar in range(20))
        for at in range(0, len(data), 97):
            client.send(data[at : at + 97])
        until(lambda: len(drain.bars()) == 20)
    assert drain.bars() == list(range(20))
    assert [row["sequence"] for row in drain.rows()] == list(range(1, 21))


def test_lines_are_acknowledged_and_refused_by_their_numbers(tmp_path: Path) -> None:
    with listener(tmp_path / "s") as drain, engine(tmp_path / "s") as client:
        client.greet(engine="rotation", source=str(UUID(int=7)), line=41, acknowledge=True)
        client.send(text(1), b"\n\n{}\n", text(2), b"\n")
        answers = [client.answer(), client.answer()]
        while answers[-1] != {"acknowledged": 44}:
            answers.append(client.answer())
    assert {
        "refused": 43,
        "reason": "type is None, not one of TradeExecuted, SignalGenerated, PositionUpdated, "
        "PerformanceMinute, PriceBar, PriceUpdated, EngineHeartbeat",
    } in answers
    assert [(row["producer"], row["sequence"]) for row in drain.rows()] == [
        (f"rotation@{UUID(int=7)}", 41),
        (f"rotation@{UUID(int=7)}", 44),
    ]


def test_an_engine_that_comes_back_goes_on_behind_what_was_acknowledged(tmp_path: Path) -> None:
    source = str(uuid4())
    with listener(tmp_path / "s") as drain:
        with engine(tmp_path / "s") as client:
            client.greet(source=source, acknowledge=True)
            client.send(b"".join(text(bar) + b"\n" for bar in range(1, 11)), text(11)[:20])  # cut off
            while client.answer() != {"acknowledged": 10}:
                pass
        with engine(tmp_path / "s") as client:
            client.greet(source=source, line=6, acknowledge=True)
            client.send(b"".join(text(bar) + b"\n" for bar in range(6, 16)))
            while client.answer() != {"acknowledged": 15}:
                pass
    assert drain.bars() == list(range(1, 16))


@pytest.mark.parametrize(
    ("greeting", "error"),
    [
        ({"lines": 3}, "the greeting has lines; it may have acknowledge, engine"),
        ({"line": 3}, "the greeting has a line, and no source that it is of"),
        ({"source": "7"}, "source is '7', not a UUID"),
        ({"source": str(UUID(int=1)), "line": 0}, "line is 0, not a whole number from 1"),
        ({"engine": "x" * 33}, "not a text of up to 32 bytes"),
    ],
)
def test_a_greeting_that_is_wrong_ends_the_connection_with_the_reason(
    tmp_path: Path, greeting: dict[str, object], error: str
) -> None:
    with listener(tmp_path / "s"), engine(tmp_path / "s") as client:
        client.greet(**greeting)
        assert error in client.answer()["error"]
        assert client.answer() is None


def test_a_jump_ends_the_connection_and_says_what_is_next(tmp_path: Path) -> None:
    source = str(uuid4())
    with listener(tmp_path / "s"), engine(tmp_path / "s") as client, engine(tmp_path / "s") as other:
        client.greet(source=source, acknowledge=True)
        client.send(text(1), b"\n")
        assert client.answer() == {"acknowledged": 1}
        other.greet(source=source, line=5)
        other.send(text(5), b"\n")
        answer = other.answer()
    assert answer == {"error": f"source {source} sends line 5, and 2 is next", "expected": 2}


def test_a_line_that_is_too_long_is_refused_and_the_next_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "LINE_BYTES", 1_000)
    with listener(tmp_path / "s") as drain, engine(tmp_path / "s") as client:
        client.greet(acknowledge=True)
        client.send(b"x" * 5_000)
        client.send(b"x" * 200_000, b"\n", text(2), b"\n")
        until(lambda: drain.bars() == [2])
    assert [reason for _, reason in drain.refused()] == ["is longer than 1000 bytes"]


def test_an_engine_that_does_not_read_its_answers_is_let_go_and_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "ANSWERS_BYTES", 10_000)
    with listener(tmp_path / "s") as drain, engine(tmp_path / "s") as silent, engine(tmp_path / "s") as client:
        silent.greet(acknowledge=True)
        with suppress(OSError):  # reset, or a broken pipe: it ends
            while True:
                silent.send(b"{}\n" * 1_000)
        client.send(text(1), b"\n")
        until(lambda: drain.bars() == [1])


def test_answers_that_were_not_taken_at_once_are_sent_when_they_are(tmp_path: Path) -> None:
    with listener(tmp_path / "s") as drain, engine(tmp_path / "s") as client:
        client.greet(acknowledge=True)
        client.send(b"{}\n" * 5_000)
        until(lambda: len(drain.refused()) == 5_000)
        answer = client.answer()
        while answer != {"acknowledged": 5_000}:
            answer = client.answer()


def test_repeats_take_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inboxes, "ROOM", 10)
    inbox = Inbox("test")
    origin = inbox.origin("engine", UUID(int=1))
    taken = 0
    while inbox.put(origin, lines(1, 5), where="a", done=nothing, wait=False):
        taken += 1
    assert taken == 2


def test_engines_with_a_source_are_known_as_there_or_gone() -> None:
    inbox = Inbox("test")
    by_line, by_request = (inbox.origin("engine", UUID(int=n)) for n in (1, 2))
    assert inbox.beats() == []
    for origin in (by_line, by_request):
        inbox.put(origin, lines(1, 1), where="a", done=nothing)
    inbox.connected(by_line, 1)
    assert [beat.is_there for beat in inbox.beats()] == [True, True]
    inbox.connected(by_line, -1)
    by_request.spoke_s -= QUIET_S
    assert [beat.is_there for beat in inbox.beats()] == [False, False]
    by_line.spoke_s -= inboxes.FORGOTTEN_S
    assert [beat.producer for beat in inbox.beats()] == [by_request.producer]


def test_an_address_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    with listener(tmp_path / "s"), pytest.raises(SettingError, match="another process listens on it"):
        Listener(str(tmp_path / "s"))
    with listener(tmp_path / "s"):  # nobody does any more
        pass
    with pytest.raises(SettingError, match=r"listen .*none/s"):
        Listener(str(tmp_path / "none" / "s"))


@contextmanager
def receiver(**more: object) -> Iterator[tuple[Drain, httpx.Client]]:
    made = Receiver("127.0.0.1:0", load(SidecarSettings, events_token=TOKEN, **more))
    thread = threading.Thread(target=made.run)
    with drained(made.inbox) as drain:
        thread.start()
        try:
            with httpx.Client(
                base_url=f"http://127.0.0.1:{made.port}", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20
            ) as client:
                yield drain, client
        finally:
            made.stop()
            thread.join(20)
            assert not thread.is_alive()


EVENTS = "/v1/events"


def post(client: httpx.Client, content: bytes, kind: str = "application/x-ndjson", **headers: str) -> httpx.Response:
    named = {f"Sentio-{name.title()}": value for name, value in headers.items()}
    return client.post(EVENTS, content=content, headers={"Content-Type": kind, **named})


def test_each_form_of_a_body_gives_its_events() -> None:
    schema = avro_files()["TradeExecuted"]
    file = io.BytesIO()
    event = trade()
    row = {field["name"]: getattr(event, field["name"]) for field in schema["fields"]} | {"sequence": 0}
    fastavro.writer(file, fastavro.parse_schema(dict(schema)), [row])
    with receiver() as (drain, client):
        answers = [
            post(client, text(1) + b"\n\n" + text(2)),
            post(client, text(3), "application/json"),
            post(client, b"[" + text(4) + b"," + text(5) + b"]", "application/json; charset=utf-8"),
            post(client, file.getvalue(), "application/avro"),
        ]
    assert [answer.json()["acknowledged"] for answer in answers] == [2, 1, 2, 1]
    found = drain.rows()
    assert [row["bar_id"] for row in found[:5]] == [1, 2, 3, 4, 5]
    assert (found[5]["price"], found[5]["executed_at"]) == (event.price, event.executed_at)
    assert len({(row["producer"], row["sequence"]) for row in found}) == 6


def test_fractions_of_an_avro_file_are_numbers_too() -> None:
    schema = avro_files()["SignalGenerated"]
    file = io.BytesIO()
    event = signal()
    row = {field["name"]: getattr(event, field["name"]) for field in schema["fields"]} | {"sequence": 0}
    fastavro.writer(file, fastavro.parse_schema(dict(schema)), [row])
    with receiver() as (drain, client):
        answer = post(client, file.getvalue(), "application/avro")
    assert answer.json() == {"acknowledged": 1, "refused": [], "unknown_fields": []}
    assert drain.rows()[0]["probability"] == event.probability


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson", "application/avro"])
def test_a_body_of_more_events_than_can_be_under_way_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "EVENTS", 10)
    file = io.BytesIO()
    fastavro.writer(file, {"type": "record", "name": "TradeExecuted", "fields": []}, [{}] * 1_000)
    bodies = {
        "application/json": b"[" + b",".join([text(1)] * 11) + b"]",
        "application/x-ndjson": b"\n".join([text(1)] * 11),
        "application/avro": file.getvalue(),
    }
    with receiver() as (drain, client):
        answer = post(client, bodies[kind], kind)
    assert (answer.status_code, answer.json()) == (413, {"error": "a body has 10 events at most"})
    assert drain.portions == []


def test_what_is_refused_of_a_body_is_told_by_its_line_and_the_rest_is_taken() -> None:
    with receiver() as (drain, client):
        answer = post(
            client,
            text(1) + b"\n{\n" + json.dumps(SIGNAL | {"bar_id": 3, "desk": 1}).encode(),
            line="11",
            source=str(UUID(int=1)),
        )
    assert answer.json() == {
        "acknowledged": 2,
        "refused": [
            {"line": 12, "reason": "is not JSON (Expecting property name enclosed in double quotes, column 2)"}
        ],
        "unknown_fields": ["desk"],
    }
    assert drain.bars() == [1, 3]


def test_a_body_that_is_sent_again_comes_to_the_log_once() -> None:
    with receiver() as (drain, client):
        for first in (1, 1, 2):
            body = b"\n".join(text(bar) for bar in range(first, first + 3))
            assert post(client, body, source=str(UUID(int=1)), line=str(first)).status_code == 200
        jump = post(client, text(9), source=str(UUID(int=1)), line="9")
    assert (jump.status_code, jump.json()["expected"]) == (409, 5)
    assert drain.bars() == [1, 2, 3, 4]


def test_requests_that_are_wrong_are_answered_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "BODY_BYTES", 1_000)
    packed = io.BytesIO()
    fastavro.writer(packed, {"type": "record", "name": "TradeExecuted", "fields": []}, [{}], codec="deflate")
    other = io.BytesIO()
    fastavro.writer(other, {"type": "record", "name": "Other", "fields": []}, [{}])
    with receiver() as (drain, client):
        answers = [
            client.post(EVENTS, headers={"Authorization": "Bearer of another"}),
            client.post(EVENTS, headers={"Authorization": f"Basic {TOKEN}"}),
            post(client, b"x" * 2_000),
            post(client, text(1), "text/plain"),
            post(client, b"{", "application/json"),
            post(client, b"nonsense", "application/avro"),
            post(client, packed.getvalue(), "application/avro"),
            post(client, other.getvalue(), "application/avro"),
            post(client, text(1), source="7"),
            post(client, text(1), source=str(UUID(int=1)), line="0"),
            client.get(EVENTS),
        ]
    assert [answer.status_code for answer in answers] == [401, 401, 413, 415, 400, 400, 415, 400, 400, 400, 405]
    assert all("error" in answer.json() for answer in answers[:-1])
    assert drain.rows() == []


def test_without_room_or_in_time_it_is_to_be_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "ANSWER_S", 0.1)
    monkeypatch.setattr(inboxes, "ROOM", 2)
    with receiver() as (drain, client):
        drain.held = True
        late = post(client, text(1) + b"\n" + text(2), source=str(UUID(int=1)))
        full = post(client, text(3), source=str(UUID(int=1)), line="3")
        assert [(each.status_code, each.headers["Retry-After"]) for each in (late, full)] == [(503, "1")] * 2
        drain.held = False
        until(lambda: drain.bars() == [1, 2])
        assert post(client, text(1) + b"\n" + text(2), source=str(UUID(int=1))).status_code == 200
        assert post(client, text(3), source=str(UUID(int=1)), line="3").status_code == 200
    assert drain.bars() == [1, 2, 3]


def test_senders_have_to_have_a_token() -> None:
    with pytest.raises(SettingError, match="SENTIO_EVENTS_TOKEN is unset"):
        Receiver("127.0.0.1:0", load(SidecarSettings))
    with pytest.raises(SettingError, match="16 characters or more"):
        load(SidecarSettings, events_token="short")
