"""Events from sockets, without Kafka: engines are told what was taken, and what was not."""

import json
import select
import socket
from contextlib import suppress
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from producers.sidecar import listening
from producers.sidecar.listening import Listener
from sentio.errors import SettingError
from tests.pipeline import until
from tests.senders import drained, engine, listener, text


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


def test_an_address_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    with listener(tmp_path / "s"), pytest.raises(SettingError, match="another process listens on it"):
        Listener(str(tmp_path / "s"))
    with listener(tmp_path / "s"):  # nobody does any more
        pass
    with pytest.raises(SettingError, match=r"listen .*none/s"):
        Listener(str(tmp_path / "none" / "s"))


def test_an_engine_that_sends_no_more_is_told_what_it_waits_for(tmp_path: Path) -> None:
    with listener(tmp_path / "s") as drain, engine(tmp_path / "s") as client:
        drain.held = True
        client.greet(source=str(uuid4()), acknowledge=True)
        client.send(text(1), b"\n")
        client.socket.shutdown(socket.SHUT_WR)
        assert not select.select([client.socket], [], [], 0.5)[0], "it was closed unanswered"
        drain.held = False
        assert client.answer() == {"acknowledged": 1}
        assert client.answer() is None


@pytest.mark.parametrize("by", ["unix", "tcp"])
def test_a_connection_whose_engine_is_gone_does_not_wait_for_kafka(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "tcp":  # it does not tell
        monkeypatch.setattr(listening, "LAST_ANSWERS_S", 0.1)
    made = Listener(str(tmp_path / "s") if by == "unix" else "127.0.0.1:0")
    source = uuid4()
    origin = made.inbox.origin("rotation", source)
    with drained(made.inbox) as drain:
        drain.held = True
        greeting = {"engine": "rotation", "source": str(source), "acknowledge": True}
        with socket.socket(socket.AF_UNIX if by == "unix" else socket.AF_INET) as client:
            client.connect(str(tmp_path / "s") if by == "unix" else ("127.0.0.1", made.port))
            client.sendall(json.dumps(greeting).encode() + b"\n" + text(1) + b"\n")
            until(lambda: made.inbox.figures()["waiting"] == 1)
            assert origin.open == 1
        until(lambda: origin.open == 0, timeout_s=20)
        assert drain.portions == []
    made.close()


def test_a_last_line_without_an_end_is_told_and_may_be_sent_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(uuid4())
    said = f"line 2 has no end after {len(text(2))} bytes: it may be cut off"
    with listener(tmp_path / "s") as drain:
        with engine(tmp_path / "s") as client:
            client.greet(source=source, acknowledge=True)
            client.send(text(1), b"\n", text(2))
            client.socket.shutdown(socket.SHUT_WR)
            assert [client.answer(), client.answer(), client.answer()] == [{"acknowledged": 1}, {"error": said}, None]
        with engine(tmp_path / "s") as client:
            client.greet(source=source, line=2, acknowledge=True)
            client.send(text(2), b"\n")
            assert client.answer() == {"acknowledged": 2}
    assert drain.bars() == [1, 2]
    assert drain.refused() == []
    [told] = [line for line in map(json.loads, capsys.readouterr().err.splitlines()) if "cause" in line]
    assert (told["source"], told["cause"]) == (drain.inbox.name, said)


@pytest.mark.parametrize("size", [100, 5_000])
def test_a_last_line_without_an_end_that_has_no_source_is_refused(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "LINE_BYTES", 1_000)
    with listener(tmp_path / "s") as drain:
        with engine(tmp_path / "s") as client:
            client.send(text(1), b"\n", b"x" * size)
        [(place, reason)] = until(drain.refused)
    assert place.endswith(" line 2")
    assert reason == f"has no end after {size} bytes: it may be cut off"
    assert drain.bars() == [1]
