"""What `sentio replay` shows: plans, progress, jobs."""

import json
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import timedelta
from typing import Self

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from consumers.replay.job import Job, State, Wish
from consumers.replay.jobs import Jobs, shown_state
from consumers.replay.plan import Plan, Range
from sentio import log
from sentio.asked import iso_ms
from sentio.config import ReplaySettings

SAY_S = 10.0
"""How often a line of the log says how far it is, where no terminal shows a bar."""


def show_plan(plan: Plan, wish: Wish, range_: Range, *, as_json: bool, to_stderr: bool = False) -> None:
    """Each partition, and the whole."""
    if as_json:
        print(
            json.dumps(
                {
                    "wish": asdict(wish),
                    "from": None if range_.since_ms is None else iso_ms(range_.since_ms),
                    "to": None if range_.until_ms is None else iso_ms(range_.until_ms),
                    "partitions": [asdict(line) for line in plan.lines],
                    "offsets": plan.offsets,
                    "bytes": plan.bytes,
                    "seconds": round(plan.seconds, 3),
                }
            )
        )
        return
    table = Table("topic", "partition")
    for name in ("from offset", "to offset", "about", "begins (UTC)", "ends (UTC)"):
        table.add_column(name, justify="right")
    for line in plan.lines:
        times = ["-" if at is None else iso_ms(at - at % 1000)[:19] for at in (line.begins_ms, line.ends_ms)]
        row = (line.topic, str(line.partition), f"{line.first:,}", f"{line.end:,}", decimal(line.bytes))
        table.add_row(*row, *times)
    console = Console(stderr=to_stderr)
    console.print(table)
    for name, at_ms in (("from", range_.since_ms), ("to", range_.until_ms)):
        if at_ms is not None:
            console.print(f"{name} {iso_ms(at_ms)}", highlight=False)
    filters = [*wish.where, *(f"header {text}" for text in wish.headers)]
    of_them = f", of them those with {' and '.join(filters)}" if filters else ""
    if wish.into.startswith("table:"):
        of_them += "; what it has already stays as it is, and what the store has still to read is left to the store"
    console.print(
        f"{plan.offsets:,} records, about {decimal(plan.bytes)} and {timedelta(seconds=round(plan.seconds))},"
        f" into {wish.into}{of_them}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def show_done(job: Job, *, as_json: bool) -> None:
    """What became of a run; where events went to stdout, on stderr."""
    to_stderr = job.wish.into == "stdout"
    if as_json and not to_stderr:
        print(json.dumps(job.as_json()))
        return
    if job.wish.into.startswith("group:") and job.state is State.COMPLETE:
        text = f"{job.wish.into.removeprefix('group:')} begins where the plan says; start it as any consumer"
    else:
        text = f"{job.state}: {job.counts.read:,} records read, {_written(job)}"
    print(text, file=sys.stderr if to_stderr else sys.stdout)


def show_jobs(settings: ReplaySettings, job_id: str | None, *, as_json: bool) -> None:
    """Jobs of this machine, oldest first."""
    jobs = Jobs(settings.replay_state)
    found = jobs.all() if job_id is None else [jobs.get(job_id)]
    states = {job.id: shown_state(job, runs=jobs.is_running(job)) for job in found}
    if as_json:
        print(json.dumps([job.as_json() | {"state": states[job.id]} for job in found]))
        return
    table = Table("job", "state", "topics", "into")
    for name in ("done", "read", "written"):
        table.add_column(name, justify="right")
    for job in found:
        done = f"{100 * job.offsets_done / job.offsets:.0f} %" if job.offsets else "-"
        counts = (f"{job.counts.read:,}", f"{job.counts.written:,}")
        what = (", ".join(job.wish.topics), escape(job.wish.into))
        table.add_row(job.id, states[job.id], *what, done, *counts)
    console = Console()
    console.print(table)
    for job in found:
        if job.wish.into.startswith("table:"):
            console.print(f"{job.id}: {_written(job)}", markup=False, highlight=False, soft_wrap=True)
        if job.cause:
            console.print(f"{job.id}: {job.cause}", markup=False, highlight=False, soft_wrap=True)


def _written(job: Job) -> str:
    """What became of the records that were read."""
    counts = job.counts
    if job.wish.into.startswith("table:"):
        said = [
            f"{counts.written:,} added to {job.wish.into.removeprefix('table:')}",
            f"{counts.present:,} there already",
        ]
        said += [f"{counts.too_old:,} older than it keeps rows"] if counts.too_old else []
        said += [f"{counts.refused:,} refused by it"] if counts.refused else []
    else:
        said = [f"{counts.written:,} written into {job.wish.into}"]
    return ", ".join(said) + (f"; {counts.undecodable:,} cannot be decoded" if counts.undecodable else "")


class Progress(AbstractContextManager["Progress"]):
    """A bar with the time it still takes on a terminal; elsewhere a line of the log now and then."""

    def __init__(self, job: Job) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=Console(stderr=True)) if sys.stderr.isatty() else None
        self._task: TaskID | None = None
        self._job = job
        self._said_s = time.monotonic()

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self._job.id, total=self._job.offsets, completed=self._job.offsets_done)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def tell(self, job: Job) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=job.offsets_done)
        elif time.monotonic() - self._said_s > SAY_S:
            self._said_s = time.monotonic()
            log.get().info("replaying", job=job.id, done=job.offsets_done, of=job.offsets, written=job.counts.written)
