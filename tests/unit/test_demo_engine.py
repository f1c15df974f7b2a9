"""`sentio demo --engine cpp` says what is missing before it starts anything, and begins anew where it cannot go on."""

import re
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from producers.sidecar.ring import Ring
from sentio.cli.demo import engine
from sentio.cli.demo.engine import CppEngine, build
from sentio.cli.demo.fleet import Fleet
from sentio.cli.demo.reconcile import Report
from sentio.cli.demo.summary import compared
from sentio.cli.main import app
from sentio.errors import Fatal, SettingError
from sentio.stack.stack import Stack
from tests import engines
from tests.engines import OK, SOURCES


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        ((), "missing cmake, a C++17 compiler, make "),
        (("cmake", "ninja"), "missing a C++17 compiler "),
        (("g++", "make"), "missing cmake "),
    ],
)
def test_missing_tools_are_named_with_the_packages_that_have_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], missing: str
) -> None:
    for name in there:
        (tmp_path / name).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(SettingError, match=re.escape(missing)) as failure:
        build(tmp_path / "build")
    assert "(Debian: apt-get install cmake g++ make)" in str(failure.value)


def test_what_does_not_build_is_said_with_the_words_of_the_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines.needs("cmake")
    monkeypatch.setattr(engine, "SOURCES", tmp_path)
    with pytest.raises(Fatal, match=r"does not build: cmake -S .*(?s:.)*CMakeLists.txt"):
        build(tmp_path / "build")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--session", "."), "--session is for the player"),
        (("--seed", "-1"), "--seed -1: the engine takes whole numbers from 0"),
        (("--speed", "0"), "--speed 0: a number above zero, or max"),
    ],
)
def test_what_is_not_for_the_engine_is_named(tmp_path: Path, given: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, ["demo", "--engine", "cpp", *given, "--root", str(tmp_path)])
    assert isinstance(done.exception, SettingError)
    assert said in str(done.exception)


def test_a_ring_of_another_start_of_the_machine_is_not_gone_on_with(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    driver = engines.built(tmp_path_factory.getbasetemp() / "programs", SOURCES / "driver.c")
    origin = CppEngine(driver, tmp_path, seed=7, speed=None)
    assert origin.goes_on()
    origin.root.mkdir()
    with engines.engine(driver, origin.ring) as running:
        assert running.signal() == OK
    assert origin.goes_on()
    content = origin.ring.read_bytes()
    boot = engine.BOOT.read_text().strip().encode()
    assert content.count(boot) == 1
    origin.ring.write_bytes(content.replace(boot, boot[::-1]))
    assert not origin.goes_on()


def test_a_day_is_played_when_its_ring_is_read_to_the_end(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    driver = engines.built(tmp_path_factory.getbasetemp() / "programs", SOURCES / "driver.c")
    origin = CppEngine(driver, tmp_path, seed=7, speed=None, totals={"days": []})
    origin.root.mkdir()
    fleet = Fleet(origin.root, {}, Stack(origin.root / "stack"))
    with engines.engine(driver, origin.ring) as running:
        assert [running.signal(number) for number in range(3)] == [OK] * 3
    assert not origin.is_played(fleet)
    with Ring(origin.ring) as ring:
        ring.read()
        ring.acknowledge(2)
        assert not origin.is_played(fleet)
        ring.acknowledge(3)
        assert origin.is_played(fleet)


def test_what_the_store_says_less_is_below_zero_and_what_it_does_not_say_is_no_difference() -> None:
    report = Report("engine", {"fills": 3, "fees": Decimal("1.50"), "equity_close": Decimal(7)})
    report.day = {"fills": 2, "fees": Decimal("1.500000"), "equity_close": None}
    assert compared(report) == {
        "fills": (3, 2, -1),
        "fees": (Decimal("1.5"), Decimal("1.5"), 0),
        "equity_close": (7, None, None),
    }
