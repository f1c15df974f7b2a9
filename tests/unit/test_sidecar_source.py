"""Which ring of a path the sidecar reads: none that cannot be used stops it, and none is removed that isn't its own."""

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from producers.sender import Counts, Parcel
from producers.sidecar import drain, rings
from producers.sidecar.beats import Beats
from producers.sidecar.drain import Sidecar
from producers.sidecar.messages import Messages
from producers.sidecar.ring import Ring
from producers.sidecar.rings import RingSource
from producers.sidecar.source import Portion, Source
from sentio.config import PublisherSettings, load
from tests import engines, ways
from tests.engines import BAD_AMOUNT, DROPPED, OK, SOURCES

Lines = Callable[[], str]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engines.built(tmp_path_factory.getbasetemp() / "programs", SOURCES / "driver.c")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(rings, "REOPEN_S", 0.0)
    monkeypatch.setattr(rings, "TELL_S", 0.0)
    return tmp_path / "engine"


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Lines:
    return lambda: "".join(capsys.readouterr())


def write(driver: Path, path: Path, *, capacity: int = 64) -> None:
    with engines.engine(driver, path, capacity=capacity) as engine:
        assert engine.signal() == OK


def set_aside(driver: Path, path: Path, capacity: int) -> Path:
    """The ring that was there, once its engine has made another."""
    with Ring(path) as ring:
        aside = path.with_name(f"{path.name}.{ring.id}")
    write(driver, path, capacity=capacity)
    assert aside.exists()
    return aside


def read(source: RingSource) -> list[Path]:
    """The rings that it comes to, each read to its end."""
    found = []
    while (ring := source.ring()) and ring.path not in found:
        found.append(ring.path)
        while ring.counts().unread:
            ring.read()
            ring.acknowledge(ring.position)
        source.spent()
    return found


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"no ring!")


def test_rings_that_cannot_be_read_are_passed_over_and_said_once(driver: Path, path: Path, said: Lines) -> None:
    write(driver, path)
    broken = set_aside(driver, path, 128)
    damage(broken)
    sound = set_aside(driver, path, 256)
    os.utime(broken, (0, 0))
    source = RingSource(path)
    assert read(source) == [sound, path]
    path.unlink()
    source.close()
    assert [source.ring() for _ in range(3)] == [None] * 3
    assert said().count(f"ring {broken}: the file is no ring") == 1
    write(driver, path)
    assert read(source) == [path]
    source.close()


def test_a_ring_that_is_gone_while_it_is_looked_for_is_no_matter(
    driver: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(driver, path)
    aside = set_aside(driver, path, 128)
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda *given: itertools.chain(glob(*given), [aside.with_name("gone")]))
    aside.unlink()
    source = RingSource(path)
    assert read(source) == [path]
    source.close()


