"""Events that are handed over, without Kafka: what is acknowledged was taken, in order, and nothing twice."""

import threading
from types import SimpleNamespace
from uuid import UUID

import pytest

from producers.sidecar import inbox as inboxes
from producers.sidecar.inbox import Inbox, Jump
from producers.sidecar.source import QUIET_S
from tests.senders import lines, nothing
from tests.written import columns


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


def test_repeats_take_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inboxes, "ROOM", 10)
    inbox = Inbox("test")
    origin = inbox.origin("engine", UUID(int=1))
    taken = 0
    while inbox.put(origin, lines(1, 5), where="a", done=nothing, wait=False):
        taken += 1
    assert taken == 2


def test_an_engine_that_never_spoke_is_not_there_on_a_machine_that_just_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inbox = Inbox("test")
    origin = inbox.origin("engine", UUID(int=1))
    monkeypatch.setattr(inboxes, "time", SimpleNamespace(monotonic=lambda: 10.0))  # seconds since its start
    assert inbox.beats() == []
    assert not origin.is_there(10.0)


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
