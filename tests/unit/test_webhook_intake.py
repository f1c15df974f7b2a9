"""What several requests bring at once is one transaction; none waits for longer than that takes."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from producers.webhooks import intake
from producers.webhooks import journal as journals
from producers.webhooks.intake import Intake, Kept
from producers.webhooks.journal import Journal
from producers.webhooks.packets import Packet
from producers.webhooks.prices import Price
from sentio.config import WebhookSettings, load
from sentio.errors import Retryable
from tests.pipeline import until
from tests.webhooks import price, toml

DEADLINE_S = 30.0


class Noted(Journal):
    """A journal that notes how many prices each transaction brings."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, max_bytes=1 << 20, remember_s=3_600)
        self.sizes: list[int] = []
        self.defect: Exception | None = None
        self.unreadable = 0
        """So many times nothing can be read from now on."""

    def keep(self, prices: Sequence[Price]) -> list[int]:
        self.sizes.append(len(prices))
        if self.defect:
            raise self.defect
        return super().keep(prices)

    def _load(self, *place: int) -> list[Packet]:
        if self.unreadable:
            self.unreadable -= 1
            raise sqlite3.OperationalError("disk I/O error")
        return super()._load(*place)


@pytest.fixture
def journal(tmp_path: Path) -> Noted:
    return Noted(tmp_path)


@pytest.fixture
def taking(tmp_path: Path, journal: Noted, monkeypatch: pytest.MonkeyPatch) -> Intake:
    """Where nothing is written for long after the first transaction, unless something else has it written."""
    monkeypatch.setattr(intake, "GATHER_S", 1_000.0)
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(toml())
    settings = load(
        WebhookSettings,
        kafka="127.0.0.1:1",
        spool=tmp_path,
        webhook_secret="a secret of the test",
        webhook_tokens=tokens,
    )
    return Intake(settings, journal)


def given(taking: Intake, *requests: list[int]) -> list[Kept]:
    """One after the other: each is in the thread's hands before the next comes."""
    found = []
    for numbers in requests:
        found.append(taking.keep([price(number) for number in numbers]))
        until(taking._arriving.empty, timeout_s=DEADLINE_S)
    return found


def test_the_first_is_written_at_once_and_what_comes_then_together(taking: Intake, journal: Noted) -> None:
    [first] = given(taking, [1])
    assert first.result(DEADLINE_S) == 1
    rest = given(taking, [2, 3], [3, 4], [1])
    taking.close()
    assert [kept.result(0) for kept in rest] == [2, 1, 0]
    assert journal.sizes == [1, 5]


def test_no_more_is_written_together_than_is_said(
    taking: Intake, journal: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "TOGETHER", 3)
    given(taking, [1])[0].result(DEADLINE_S)
    enough = given(taking, [2, 3], [4, 5])
    assert [kept.result(DEADLINE_S) for kept in enough] == [2, 2]
    taking.close()
    assert journal.sizes == [1, 4]


def test_a_defect_is_told_to_whoever_waits(taking: Intake, journal: Noted) -> None:
    journal.defect = ZeroDivisionError()
    [kept] = given(taking, [1])
    with pytest.raises(Retryable, match="stopped by a defect"):
        kept.result(DEADLINE_S)
    assert not taking.live
    taking.close()


def test_what_the_disk_does_not_give_back_for_now_is_read_again_and_the_receiver_goes_on(
    taking: Intake, journal: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "GATHER_S", 0.01)
    monkeypatch.setattr(journals, "AT_HAND_BYTES", 0)
    journal.unreadable = 2
    assert given(taking, [1])[0].result(DEADLINE_S) == 1
    until(lambda: taking._sent == 1, timeout_s=DEADLINE_S)
    assert (journal.unreadable, taking.live) == (0, True)
    assert given(taking, [2])[0].result(DEADLINE_S) == 1
    taking.close()
    assert taking.failure is None
