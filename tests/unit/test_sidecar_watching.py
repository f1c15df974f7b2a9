"""What ends a sidecar's wait: a record, a line, a damaged ring; each test would hang if it did not."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from producers.sidecar import inbox, watching
from producers.sidecar.inbox import Inbox, line_of
from producers.sidecar.rings import RingSource
from producers.sidecar.watching import Watch
from tests import engines
from tests.engines import OK, SOURCES

NEVER_S = 3_600.0


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engines.built(tmp_path_factory.getbasetemp() / "programs", SOURCES / "driver.c")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sentio_native")  # only there are rings watched
    monkeypatch.setattr(watching, "TURN_S", NEVER_S)
    monkeypatch.setattr(inbox, "TURN_S", NEVER_S)


@contextmanager
def waiting(wait: Callable[[threading.Event, float], object]) -> Iterator[None]:
    """Something waits until the block is over, and has then to come back."""
    waiter = threading.Thread(target=wait, args=(threading.Event(), 0.0), daemon=True)
    waiter.start()
    waiter.join(0.05)
    assert waiter.is_alive(), "it did not wait"
    yield
    waiter.join(20)
    assert not waiter.is_alive()


def test_a_record_in_any_of_the_rings_ends_the_wait(driver: Path, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("quiet", "ring", "none")]
    sources = [RingSource(path) for path in paths]
    with engines.engine(driver, paths[0]), engines.engine(driver, paths[1]) as engine:
        for source in sources:
            assert source.take(10) is None
        for _ in range(2):
            with waiting(Watch(sources)):
                assert engine.signal() == OK
            [source] = [source for source in sources if source.take(10)]
            assert source.path == paths[1]
    for source in sources:
        source.close()


def test_a_ring_that_is_cut_ends_the_wait(driver: Path, tmp_path: Path) -> None:
    path = tmp_path / "ring"
    source = RingSource(path)
    with engines.engine(driver, path):
        assert source.take(10) is None
        with waiting(Watch([source])):
            os.truncate(path, 4_096)
        assert source.take(10) is None
        assert source.opened is None, "it is given up"


def test_without_an_open_ring_it_waits_until_the_next_look(tmp_path: Path) -> None:
    Watch([RingSource(tmp_path / "none")])(threading.Event(), 0.0)


def test_python_looks_now_and_then(driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "TURN_S", 0.001)
    source = RingSource(tmp_path / "ring")
    with engines.engine(driver, source.path):
        assert source.take(10) is None
        Watch([source])(threading.Event(), 0.0)
        source.close()


@pytest.mark.parametrize(("quiet_s", "step_s"), [(0.0, 0.001), (1.0, 0.002), (4.0, 0.008), (3_600.0, 0.008)])
def test_the_longer_a_ring_is_quiet_the_less_often_it_is_looked_at(
    driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet_s: float, step_s: float
) -> None:
    steps_s: list[float] = []
    looker = SimpleNamespace(wait_for_records=lambda _, step_s, __: steps_s.append(step_s))
    monkeypatch.setattr(watching, "sentio_native", looker)
    source = RingSource(tmp_path / "ring")
    with engines.engine(driver, source.path):
        assert source.take(10) is None
        Watch([source])(threading.Event(), quiet_s)
        source.close()
    assert steps_s == [pytest.approx(step_s)]


def test_a_line_ends_the_wait(tmp_path: Path) -> None:
    lines = Inbox("listen:test")
    with waiting(lines.wait):
        assert lines.put(lines.own, [line_of(1, b"{}")], where="a test", done=lambda: None)
    lines.wait(threading.Event(), 0.0)  # at once: it was not taken
    assert lines.take(10)
