"""Which engine a sidecar calls silent, and when."""

from collections.abc import Callable
from types import SimpleNamespace
from uuid import UUID

import pytest

from producers.sidecar import beats, inbox
from producers.sidecar.beats import SILENCE_S, Beats
from producers.sidecar.inbox import Inbox, line_of
from tests.ways import Scripted

Clock = Callable[[float], None]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Lets seconds pass; the market is open."""
    clock = SimpleNamespace(s=1_000.0)

    def pass_by(seconds: float) -> None:
        clock.s += seconds

    for module in (beats, inbox):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.s))
    monkeypatch.setattr(beats, "is_open", lambda _: True)
    return pass_by


@pytest.fixture
def silent(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """What was said of silent engines since it was asked."""
    return lambda: [line for line in "".join(capsys.readouterr()).splitlines() if "is silent" in line]


def test_each_engine_of_a_source_is_looked_at(later: Clock, silent: Callable[[], list[str]]) -> None:
    source = Inbox("listen:test")
    one, two, again = (source.origin(name, UUID(int=at)) for at, name in enumerate(["one", "two", "two"]))
    for each in (one, two):
        source.connected(each, 1)
    heard = Beats()
    for each in (two, again, again, again):
        later(SILENCE_S / 2)
        source.put(each, [line_of(each.next or 1, b"")], where="a test", done=lambda: None)
        heard.spoke(source.name)
        heard.of([source])
    [line] = silent()
    assert '"engine": "one"' in line, "and not the former run of two"
    assert "has its end open" in line


def test_silence_begins_anew_when_nothing_was_taken(later: Clock, silent: Callable[[], list[str]]) -> None:
    source, heard = Scripted(), Beats()
    later(SILENCE_S - 1)
    heard.deaf()
    later(SILENCE_S - 1)
    heard.of([source])
    assert silent() == []
    later(2)
    heard.of([source])
    assert len(silent()) == 1


def test_an_engine_that_comes_has_its_time(later: Clock, silent: Callable[[], list[str]]) -> None:
    source, heard = Inbox("listen:test"), Beats()
    later(10 * SILENCE_S)
    source.connected(source.origin("late", UUID(int=1)), 1)
    heard.of([source])
    assert silent() == []
