"""SIGKILL of the engine, at seeded moments, while a reader reads: all that was answered with yes is read, once, in order."""

import random
import struct
import subprocess
from pathlib import Path

import pytest

from producers.sidecar.ring import Ring
from tests import engines
from tests.engines import SOURCES
from tests.written import columns

KILLS = 40
CAPACITY = 4_096


@pytest.mark.parametrize("seed", [1, 2])
def test_what_the_engine_was_told_is_there_is_read_once_and_in_order(tmp_path: Path, seed: int) -> None:
    program = engines.built(tmp_path, SOURCES / "endless.c")
    path, answered = tmp_path / "ring", tmp_path / "answered"
    answered.write_bytes(bytes(4_096))
    moments = random.Random(seed)
    lives = [subprocess.Popen([program, path, str(CAPACITY), answered])]
    while not path.exists():
        pass
    try:
        with Ring(path) as reader:
            for _ in range(KILLS):
                read_on(reader, reader.position + moments.randrange(2 * CAPACITY))
                lives[-1].kill()
                lives[-1].wait()
                (yes,) = struct.unpack_from("<Q", answered.read_bytes())
                published = reader.counts().published
                assert yes <= published <= yes + 1  # it may die before it notes the answer
                if moments.random() < 0.3:
                    reader.rewind()  # as a reader that is killed too
                lives.append(subprocess.Popen([program, path, str(CAPACITY), answered]))
            read_on(reader, reader.position + 1)
    finally:
        for life in lives:
            life.kill()
            life.wait()


def read_on(reader: Ring, until: int) -> None:
    """Past this position. What is read and not acknowledged may be read again, and is the same then."""
    while reader.position <= until:
        first = reader.position
        found = reader.read(700)
        assert found.refused == ()
        for batch in columns(found).values():
            expected = list(range(first, reader.position))
            assert batch.column("sequence").to_pylist() == batch.column("bar_id").to_pylist() == expected
        if first % 3:
            reader.acknowledge(reader.position)
    reader.acknowledge(reader.position)
