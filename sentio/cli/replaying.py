"""The work of `sentio replay`: what is asked for becomes a plan, and a plan a job that runs here."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer

from consumers.archive.stores import Store, open_store
from consumers.replay import pace, topic
from consumers.replay.archived import Archived, ArchiveHeld
from consumers.replay.held import Held, LogHeld
from consumers.replay.job import Job, State, Wish, make
from consumers.replay.jobs import Jobs
from consumers.replay.listed import Listed
from consumers.replay.plan import Plan, Range, plan
from consumers.replay.run import Replay
from consumers.replay.seeding import check_new, seed
from consumers.replay.selection import Selection
from consumers.replay.source import Gone, KafkaLog, Source
from consumers.replay.stored import Stored, topic_of_table
from consumers.replay.table import Table
from consumers.replay.targets import Count, File, Stdout, Target
from consumers.waiting import until_done
from schemas.topics import topics as all_topics
from sentio.asked import duration_ms, time_of, topic_of
from sentio.cli.replay_shown import Progress, show_done, show_plan
from sentio.cli.starting import start as start_process
from sentio.config import ArchiveSettings, ReplaySettings, load
from sentio.errors import Fatal, SettingError
from sentio.log import OncePer
from sentio.stopping import on_stop

RECORDS_S = {
    "topic": 100_000.0,
    "table": 40_000.0,
    "group": float("inf"),
    "file": 25_000.0,
    "stdout": 25_000.0,
    "count": 400_000.0,
}
"""What each target takes, about, when nothing else slows it down."""

NAMED = {"topic", "table", "group", "file"}
DECODED = {"table", "file", "stdout"}


KINDS = "topic:NAME, table:NAME, group:NAME, file:PATH, stdout or count"


@dataclass(frozen=True)
class Asked:
    """The options of the command."""

    topics: list[str] | None
    into: str
    since: str | None
    until: str | None
    last: str | None
    partition: int | None
    from_offset: int | None
    to_offset: int | None
    symbol: str | None
    account: str | None
    header: list[str] | None
    where: list[str] | None
    speed: str
    rate: float | None
    owns_offsets: bool
    from_archive: bool

    def wish(self, settings: ReplaySettings) -> Wish:
        """Raises `SettingError` for what does not go together, or cannot be."""
        if not self.topics:
            raise SettingError(f"replay: one topic or more of {', '.join(all_topics())}")
        where = [f"{name}={value}" for name, value in (("symbol", self.symbol), ("account", self.account)) if value]
        wish = Wish(
            tuple(topic_of(text, settings.topic_prefix).name for text in dict.fromkeys(self.topics)),
            self.into,
            (*where, *(self.where or ())),
            tuple(self.header or ()),
            self.speed,
            self.rate,
            self.owns_offsets,
            self.from_archive,
        )
        pace.speed_of(wish.speed)
        selection(settings, wish)
        kind, name = _target_of(wish)
        if kind == "topic":
            topic.check_name(settings, name, wish.topics)
        if kind == "table":
            topic_of_table(name, wish.topics)
        if kind == "group":
            if wish.from_archive:
                raise SettingError(f"--into {wish.into}: a group reads the log; leave --from-archive")
            self._check_group(wish)
            check_new(settings, name, owns_offsets=wish.owns_offsets)
        elif wish.owns_offsets:
            raise SettingError("--owns-offsets is about --into group:NAME")
        return wish

    def range(self) -> Range:
        """Raises `SettingError` for bounds that do not go together."""
        if self.last is not None and self.since is not None:
            raise SettingError("--from and --last: give one of them")
        by_offset = self.from_offset is not None or self.to_offset is not None
        if by_offset and self.partition is None:
            raise SettingError("--from-offset and --to-offset are of one partition; give --partition, too")
        if by_offset and (self.since or self.until or self.last):
            raise SettingError("a range is one of times or of offsets; give one of them")
        since_ms = None if self.since is None else _ms(time_of("--from", self.since).timestamp())
        if self.last is not None:
            since_ms = _ms(time.time()) - duration_ms("--last", self.last)
        until_ms = None if self.until is None else _ms(time_of("--to", self.until, end_of_day=True).timestamp())
        if since_ms is not None and until_ms is not None and since_ms >= until_ms:
            raise SettingError(f"--from {self.since or self.last} is not before --to {self.until}")
        if self.from_offset is not None and self.to_offset is not None and self.from_offset >= self.to_offset:
            raise SettingError(f"--from-offset {self.from_offset} is not before --to-offset {self.to_offset}")
        return Range(since_ms, until_ms, self.partition, self.from_offset, self.to_offset)

    def plan(self, settings: ReplaySettings, wish: Wish) -> Plan:
        topics = [all_topics()[name] for name in wish.topics]
        records_s = RECORDS_S[_target_of(wish)[0]]
        if wish.where:
            records_s = min(records_s, RECORDS_S["topic"])
        held = _held(settings, wish)
        return plan(
            Stored(held, settings) if _target_of(wish)[0] == "table" else held,
            settings.topic_prefix,
            topics,
            self.range(),
            speed=wish.speed,
            rate=wish.rate,
            records_s=records_s,
        )

    def show(self, *, as_json: bool) -> None:
        settings = load(ReplaySettings)
        wish = self.wish(settings)
        show_plan(self.plan(settings, wish), wish, self.range(), as_json=as_json)

    def _check_group(self, wish: Wish) -> None:
        if self.until or self.to_offset is not None:
            raise SettingError(f"--into {wish.into}: a group goes on with what comes; leave --to and --to-offset")
        if wish.where or wish.headers or wish.speed != "max" or wish.rate:
            raise SettingError(
                f"--into {wish.into}: a group reads all, at its own pace; leave filters, --speed and --rate"
            )
        if self.partition is not None:
            raise SettingError(f"--into {wish.into}: a group reads all partitions; leave --partition")


def start(asked: Asked, *, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Plan, ask, run."""
    settings = load(ReplaySettings)
    wish = asked.wish(settings)
    planned, range_ = asked.plan(settings, wish), asked.range()
    if dry_run:
        show_plan(planned, wish, range_, as_json=as_json)
        return
    if not (yes and as_json):
        show_plan(planned, wish, range_, as_json=False, to_stderr=True)
    if not yes:
        if not sys.stdin.isatty():
            raise SettingError("replay run: nobody can be asked here; give --yes")
        typer.confirm("replay?", abort=True, err=True)
    job = make(wish, planned.spans, planned.topic_ids)
    if wish.into.startswith("file:"):
        _check_file(wish)
    with _jobs(settings) as jobs:
        jobs.save(job)
        _run(settings, jobs, job, as_json=as_json)


