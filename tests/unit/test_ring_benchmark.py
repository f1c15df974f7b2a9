"""The program that measures an engine's publish() says what the benchmark reads, and the benchmark makes rows of it."""

from pathlib import Path

import pytest

from benchmarks import ring
from benchmarks.harness import Unavailable
from benchmarks.sidecar import Figures
from tests import engines


@pytest.mark.parametrize("kind", ring.KINDS)
def test_every_call_is_accounted_for(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engines.needs("cc")
    monkeypatch.setattr(ring, "EVENTS", 5_000)
    monkeypatch.setattr(ring, "CAPACITY", 4_096)
    found = ring.published(tmp_path / "ring", kind, rate=0)
    assert found["full"] == 5_000 - 4_096
    assert found["p50_ns"] <= found["p99_ns"] <= found["p999_ns"] <= found["max_ns"]
    assert ring.reading(kind)["cpu_us"] > 0


def test_a_row_has_the_medians_and_the_largest_of_all() -> None:
    rounds = iter([{"cpu_us": cpu, "wall_us": 1.0, "p50_ns": cpu, "max_ns": cpu} for cpu in (3.0, 9.0, 5.0)])
    row = ring._row("sentio: trades, up", 3, lambda: next(rounds))
    assert (row["cpu_us_per_event"], row["parts"]) == (5.0, {"p50_ns": 5.0, "max_ns": 9.0})


def test_what_cannot_be_measured_says_why() -> None:
    def never() -> Figures:
        raise Unavailable("no C compiler (cc) for the engine")

    assert ring._row("reading", 3, never) == {"who": "reading", "why": "no C compiler (cc) for the engine"}