@pytest.mark.parametrize("call", ["glob", "stat", "open"])
def test_an_error_of_the_system_is_said_and_ends_nothing(
    driver: Path, path: Path, said: Lines, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    write(driver, path)
    source = RingSource(path)
    with monkeypatch.context() as patched:
        patched.setattr(Path, call, refused)
        assert [source.ring(), source.ring()] == [None, None]
    assert said().count("Operation not permitted") == 1
    assert read(source) == [path]
    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", refused)
        source.spent()
    assert source.ring() is not None
    source.close()


def refused(*_: object, **__: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_a_ring_that_cannot_be_removed_is_read_once_and_said_once(
    driver: Path, path: Path, said: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(driver, path)
    aside = set_aside(driver, path, 128)
    source = RingSource(path)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refused)  # another's file in a sticky directory
        assert read(source) == [aside, path]
        source.close()
        assert read(source) == [path]
    source.close()
    assert said().count("cannot be removed") == 1
    assert aside.exists()


def test_what_another_ring_set_aside_is_left_to_its_own_sidecar(driver: Path, path: Path) -> None:
    other = path.with_name("engine.paper")
    write(driver, other)
    aside = set_aside(driver, other, 128)
    write(driver, path)
    source = RingSource(path)
    assert read(source) == [path]
    source.close()
    assert aside.exists()
    with Ring(aside) as ring:
        assert ring.counts().unread == 1


def test_a_ring_whose_name_only_looks_like_one_set_aside_is_neither_read_nor_removed(
    driver: Path, path: Path, said: Lines
) -> None:
    alike = path.with_name("engine.01234567-89ab-cdef-0123-456789abcdef")
    write(driver, alike)
    write(driver, path)
    source = RingSource(path)
    assert read(source) == [path]
    source.close()
    with Ring(alike) as ring:
        assert ring.counts().unread == 1
    assert f"ring {alike}: its id is {ring.id}, not that of its name" in said()


def test_a_ring_is_not_removed_while_an_engine_has_it_open(driver: Path, path: Path, said: Lines) -> None:
    write(driver, path)
    aside = set_aside(driver, path, 128)
    with engines.engine(driver, aside) as engine:
        assert engine.opened == "open"
        source = RingSource(path)
        assert read(source) == [aside, path]
        assert engine.signal() == OK
    source.close()
    assert "cannot be removed" in said()
    source = RingSource(path)
    assert read(source) == [aside, path]
    source.close()
    assert not aside.exists()


def test_a_ring_with_more_to_read_is_not_removed(driver: Path, path: Path) -> None:
    write(driver, path)
    with Ring(path) as ring:
        ring.read()
        write(driver, path)
        ring.remove()
        assert path.exists()
        ring.read()
        ring.remove()
    assert not path.exists()


def test_what_an_engine_loses_is_said_when_it_is_seen_and_then_once_a_minute(
    driver: Path, path: Path, said: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    source = RingSource(path)
    with engines.engine(driver, path, drop=True) as engine:
        assert [engine.signal(number) for number in range(66)] == [OK] * 64 + [DROPPED] * 2
        assert source.ring()
        lines = said()
        assert "events are lost: the ring was full" in lines
        assert '"dropped": 2' in lines
        assert "refused" not in lines
        assert [engine.signal(), engine.trade(price=0)] == [DROPPED, BAD_AMOUNT]
        assert source.ring()
        lines = said()
        assert '"refused": 1' in lines
        assert "dropped" not in lines
        now_s += 61
        assert source.ring()
        assert '"dropped": 3' in said()
        now_s += 61
        assert source.ring()
        assert said() == ""
    source.close()


class Unheard:
    """A sender that Kafka does not answer, until it is told that it did."""

    def __init__(self, *_: object, **__: object) -> None:
        self.sent = self.acknowledged = 0
        self.turns = threading.Semaphore(0)

    def turn(self) -> int:
        self.turns.release()
        return 0

    def send(self, parcel: Parcel) -> None:
        self.sent += len(parcel.values)

    def counts(self) -> Counts:
        return Counts(self.acknowledged, 0, 0)

    def abandon(self) -> None:
        pass

    def has_turned(self, times: int) -> None:
        """Since it was asked."""
        while self.turns.acquire(blocking=False):
            pass
        for _ in range(times):
            assert self.turns.acquire(timeout=20)


@contextmanager
def draining(monkeypatch: pytest.MonkeyPatch, sender: Unheard, source: Source) -> Iterator[None]:
    """A sidecar with this sender, in a thread."""
    monkeypatch.setattr(drain, "KafkaSender", lambda *_, **__: sender)
    with ways.running(Sidecar(load(PublisherSettings), [source])):
        yield


def test_librdkafka_is_heard_while_rings_are_empty(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = Unheard()
    with draining(monkeypatch, sender, RingSource(path)):
        sender.has_turned(2)


@pytest.mark.parametrize(("gathered_s", "at_first"), [(3_600.0, 1), (0.0, 3)])
def test_while_kafka_has_not_acknowledged_events_are_gathered(
    monkeypatch: pytest.MonkeyPatch, gathered_s: float, at_first: int
) -> None:
    monkeypatch.setattr(drain, "GATHERED_S", gathered_s)
    monkeypatch.setattr(drain, "OPEN_S", 3_600.0)
    sender = Unheard()
    source = ways.Scripted(*[Portion([Messages("TradeExecuted", [b"TQQQ"], [b"a trade"])])] * 3)
    with draining(monkeypatch, sender, source):
        sender.has_turned(10)
        assert sender.sent == at_first
        for acknowledged in range(at_first, 4):
            sender.acknowledged = acknowledged
            sender.has_turned(10)
            assert source.acknowledged == acknowledged
            assert sender.sent == min(acknowledged + 1, 3)


def test_while_kafka_is_away_no_engine_is_called_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = threading.Semaphore(0)
    monkeypatch.setattr(Beats, "deaf", lambda _: deaf.release())
    monkeypatch.setattr(drain, "AWAY_S", 0.0)
    sender = Unheard()
    source = ways.Scripted()
    with draining(monkeypatch, sender, source):
        sender.has_turned(10)
        assert not deaf.acquire(blocking=False), "there is nothing that Kafka lacks"
        source.portions.append(Portion([Messages("TradeExecuted", [b"TQQQ"], [b"a trade"])]))
        assert deaf.acquire(timeout=20)


def test_a_ring_that_could_not_be_opened_at_first_is_read_later(driver: Path, path: Path, said: Lines) -> None:
    write(driver, path)
    aside = set_aside(driver, path, 128)
    source = RingSource(path)
    with Ring(aside):  # by a sidecar that is about to end
        assert read(source) == [path]
        assert "another reader" in said()
    source.spent()
    assert read(source) == [aside, path]
    assert not aside.exists()
    source.close()


def test_a_ring_that_was_set_aside_stays_until_all_of_it_is_acknowledged(driver: Path, path: Path) -> None:
    write(driver, path)
    aside = set_aside(driver, path, 128)
    source = RingSource(path)
    assert source.take(10)
    assert source.take(10) is None
    assert aside.exists()
    source.acknowledge()
    assert source.take(10) is None
    assert not aside.exists()
    assert source.take(10)
    source.close()


def test_what_a_ring_says_of_its_engine_is_its_beat(driver: Path, path: Path) -> None:
    source = RingSource(path)
    assert source.beats() == []
    with engines.engine(driver, path, name="rotation", version="1.4", mode="paper") as engine:
        engine.signal()
        source.take(10)
        [beat] = source.beats()
        assert beat[1:] == ("rotation", "1.4", "paper", True, None)
        assert beat.producer.startswith("rotation@")
        engine.kill()
        assert source.beats() == [beat._replace(is_there=False)]
        with engines.engine(driver, path, name="rotation"):
            assert [each[1:] for each in source.beats()] == [("rotation", "", "", True, None)]
    source.close()
