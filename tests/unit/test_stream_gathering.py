"""How long messages wait in the feed before they are decoded."""

from typing import Any

from gateway.stream.gathering import MOST_AT_ONCE, Gathered, Gathering


def taken(found: "list[Gathered]") -> list[tuple[str, list[Any], float]]:
    return [(one.name, one.messages, one.since_s) for one in found]


def gathering(**waits_s: float) -> Gathering:
    made = Gathering()
    for name, wait_s in waits_s.items():
        made.wait(name, wait_s)
    return made


def add(to: Gathering, name: str, messages: Any, now_s: float) -> None:
    for message in messages:
        to.add(name, message, now_s)


def test_the_first_message_waits_for_nobody_and_those_of_its_tick_for_each_other() -> None:
    on = gathering(trades=0.1)
    add(on, "trades", "a", 5.0)
    assert on.due_in_s(5.0, 1.0) == 0.0
    assert taken(list(on.due(5.0))) == [("trades", ["a"], 5.0)]
    add(on, "trades", "b", 5.02)
    add(on, "trades", "c", 5.06)
    assert not list(on.due(5.06))
    assert round(on.due_in_s(5.06, 1.0), 6) == 0.04
    assert taken(list(on.due(5.11))) == [("trades", ["b", "c"], 5.02)]
    assert not on
    assert on.due_in_s(5.11, 1.0) == 1.0


def test_a_quiet_topic_and_one_that_nobody_waits_on_are_not_held_by_a_busy_one() -> None:
    on = gathering(trades=0.1, signals=0.1)
    add(on, "trades", "a", 1.0)
    assert len(list(on.due(1.0))) == 1
    add(on, "trades", "b", 1.01)
    add(on, "signals", "x", 1.02)
    add(on, "engine", "y", 1.02)
    assert sorted(taken(list(on.due(1.02)))) == [("engine", ["y"], 1.02), ("signals", ["x"], 1.02)]
    add(on, "engine", "z", 1.03)
    assert taken(list(on.due(1.03))) == [("engine", ["z"], 1.03)]
    assert taken(list(on.all(1.04))) == [("trades", ["b"], 1.01)]


def test_who_asks_for_no_wait_has_what_is_held_at_once() -> None:
    on = gathering(trades=0.1)
    add(on, "trades", "a", 1.0)
    assert len(list(on.due(1.0))) == 1
    add(on, "trades", "b", 1.01)
    on.wait("trades", 0.0)
    assert taken(list(on.due(1.02))) == [("trades", ["b"], 1.01)]


def test_what_waits_is_bounded() -> None:
    on = gathering(trades=0.1)
    add(on, "trades", "a", 1.0)
    assert len(list(on.due(1.0))) == 1
    add(on, "trades", range(MOST_AT_ONCE - 1), 1.01)
    assert not list(on.due(1.02))
    add(on, "trades", [0], 1.02)
    assert [len(one.messages) for one in on.due(1.02)] == [MOST_AT_ONCE]
