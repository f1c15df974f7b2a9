"""The schedule of the chaos test: everything the proof asks for, at moments that only the seed decides."""

from collections import Counter

import pytest

from tests.chaos.schedule import GROUPS, RING, ROUND_EVENTS, SERVERS, Step, plan

SEEDS = range(50)


def test_the_seed_alone_decides() -> None:
    assert plan(7, 200_000) == plan(7, 200_000)
    assert len({tuple(plan(seed, 200_000)) for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_round_holds_every_fault(seed: int) -> None:
    for number in range(3):
        first = number * ROUND_EVENTS
        steps = [step for step in plan(seed, 3 * ROUND_EVENTS) if first <= step.at < first + ROUND_EVENTS]
        happens = Counter((step.verb, step.whom) for step in steps)
        assert {("freeze", whom) for whom in (*GROUPS, *RING)} <= happens.keys()
        assert {("freeze-in-transaction", group) for group in GROUPS} <= happens.keys()
        assert all(happens["kill", whom] >= 2 for whom in (*GROUPS, *SERVERS, *RING, "publisher"))
        assert happens["cut", "retention"] == 1
        assert [step.whom for step in steps if step.verb == "scale"] == ["1", "3", "2"]


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_killed_or_frozen_is_back_before_the_end(seed: int) -> None:
    steps = plan(seed, ROUND_EVENTS)
    for away, back, whom in (
        *(("kill", "start", whom) for whom in (*GROUPS, *SERVERS, *RING)),
        *(("freeze", "wake", whom) for whom in RING),
    ):
        leaves = [step.at for step in steps if (step.verb, step.whom) == (away, whom)]
        returns = [step.at for step in steps if (step.verb, step.whom) == (back, whom)]
        assert len(leaves) == len(returns)
        assert all(any(left < at < ROUND_EVENTS for at in returns) for left in leaves)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_publisher_and_a_sidecar_die_while_the_broker_is_away(seed: int) -> None:
    steps = plan(seed, ROUND_EVENTS)
    outages = [
        (
            step.at,
            min(other.at for other in steps if (other.verb, other.whom) == ("start", "broker") and other.at > step.at),
        )
        for step in steps
        if (step.verb, step.whom) == ("kill", "broker")
    ]
    for whom in ("publisher", "sidecar"):
        deaths = [step.at for step in steps if (step.verb, step.whom) == ("kill", whom)]
        assert any(down < death < up for down, up in outages for death in deaths)


@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_freezes_before_another_member_can_take_over(seed: int) -> None:
    steps = plan(seed, ROUND_EVENTS)
    three = steps.index(next(step for step in steps if (step.verb, step.whom) == ("scale", "3")))
    frozen = [step for step in steps if step.verb.startswith("freeze") and step.whom in GROUPS]
    assert all(steps.index(step) > three for step in frozen)
    assert steps[0] == Step(0, "scale", "1")