def resume(job_id: str, *, as_json: bool) -> None:
    """Go on with a job. Raises `Fatal` for one that has ended."""
    settings = load(ReplaySettings)
    with _jobs(settings) as jobs:
        job = jobs.get(job_id)
        if job.state in {State.COMPLETE, State.CANCELLED}:
            raise Fatal(f"replay {job_id} is {job.state}; there is nothing to go on with")
        _run(settings, jobs, job, as_json=as_json)


def cancel(job_id: str) -> None:
    """Have a running job stop, or mark one that does not run."""
    settings = load(ReplaySettings)
    with _jobs(settings) as jobs:
        job = jobs.get(job_id)
        if job.state in {State.COMPLETE, State.CANCELLED}:
            raise Fatal(f"replay {job_id} is {job.state} already")
        if jobs.cancel(job):
            print(f"replay {job_id} is told to stop; 'sentio replay status {job_id}' says when it has")
            return
        with jobs.alone(job):
            target(settings, job).drop(job)
            job.state = State.CANCELLED
            jobs.save(job)
    print(f"replay {job_id} is cancelled; {job.counts.written:,} records were written")


def selection(settings: ReplaySettings, wish: Wish) -> Selection:
    """Raises `SettingError` for a filter that none of the topics has."""
    chosen = [all_topics()[name] for name in wish.topics]
    decodes = _target_of(wish)[0] in DECODED or wish.speed != "max"
    return Selection(chosen, settings.topic_prefix, where=wish.where, headers=wish.headers, decodes=decodes)


