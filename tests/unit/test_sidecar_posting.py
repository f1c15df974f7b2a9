"""Events by HTTP, without Kafka: what is answered with 200 was taken, and nothing twice."""

import io
import json
import signal
import socket
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from uuid import UUID

import fastavro
import httpx
import pytest

from producers.sidecar import inbox as inboxes
from producers.sidecar import posting
from producers.sidecar.posting import Receiver
from schemas.events import Event
from schemas.registry import avro_files
from sentio.config import SidecarSettings, load
from sentio.errors import SettingError
from sentio.stack.processes import free_port
from tests import samples
from tests.pipeline import until
from tests.senders import EVENTS, SIGNAL, TOKEN, drained, post, receiver, text
from tests.ways import sentio_process


def avro_file(event: Event, change: Mapping[str, object] | None = None, **more: object) -> bytes:
    """A file of one event. ``change``: of its schema; ``more``: of its fields."""
    schema = avro_files()[type(event).__name__]
    row = {field["name"]: getattr(event, field["name"]) for field in schema["fields"]} | {"sequence": 0} | more
    file = io.BytesIO()
    fastavro.writer(file, fastavro.parse_schema({**schema, **(change or {})}), [row])
    return file.getvalue()


def test_each_form_of_a_body_gives_its_events() -> None:
    event = samples.trade()
    with receiver() as (drain, client):
        answers = [
            post(client, text(1) + b"\n\n" + text(2)),
            post(client, text(3), "application/json"),
            post(client, b"[" + text(4) + b"," + text(5) + b"]", "application/json; charset=utf-8"),
            post(client, avro_file(event), "application/avro"),
        ]
    assert [answer.json()["acknowledged"] for answer in answers] == [2, 1, 2, 1]
    found = drain.rows()
    assert [row["bar_id"] for row in found[:5]] == [1, 2, 3, 4, 5]
    assert (found[5]["price"], found[5]["executed_at"]) == (event.price, event.executed_at)
    assert len({(row["producer"], row["sequence"]) for row in found}) == 6


def test_fractions_of_an_avro_file_are_numbers_too() -> None:
    event = samples.signal()
    with receiver() as (drain, client):
        answer = post(client, avro_file(event), "application/avro")
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
            post(client, text(1), source=str(UUID(int=1)), line="1" * 4_400),
            client.get(EVENTS),
        ]
    assert [answer.status_code for answer in answers] == [401, 401, 413, 415, 400, 400, 415, 400, 400, 400, 400, 405]
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


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        ("NaN", "probability is NaN, not a finite number"),
        ("-Infinity", "probability is -Infinity, not a finite number"),
        ("1e99999999999999999999", "probability is NaN, not a finite number"),
        ("7" * 5_000, f"probability is {'7' * 77}..., beyond its limits"),
    ],
)
def test_a_number_that_is_none_costs_its_own_event_only(number: str, reason: str) -> None:
    bad = text(2).replace(b"0.75", number.encode())
    with receiver() as (drain, client):
        answer = post(client, b"[" + text(1) + b"," + bad + b"," + text(3) + b"]", "application/json")
    assert answer.json() == {"acknowledged": 2, "refused": [{"line": 2, "reason": reason}], "unknown_fields": []}
    assert drain.bars() == [1, 3]


HALF = "\ud800"
"""Of a surrogate pair: JSON may hold it, UTF-8 may not."""


def test_names_and_values_that_are_no_utf_8_are_answered_as_escapes() -> None:
    body = [
        SIGNAL | {"bar_id": 1, HALF: 1, "of": {HALF: HALF}},
        SIGNAL | {"bar_id": 2, "symbol": HALF},
        SIGNAL | {"bar_id": 3, "direction": [{HALF: HALF}]},
        {"type": HALF},
    ]
    with receiver() as (drain, client):
        answer = post(client, json.dumps(body).encode(), "application/json")
    assert drain.bars() == [1]
    found = answer.json()
    assert (found["acknowledged"], found["unknown_fields"]) == (1, ["\\ud800", "of"])
    assert [each["reason"].partition(", not")[0] for each in found["refused"]] == [
        "symbol is '\\ud800'",
        "direction is [{'\\ud800': '\\ud800'}]",
        "type is '\\ud800'",
    ]


def test_names_of_an_avro_file_that_are_no_utf_8_are_answered_as_escapes() -> None:
    fields = [*avro_files()["SignalGenerated"]["fields"], {"name": "_field", "type": "int"}]
    texts = []
    with receiver() as (_, client):
        for change in ({"fields": fields}, {"name": "_event"}):
            content = (
                avro_file(samples.signal(), change, _field=1)
                .replace(b"_field", rb"\ud800")
                .replace(b"_event", rb"\ud800")
            )
            texts.append(post(client, content, "application/avro").json())
    assert texts[0] == {"acknowledged": 1, "refused": [], "unknown_fields": ["\\ud800"]}
    assert texts[1]["error"].startswith("the container file has \\ud800, not one of")


def test_requests_that_wait_when_it_stops_are_to_be_sent_again() -> None:
    made = Receiver("127.0.0.1:0", load(SidecarSettings, events_token=TOKEN))
    serving = threading.Thread(target=made.run)
    with drained(made.inbox) as drain, ThreadPoolExecutor() as pool:
        drain.held = True
        serving.start()
        with httpx.Client(
            base_url=f"http://127.0.0.1:{made.port}", headers={"Authorization": f"Bearer {TOKEN}"}
        ) as client:
            waiting = pool.submit(post, client, text(1))
            until(lambda: made.inbox.figures()["waiting"] == 1)
            made.stop()
            answer = waiting.result(posting.ANSWER_S / 2)
        serving.join(20)
        drain.held = False
        until(lambda: drain.bars() == [1])  # later than anybody hears of it
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json() == {"error": "the sidecar stops; with a Sentio-Source it can be sent again"}


def test_the_process_answers_before_it_ends(tmp_path: Path) -> None:
    settings = load(SidecarSettings, kafka="127.0.0.1:1")
    port, metrics_port = (free_port(None) for _ in range(2))
    environment = {"SENTIO_EVENTS_TOKEN": TOKEN, "SENTIO_METRICS_PORT": str(metrics_port)}
    head = f"POST {EVENTS} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {TOKEN}\r\nExpect: 100-continue\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(text(1))}\r\n\r\n"
    with sentio_process(settings, tmp_path / "log", "sidecar", "http", f"127.0.0.1:{port}", **environment) as process:
        for each in (metrics_port, port):  # the first comes once it hears signals
            until(partial(_listens, each))
        with socket.create_connection(("127.0.0.1", port), 20) as client:
            client.sendall(head.encode())
            assert client.recv(1_000).startswith(b"HTTP/1.1 100")
            client.sendall(text(1))
            process.send_signal(signal.SIGTERM)
            answer = client.makefile("rb").read()
        assert process.wait(20) == 0
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"retry-after: 1" in answer


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
