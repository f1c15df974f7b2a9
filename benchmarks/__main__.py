"""`make bench`: the benchmarks, their tables, benchmarks/results/ and docs/performance.md."""

import importlib
import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Protocol, cast

import typer
from rich.console import Console

from benchmarks import harness, programs, report, results, scale, stage
from benchmarks.goals import Goal
from benchmarks.harness import Contestant
from benchmarks.stage import Stage
from sentio import log

NAMES = ("codec", "publish", "latency", "store", "aggregates", "ring", "gateway", "webhooks", "replay", "page")


class Benchmark(Protocol):
    """What a benchmark module holds; ``versions()`` names its peers' where it has any.

    One without contestants has ``rows(stage, rounds)``, which gives the rows themselves, and ``EVENTS`` where it
    counts others than those of the stage.
    """

    NAME: str
    TITLE: str
    NOTES: str
    PROFILE: str
    GOALS: list[Goal]

    def contestants(self, stage: Stage) -> list[Contestant]: ...


def main(
    only: Annotated[str | None, typer.Option(help=f"One of {', '.join(NAMES)}; all of them without.")] = None,
    events: Annotated[int, typer.Option(min=1_000, help="Events that are timed, in every round.")] = 200_000,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    *,
    report_only: Annotated[
        bool, typer.Option(help="Only write docs/performance.md from the results there are.")
    ] = False,
) -> None:
    """Run benchmarks on servers of their own, write results and docs/performance.md."""
    log.configure("ERROR", process="bench")
    programs.end_in_order()
    console = Console(stderr=True, highlight=False)
    if only is not None and only not in NAMES:
        raise typer.BadParameter(f"ONLY={only}: it may be {', '.join(NAMES)}")
    if not report_only:
        # Not below the project: PostgreSQL's user may have to pass through, and paths stay short.
        root = Path(tempfile.mkdtemp(prefix="sentio-bench-"))
        try:
            with stage.raised(root, events, console.print) as (rehearsal, timed):
                for name in [only] if only else NAMES:
                    _run(benchmark(name), rehearsal, timed, rounds, console)
        finally:
            shutil.rmtree(root, ignore_errors=True)
    path = report.write({name: benchmark(name) for name in NAMES if exists(name)})
    if gateway := results.read_all().get("gateway"):
        scale.write(gateway)
    console.print(f"written: {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path.name}")


def _run(each: Benchmark, rehearsal: Stage, timed: Stage, rounds: int, console: Console) -> None:
    console.print(f"[bold]{each.TITLE}[/bold]")
    versions = getattr(each, "versions", dict)() | results.versions(timed)
    if hasattr(each, "rows"):
        rows = each.rows(timed, rounds)
    else:
        rows = [row.as_json() for row in harness.run(each.contestants(timed), rehearsal, timed, rounds=rounds)]
    result = results.document(rows, events=getattr(each, "EVENTS", timed.events), rounds=rounds, versions=versions)
    results.write(each.NAME, result)
    Console(width=None if sys.stdout.isatty() else 160).print(report.table(each.TITLE, result))


def exists(name: str) -> bool:
    return importlib.util.find_spec(f"benchmarks.{name}") is not None


def benchmark(name: str) -> Benchmark:
    return cast("Benchmark", importlib.import_module(f"benchmarks.{name}"))


if __name__ == "__main__":
    typer.run(main)
