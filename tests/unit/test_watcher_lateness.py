"""When a probe is late: by partition, against what the log holds."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gateway.watch.lateness import Lateness, Said
from gateway.watch.probe import Heard

NOON = datetime(2025, 10, 10, 16, tzinfo=UTC)
HEARD = Heard({}, NOON - timedelta(days=1), {("t", 0): 5, ("t", 1): 5}, "open", "", 0.0, None, None)


def said(*offsets: int, at: datetime = NOON) -> dict[tuple[str, int], Said]:
    return {("t", number): Said(offset, at) for number, offset in enumerate(offsets)}


def test_one_partition_that_stands_still_is_late_though_the_others_go_on() -> None:
    lateness = Lateness()
    assert lateness.look(said(5, 5), HEARD, 0.0) == {}
    assert lateness.look(said(6, 6), HEARD, 10.0) == {("t", 0): 0.0, ("t", 1): 0.0}
    going_on = replace(HEARD, offsets={("t", 0): 5, ("t", 1): 6})
    assert lateness.look(said(6, 7), going_on, 20.0) == {("t", 0): 10.0, ("t", 1): 0.0}
    assert lateness.look(said(9, 7), going_on, 40.0) == {("t", 0): 30.0, ("t", 1): 20.0}
    caught_up = replace(HEARD, offsets={("t", 0): 9, ("t", 1): 7})
    assert lateness.look(said(9, 7), caught_up, 50.0) == {}
    assert lateness.look(said(10, 7), caught_up, 60.0) == {("t", 0): 0.0}


def test_a_partition_of_which_nothing_was_ever_heard_is_late_too() -> None:
    lateness, nothing = Lateness(), replace(HEARD, offsets={})
    assert lateness.look(said(3), nothing, 0.0) == {("t", 0): 0.0}
    assert lateness.look(said(3), nothing, 9.0) == {("t", 0): 9.0}


def test_what_was_published_before_the_probe_came_is_not_missed() -> None:
    lateness = Lateness()
    later = replace(HEARD, since=NOON + timedelta(seconds=1))
    assert lateness.look(said(6), later, 0.0) == {}
    assert lateness.look(said(7, at=later.since), later, 0.0) == {("t", 0): 0.0}


def test_a_probe_that_is_not_connected_is_late_in_nothing_and_has_its_time_when_it_is_back() -> None:
    lateness = Lateness()
    lateness.look(said(6), HEARD, 0.0)
    assert lateness.look(said(6), replace(HEARD, state="waiting"), 30.0) == {}
    assert lateness.look(said(6), HEARD, 31.0) == {("t", 0): 0.0}
