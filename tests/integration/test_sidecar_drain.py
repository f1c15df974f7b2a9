"""What a sidecar does with whatever its sources give, on a real broker."""

from datetime import datetime
from uuid import UUID

import pytest

from producers.sidecar import beats as beat_module
from producers.sidecar import refusals
from producers.sidecar.numbered import Numbered, messages
from producers.sidecar.source import Beat, Portion, Refused
from sentio.config import SidecarSettings
from sentio.hours import is_open
from sentio.testing.servers import Kafka
from tests.pipeline import until
from tests.samples import trade
from tests.ways import Scripted, draining, records, settings_for


@pytest.fixture
def settings(kafka: Kafka) -> SidecarSettings:
    return settings_for(kafka.bootstrap, kafka.prefix)


def portion(first: int, count: int) -> Portion:
    trades = [trade(n) for n in range(first, first + count)]
    numbered = [Numbered("engine@1", UUID(int=1), first + place, event) for place, event in enumerate(trades)]
    return Portion(messages(numbered))


def test_all_that_is_taken_is_acknowledged_once_kafka_has_it(settings: SidecarSettings) -> None:
    source = Scripted(*[portion(n * 10, 10) for n in range(50)])
    with draining(settings, source) as sidecar:
        until(lambda: source.acknowledged == 50)
    assert sidecar.tallies["scripted"].events == 500
    assert [row["sequence"] for row in records(settings, "TradeExecuted")] == list(range(500))


def test_a_flood_of_refusals_floods_no_log(
    settings: SidecarSettings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beat_module, "BEAT_S", 0.05)
    flood = Portion(refused=[Refused(f"line {n}", "nonsense") for n in range(500)])
    source = Scripted(flood, flood)
    with draining(settings, source) as sidecar:
        until(lambda: source.acknowledged == 2)
        said = capsys.readouterr().err
        assert said.count("an event cannot be used") == refusals.SAID_EACH_MINUTE
        monkeypatch.setattr(refusals, "MINUTE_S", 0.0)
        until(lambda: '"refused": 990' in capsys.readouterr().err)
    assert sidecar.tallies["scripted"].refused == 1_000


def test_hearts_of_engines_are_beaten_and_those_that_are_gone_say_so(
    settings: SidecarSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beat_module, "BEAT_S", 0.05)
    there = Beat("rotation@1", "rotation", "1.4", "paper", is_there=True)
    gone = Beat("other@2", "other", "", "", is_there=False)
    with draining(settings, Scripted(engines=[there, gone])):
        until(lambda: len(records(settings, "EngineHeartbeat")) >= 4)
    found = records(settings, "EngineHeartbeat")
    assert {(row["producer"], row["engine"], row["version"], row["mode"], row["state"]) for row in found} == {
        ("sidecar:rotation@1", "rotation", "1.4", "paper", "running"),
        ("sidecar:other@2", "other", "", "", "stopped"),
    }


def test_hearts_are_beaten_while_events_come_all_the_time(
    settings: SidecarSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beat_module, "BEAT_S", 0.05)

    class Endless(Scripted):
        def take(self, most: int) -> Portion | None:
            self.portions.append(portion(self.taken, 1))
            return super().take(most)

    with draining(settings, Endless(engines=[Beat("rotation@1", "rotation", "", "", is_there=True)])):
        until(lambda: len(records(settings, "EngineHeartbeat")) >= 3)


@pytest.mark.parametrize("is_there", [True, False])
def test_silence_in_trading_hours_is_an_alarm(
    settings: SidecarSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, is_there: bool
) -> None:
    monkeypatch.setattr(beat_module, "BEAT_S", 0.05)
    monkeypatch.setattr(beat_module, "SILENCE_S", 0.1)
    monkeypatch.setattr(beat_module, "is_open", lambda _: True)
    said = ""
    source = Scripted(engines=[Beat("rotation@1", "rotation", "", "", is_there=is_there)])

    def is_said() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return "an engine is silent in trading hours" in said

    with draining(settings, source):
        until(is_said)
    assert ("has its end open" if is_there else "is not there") in said


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2025-10-10T13:29:59+00:00", False),
        ("2025-10-10T13:30:00+00:00", True),
        ("2025-10-10T19:59:59+00:00", True),
        ("2025-10-10T20:00:00+00:00", False),
        ("2025-12-10T14:29:59+00:00", False),
        ("2025-12-10T14:30:00+00:00", True),
        ("2025-10-11T15:00:00+00:00", False),
    ],
)
def test_trading_hours_are_those_of_new_york(moment: str, *, expected: bool) -> None:
    assert is_open(datetime.fromisoformat(moment)) is expected
