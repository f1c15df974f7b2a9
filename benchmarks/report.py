"""Results for people: a table on the terminal, and docs/performance.md from every result there is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.table import Table

from benchmarks import results
from benchmarks.goals import Goal
from benchmarks.harness import APART

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"

INTRODUCTION = """# Performance

What an event costs, ours beside limits and what one would use instead. Written by `make bench` from
`benchmarks/results/`; run it yourself, it takes about 45 minutes, or `make bench ONLY=store`.

**How it is measured.** All figures are microseconds of processor time (user and system) per event, the median of
{rounds} rounds in which the contestants take turns: wall time depends on what else a machine does, and is given for
orientation only. The *total* is the client and the database (or the parts that a table names); the broker's share is
apart, since it is about the same whoever asks, and so is a JVM's compiler, which rests at some time, only later than
a round lasts. Every contestant is a process of its own on the same Kafka and the same PostgreSQL, on fresh topics,
groups and tables with the same keys and indexes, durability as shipped (`fsync`, `synchronous_commit`). It is started
and warmed up, then stopped with a signal while its log is filled, and timed from there: start-up counts for nobody.
Before anything is timed, the outputs of a rehearsal are compared, and again in every round; contestants that did not
do the same are an error. A limit is what cannot be beaten: the bare work of the client library or the database.

**How to read it.** The goals in µs were set on a machine where raw `produce` costs 1.8 µs and COPY with these keys
3.4 µs: where the limits of a table are higher, everything is. Ratios inside a table hold from machine to machine,
within some 20 % of noise.
"""


class Described(Protocol):
    """What the page needs to know of a benchmark."""

    TITLE: str
    NOTES: str
    GOALS: list[Goal]
    PROFILE: str
    """Where our time goes, as a profiler last had it."""


def table(title: str, result: Mapping[str, Any]) -> Table:
    """One result for the terminal."""
    parts = _parts(result["rows"])
    drawn = Table("", "total", *parts, "wall", title=f"{title}, µs per event", title_justify="left")
    for row in result["rows"]:
        if "why" in row:
            drawn.add_row(row["who"], row["why"])
        else:
            drawn.add_row(*_cells(row, parts))
    return drawn


def write(benchmarks: Mapping[str, Described], page: Path = PAGE, folder: Path = results.FOLDER) -> Path:
    """Write the page: a section for every result whose benchmark is known."""
    found = {name: result for name, result in results.read_all(folder).items() if name in benchmarks}
    rounds = " or ".join(sorted({str(result["rounds"]) for result in found.values()}))
    sections = [INTRODUCTION.format(rounds=rounds)]
    sections += [section(benchmarks[name], found[name]) for name in benchmarks if name in found]
    page.write_text("\n".join(sections))
    return page


def section(benchmark: Described, result: Mapping[str, Any]) -> str:
    """One benchmark: what was done, the figures, and each goal with what was reached."""
    rows = result["rows"]
    parts = _parts(rows)
    lines = [f"## {benchmark.TITLE}", benchmark.NOTES, ""]
    lines += [f"| | total | {' | '.join(parts)} | wall |", "|---|" + "---:|" * (len(parts) + 2)]
    for row in rows:
        if "why" not in row:
            who, total, *others = _cells(row, parts)
            lines.append(f"| {who} | {f'**{total}**' if total else ''} | {' | '.join(others)} |")
    lines += ["", *[f"Not measured: {row['who']}: {row['why']}" for row in rows if "why" in row]]
    lines += ["| goal | reached | |", "|---|---|---|"]
    for goal in benchmark.GOALS:
        figure, reached = goal.check(rows)
        lines.append(
            f"| {goal.text} | {figure} | {'unknown' if reached is None else 'yes' if reached else '**falls short**'} |"
        )
    lines += ["", f"**Where our time goes.** {benchmark.PROFILE}"]
    machine, versions = result["machine"], result["versions"]
    lines += [
        "",
        f"{result['events']:,} events, {result['rounds']} rounds, {machine['processor']}, {machine['cores']} cores,"
        f" {machine['memory_gb']} GB, Linux {machine['kernel']}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ".",
        "",
    ]
    return "\n".join(lines)


def _parts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every part that any row has, those apart last."""
    named = dict.fromkeys(part for row in rows for part in row.get("parts") or ())
    return sorted(named, key=lambda part: part in APART)


def _cells(row: Mapping[str, Any], parts: Sequence[str]) -> list[str]:
    figures = [row["cpu_us_per_event"], *(row["parts"].get(part) for part in parts), row["wall_us_per_event"]]
    return [row["who"], *("" if figure is None else f"{figure:.2f}" for figure in figures)]
