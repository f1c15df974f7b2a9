"""When poison stops a group, and when it does not."""

import pytest

from consumers.deadletters import DeadLetters
from sentio.errors import Fatal


@pytest.fixture
def letters() -> DeadLetters:
    return DeadLetters("127.0.0.1:1", "group")


def test_more_than_half_poison_in_the_last_thousand_stops_the_group(letters: DeadLetters) -> None:
    letters.count(good=600, poison=0)
    letters.count(good=0, poison=499)
    with pytest.raises(Fatal, match="deployment's fault"):
        letters.count(good=0, poison=102)


def test_a_few_bad_records_at_the_start_do_not_stop_it(letters: DeadLetters) -> None:
    letters.count(good=0, poison=99)
    with pytest.raises(Fatal):
        letters.count(good=0, poison=1)


@pytest.mark.parametrize("poison", [0, 501, 9_000])
def test_a_large_batch_is_judged_by_its_share_of_poison(letters: DeadLetters, poison: int) -> None:
    letters.count(good=20_000 - poison, poison=poison)


def test_a_large_batch_that_is_mostly_poison_stops_the_group(letters: DeadLetters) -> None:
    with pytest.raises(Fatal):
        letters.count(good=9_000, poison=11_000)
