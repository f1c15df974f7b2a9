"""One run of the demo, from the servers' start to their stop.

What it keeps is under ROOT/NAME-OF-THE-SOURCE: a run that was cut off goes on where it was; one that came to its end
is begun anew.
"""

import fcntl
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pydantic import SecretStr

from producers.source import open_source
from schemas.topics import topics
from sentio import database, log
from sentio import topics as kafka_topics
from sentio.cli.demo import engine
from sentio.cli.demo.fleet import Fleet, Member
from sentio.cli.demo.origin import Origin, Played
from sentio.cli.demo.progress import Progress, reporter
from sentio.cli.demo.reconcile import Report, reconcile
from sentio.cli.demo.summary import as_document, as_table
from sentio.cli.demo.viewer import Viewer
from sentio.cli.publish import parse_speed
from sentio.config import Settings, load
from sentio.errors import Fatal, SettingError
from sentio.stack.stack import Addresses, Stack

PARTITIONS = 6
READY_S = 60.0
SETTLE_S = 60.0
FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for; see `sentio demo --help`."""

    session: Path | None
    speed: str
    seed: int
    root: Path
    engine: str
    skip_bad: bool
    keep: bool
    as_json: bool


def run(options: Options) -> int:
    """Run the demo; returns the exit status."""
    log.configure("WARNING", process="demo")
    signal.signal(signal.SIGTERM, _interrupt)
    say = reporter(quiet=options.as_json)
    origin = _origin(options, say)
    with _alone(origin.root), _servers(origin, say) as (stack, addresses):
        settings = _prepare(addresses)
        fleet = Fleet(origin.root, _environment(settings, addresses), stack)
        fleet.stop_leftovers()
        try:
            return _play(options, origin, fleet, settings, addresses)
        finally:
            fleet.stop()


def _play(options: Options, origin: Origin, fleet: Fleet, settings: Settings, addresses: Addresses) -> int:
    say = reporter(quiet=options.as_json)
    say("starting store, aggregates, stream and rest")
    for name in ("store", "aggregates"):
        fleet.start(Member(name, ("run", name), "SENTIO_METRICS_PORT"))
    fleet.start(Member("stream", ("run", "stream"), "SENTIO_STREAM_PORT"))
    fleet.start(Member("rest", ("run", "rest"), "SENTIO_REST_PORT"))
    _await(
        fleet,
        lambda: all(fleet.ready(name) for name in list(fleet.members)),
        "the processes are ready",
        READY_S,
    )
    channels = [topic.channel for topic in topics().values() if topic.channel]
    viewer = Viewer(
        lambda: f"ws://127.0.0.1:{fleet.members['stream'].port}",
        channels,
        origin.root / "client.jsonl",
        ids_tell_when=origin.ids_tell_when,
    )
    try:
        _await(fleet, viewer.subscribed.is_set, "the client is subscribed", READY_S)
        say(f"playing {origin.name}")
        origin.start(fleet)
        with Progress(settings, addresses.database, viewer, quiet=options.as_json) as progress:
            _await(fleet, lambda: progress.turn() and origin.is_played(fleet), "the day is played", None)
            _settle(fleet, lambda: progress.turn() and progress.settled())
        report = _reconcile(origin, settings, addresses, viewer)
    finally:
        viewer.close()
    (origin.root / FINISHED).touch()
    if options.as_json:
        print(json.dumps(as_document(report, viewer)))
    else:
        as_table(report, viewer, origin.name)
    if options.keep:
        _stay(fleet, addresses, say)
    return 1 if report.problems else 0


def _origin(options: Options, say: Callable[[str], None]) -> Origin:
    folder = options.root.absolute()
    if options.engine == "cpp":
        if options.session is not None:
            raise SettingError("--engine cpp trades bars of its own (--seed); --session is for the player")
        if options.seed < 0:
            raise SettingError(f"--seed {options.seed}: the engine takes whole numbers from 0")
        say("building examples/engine-cpp")
        return engine.CppEngine(engine.build(folder / "engine-cpp"), folder, options.seed, parse_speed(options.speed))
    source = open_source(options.session, seed=options.seed, skip_bad=options.skip_bad, on_bad=None)
    return Played(source, folder, options.session, options.seed, options.speed, options.skip_bad)


def _reconcile(origin: Origin, settings: Settings, addresses: Addresses, viewer: Viewer) -> Report:
    report = reconcile(
        origin.figures(),
        says=origin.says,
        results=origin.results,
        bootstrap=addresses.kafka,
        database=addresses.database,
        full_name=lambda topic: topic.full_name(settings.topic_prefix),
        received=viewer.received,
    )
    report.problems += viewer.problems
    return report


@contextmanager
def _servers(origin: Origin, say: Callable[[str], None]) -> Iterator[tuple[Stack, Addresses]]:
    root = origin.root
    stack = Stack(root / "stack")
    if (root / FINISHED).exists() or not origin.goes_on():
        stack.remove()
        for name in (FINISHED, "client.jsonl", "source.jsonl", "ring", "ring.reader"):
            (root / name).unlink(missing_ok=True)
    say("starting Kafka and PostgreSQL")
    try:
        yield stack, stack.up(dies_with_parent=True)
    finally:
        stack.down()


def _prepare(addresses: Addresses) -> Settings:
    given = load(Settings)
    settings = load(Settings, kafka=addresses.kafka, partitions=PARTITIONS, topic_prefix=given.topic_prefix)
    kafka_topics.apply(settings, [change for change in kafka_topics.plan(settings) if change.lines])
    database.migrate(SecretStr(addresses.database))
    return settings


def _environment(settings: Settings, addresses: Addresses) -> dict[str, str]:
    return {
        "SENTIO_KAFKA": addresses.kafka,
        "SENTIO_DATABASE": addresses.database,
        "SENTIO_PARTITIONS": str(settings.partitions),
        "SENTIO_TOPIC_PREFIX": settings.topic_prefix,
        # A member that is killed is missed soon: this is one machine, nothing is far away.
        "SENTIO_SESSION_TIMEOUT_MS": "6000",
    }


def _await(fleet: Fleet, condition: Callable[[], bool], what: str, timeout_s: float | None) -> None:
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    while not condition():
        fleet.tend()
        if deadline_s is not None and time.monotonic() > deadline_s:
            raise Fatal(
                f"waited {timeout_s:.0f} s and it is not so that {what}; the logs are in {fleet.log('x').parent}"
            )
        time.sleep(0.1)


def _settle(fleet: Fleet, condition: Callable[[], bool]) -> None:
    """Wait until everyone has read everything; what does not come is for the reconciliation to name."""
    deadline_s = time.monotonic() + SETTLE_S
    while not condition() and time.monotonic() < deadline_s:
        fleet.tend()
        time.sleep(0.1)


def _stay(fleet: Fleet, addresses: Addresses, say: Callable[[str], None]) -> None:
    say(f"kafka      {addresses.kafka}")
    say(f"database   {addresses.database}")
    say(f"stream     ws://127.0.0.1:{fleet.members['stream'].port}")
    say(f"rest       http://127.0.0.1:{fleet.members['rest'].port}/docs")
    say("Ctrl-C stops it")
    while True:
        fleet.tend()
        time.sleep(0.5)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingError(f"a demo is running in {root} already; give another --root") from None
        yield


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