def target(settings: ReplaySettings, job: Job, *, is_over: Callable[[], bool] = lambda: False) -> Target:
    kind, name = _target_of(job.wish)
    match kind:
        case "topic":
            return topic.Topic(settings, name, is_over=is_over)
        case "table":
            return Table(settings, topic_of_table(name, job.wish.topics))
        case "file":
            return File(Path(name), job.id)
        case "stdout":
            return Stdout()
    return Count()


@contextmanager
def _jobs(settings: ReplaySettings) -> Iterator[Jobs]:
    """Those of this machine; what becomes of them is in the database, too."""
    with closing(Listed(settings)) as listed:
        yield Jobs(settings.replay_state, listed.put)


def _run(settings: ReplaySettings, jobs: Jobs, job: Job, *, as_json: bool) -> None:
    start_process(settings, process="replay")
    stop = threading.Event()
    on_stop(stop.set)

    def is_over() -> bool:
        return stop.is_set() or jobs.is_cancelled(job)

    with jobs.alone(job):
        typer.echo(f"replay {job.id}", err=True)
        if job.wish.into.startswith("group:"):
            _seed(settings, jobs, job, is_over)
        else:
            with Progress(job) as progress:
                into = target(settings, job, is_over=is_over)
                replay = Replay(job, jobs, into, stop=stop.is_set, tell=progress.tell)
                try:
                    replay.run(lambda: _source(settings, job), selection(settings, job.wish))
                except Fatal as failure:
                    if job.wish.into == "stdout" or isinstance(failure, Gone):
                        raise
                    raise type(failure)(f"{failure}; to go on: sentio replay run --resume {job.id}") from failure
    show_done(job, as_json=as_json)
    if job.state is State.RUNNING:
        raise Fatal(f"replay {job.id} was interrupted; to go on: sentio replay run --resume {job.id}")
    if job.state is State.CANCELLED:
        raise Fatal(f"replay {job.id} was cancelled")


def _seed(settings: ReplaySettings, jobs: Jobs, job: Job, is_over: Callable[[], bool]) -> None:
    offsets = {place: first for place, (first, _) in job.spans.items()}
    job.state, job.cause = State.RUNNING, None
    jobs.save(job)

    def attempt() -> None:
        _check_topics(settings, job)
        seed(settings, _target_of(job.wish)[1], offsets, job.topic_ids, owns_offsets=job.wish.owns_offsets)
        job.state = State.COMPLETE

    try:
        if not until_done(f"replay {job.id}", attempt, is_over=is_over, once=OncePer()) and jobs.is_cancelled(job):
            job.state = State.CANCELLED
    except Fatal as failure:
        job.state, job.cause = State.FAILED, str(failure)
        raise
    finally:
        jobs.forget_cancel(job)
        jobs.save(job)


def _source(settings: ReplaySettings, job: Job) -> Source:
    _check_topics(settings, job)
    return Archived(_archive()) if job.wish.from_archive else KafkaLog(settings.kafka)


def _check_topics(settings: ReplaySettings, job: Job) -> None:
    """Raises `Gone` when the log is not the one that was planned for."""
    now = _held(settings, job.wish).topic_ids(job.topic_ids)
    for name, topic_id in job.topic_ids.items():
        if now[name] != topic_id:
            raise Gone(f"replay {job.id}: {name} was deleted or made again since; plan another")


def _target_of(wish: Wish) -> tuple[str, str]:
    """Kind and name; raises `SettingError`."""
    kind, colon, name = wish.into.partition(":")
    is_named = kind in NAMED
    if bool(name) != is_named or (not is_named and (colon or kind not in RECORDS_S)):
        raise SettingError(f"--into {wish.into}: {KINDS}")
    return kind, name


def _check_file(wish: Wish) -> None:
    path = Path(_target_of(wish)[1])
    if path.exists():
        raise SettingError(f"--into {wish.into} is there already; name another, or remove it")
    if not os.access(path.parent, os.W_OK):
        raise SettingError(f"--into {wish.into}: {path.parent} is no folder that can be written")


def _held(settings: ReplaySettings, wish: Wish) -> Held:
    return ArchiveHeld(_archive()) if wish.from_archive else LogHeld(settings.kafka)


def _archive() -> Store:
    return open_store(load(ArchiveSettings))


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
