"""Who may open a ring, and what becomes of one that is not gone on with."""

import struct
from pathlib import Path

import pytest

from producers.sidecar import layout
from producers.sidecar.ring import Ring
from tests import engines
from tests.engines import NOT_OPEN, OK, SOURCES
from tests.written import columns

BOOT = slice(72, 108)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engines.built(tmp_path_factory.getbasetemp() / "programs", SOURCES / "driver.c", engines.C, *engines.MEMORY)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ring"


def opened(driver: Path, path: Path, *, name: str = "engine", capacity: int = 64) -> str:
    with engines.engine(driver, path, name=name, capacity=capacity) as engine:
        return engine.opened


def write(driver: Path, path: Path, *bars: int, capacity: int = 64) -> None:
    with engines.engine(driver, path, capacity=capacity) as engine:
        assert engine.opened == "open"
        assert [engine.signal(bar) for bar in bars] == [OK] * len(bars)


def bars(path: Path) -> list[int]:
    with Ring(path) as reader:
        found: list[int] = columns(reader.read())["SignalGenerated"].column("bar_id").to_pylist()
    return found


def test_a_second_producer_is_refused_until_the_first_is_gone_however_it_went(driver: Path, path: Path) -> None:
    with engines.engine(driver, path) as first:
        with engines.engine(driver, path) as second:
            assert second.opened == f"ring {path}: another producer has it open"
            assert second.signal() == NOT_OPEN
        first.signal(0)
        first.kill()
        with engines.engine(driver, path) as third:
            assert third.opened == "open"
            assert third.signal(1) == OK
    assert bars(path) == [0, 1]


def test_a_closed_ring_can_be_opened_again_and_goes_on(driver: Path, path: Path) -> None:
    with engines.engine(driver, path) as first:
        first.signal(0)
        first.tell("close")
        write(driver, path, 1)
    assert bars(path) == [0, 1]


def test_a_process_may_have_several_rings(driver: Path, path: Path) -> None:
    write(driver, path, 0)
    write(driver, path.with_name("other"), 1)
    with Ring(path) as one, Ring(path.with_name("other")) as other:
        assert one.id != other.id
        assert one.producer == f"engine@{one.id}"


@pytest.mark.parametrize(("at", "said"), [(8, "layout 5-{:016x}"), (16, "layout 1-0000000000000005")])
def test_a_ring_of_another_layout_is_refused_with_both(driver: Path, path: Path, at: int, said: str) -> None:
    write(driver, path, 0)
    patch(path, at, struct.pack("<Q", 5))
    here = layout.layout_hash()
    assert f"{said.format(here)}, this sentio.h has 1-{here:016x}" in opened(driver, path)


def test_a_ring_of_another_engine_is_refused(driver: Path, path: Path) -> None:
    write(driver, path, 0)
    assert opened(driver, path, name="other") == f"ring {path} is that of the engine engine, not of other"


@pytest.mark.parametrize("content", [b"", b"a text", bytes(8_192), b"x" * 100_000])
def test_a_file_that_is_no_ring_is_left_as_it_is(driver: Path, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert opened(driver, path) == f"ring {path}: the file is no ring"
    assert path.read_bytes() == content


@pytest.mark.parametrize(("at", "word"), [(24, 0), (24, 63), (24, 2**62), (256, 2**40), (384, 2**63)])
def test_a_head_that_makes_no_sense_is_refused(driver: Path, path: Path, at: int, word: int) -> None:
    write(driver, path, 0)
    patch(path, at, struct.pack("<Q", word))
    assert opened(driver, path) == f"ring {path}: its head is damaged; move the file away"


def test_what_cannot_be_opened_is_said(driver: Path, tmp_path: Path) -> None:
    assert (
        opened(driver, tmp_path / "none/ring")
        == f"ring {tmp_path}/none/ring: cannot be made: No such file or directory"
    )
    assert opened(driver, tmp_path) == f"ring {tmp_path}: cannot be opened: Is a directory"
    for capacity in (0, 63, 65, 2**31):
        assert "no power of two from 64 to 2^30" in opened(driver, tmp_path / "ring", capacity=capacity)
    for name in ("", "x" * 33):
        assert "the engine's name is missing or longer" in opened(driver, tmp_path / "ring", name=name)
    assert "the engine's name, version or mode is not UTF-8" in opened(driver, tmp_path / "ring", name="Engl\udcff")
    assert opened(driver, tmp_path / "ring", name="x" * 32) == "open"


def test_a_ring_is_on_the_disk_before_it_has_its_name(driver: Path, path: Path) -> None:
    engines.ran(engines.built(driver.parent, SOURCES / "synced.c"), path)


def test_after_a_start_of_the_machine_positions_are_not_given_again(driver: Path, path: Path) -> None:
    write(driver, path, 0, 1)
    former = path.read_bytes()
    patch(path, BOOT.start, b"another start of the machine........")
    write(driver, path, 2)
    assert bars(path) == [2]
    [aside] = path.parent.glob("ring.*-*")
    assert bars(aside) == [0, 1]
    with Ring(path) as now, Ring(aside) as before:
        assert now.id != before.id
        assert aside.name == f"ring.{before.id}"
    assert former[BOOT] == path.read_bytes()[BOOT]


def test_another_capacity_is_another_ring_and_what_is_in_the_former_is_kept(driver: Path, path: Path) -> None:
    write(driver, path, 0)
    write(driver, path, 1, capacity=128)
    assert bars(path) == [1]
    [aside] = path.parent.glob("ring.*-*")
    assert bars(aside) == [0]


def test_a_draft_that_a_killed_engine_left_is_no_hindrance(driver: Path, path: Path) -> None:
    draft = path.with_name("ring.new")
    draft.write_bytes(b"half a head")
    write(driver, path, 0)
    assert bars(path) == [0]
    # Killed between the two names, and the ring was set aside since: the draft is that ring.
    draft.hardlink_to(path)
    path.rename(path.with_name("ring.aside"))
    write(driver, path, 1)
    assert bars(path) == [1]
    assert bars(path.with_name("ring.aside")) == [0]
    assert not draft.exists()


def patch(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)
