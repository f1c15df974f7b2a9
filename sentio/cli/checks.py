"""The work of `sentio doctor`: one finding after another, each with what to do. Nothing is changed."""

import os
import resource
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from sentio import config, database, topics
from sentio.cli import state
from sentio.cli.status import age
from sentio.config import PREFIX, AccessSettings, PublisherSettings, load
from sentio.errors import SentioError, SettingError

Level = Literal["ok", "warn", "bad"]

SKEW_WARN_S, SKEW_BAD_S = 1.0, 30.0
DISK_WARN, DISK_BAD = 0.15, 0.05
"""Of a file system, that is free."""

LATE_S = 60.0
LEFT_S = 86_400.0
"""Until Kafka deletes what a group has not read: less of it is bad."""

DESCRIPTORS = 65_536
OTHERS = {"SENTIO_TOKEN", "SENTIO_TEST_", "SENTIO_CHAOS_"}
"""Names in the environment that are no settings of a process."""

KINDS: tuple[type[config.Settings], ...] = (
    config.ConsumerSettings,
    config.SidecarSettings,
    config.StreamSettings,
    config.RestSettings,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; ``remedy`` is what to do about it, empty where nothing is to be done."""

    level: Level
    what: str
    found: str
    remedy: str = ""


def findings() -> Iterator[Finding]:
    """All of them. What others need is looked at first: without settings nothing else can be asked."""
    wrong = False
    for finding in _settings():
        wrong |= finding.level == "bad"
        yield finding
    yield from _codec()
    yield from _descriptors()
    yield from _schemas()
    if wrong:
        return
    settings = load(AccessSettings)
    yield from _disk(load(PublisherSettings).spool)
    seen = state.look(settings)
    yield from _kafka(settings, seen)
    yield from _database(settings, seen)
    yield from _redis(settings, seen)


def _settings() -> Iterator[Finding]:
    kinds: tuple[type[config.Settings], ...] = (*KINDS, config.WebhookSettings)
    known = {f"{PREFIX}{name.upper()}" for kind in kinds for name in kind.model_fields}
    troubles: dict[str, None] = {}
    for kind in KINDS:
        try:
            load(kind)
        except SettingError as failure:
            troubles |= dict.fromkeys(str(failure).split("; "))
    for trouble in troubles:
        yield Finding("bad", "settings", trouble, f"set {trouble.partition('=')[0]} to what is in brackets")
    given = {name for name in os.environ if name.startswith(PREFIX) and not name.startswith(tuple(OTHERS))}
    for name in sorted(given - known):
        close = get_close_matches(name, known, 1)
        remedy = f"did you mean {close[0]}?" if close else "take it away; the settings are in the README"
        yield Finding("warn", "settings", f"{name} is no setting", remedy)
    if not troubles:
        shown = ", ".join(sorted(given & known)) or "all are the defaults"
        yield Finding("ok", "settings", shown)


def _codec() -> Iterator[Finding]:
    from schemas.codec import NATIVE

    if NATIVE:
        yield Finding("ok", "native codec", "built")
    else:
        remedy = "install cargo (Rust 1.88 or newer) and run 'make setup'"
        yield Finding("warn", "native codec", "not built: events cost some 50 times the CPU", remedy)


def _descriptors() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= DESCRIPTORS:
        yield Finding("ok", "file descriptors", f"{soft:,} may be open")
        return
    remedy = f"for the stream, raise it (ulimit -n {DESCRIPTORS}; LimitNOFILE= of a systemd unit)"
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        remedy += f"; the hard limit is {hard:,}"
    yield Finding("warn", "file descriptors", f"{soft:,} may be open, and each client takes one", remedy)


def _schemas() -> Iterator[Finding]:
    from schemas.compatibility import problems
    from schemas.registry import avro_files, current, locked

    wrong = []
    for event, schema in avro_files().items():
        versions = [version for version in locked().values() if version.event == event]
        wrong += problems(schema, versions)
        try:
            current(event)
        except SentioError as failure:
            wrong.append(str(failure))
    for line in wrong:
        yield Finding("bad", "schema lock", line, "undo the change of schemas/avro, or run 'sentio schemas lock'")
    if not wrong:
        yield Finding("ok", "schema lock", f"{len(locked())} versions of {len(avro_files())} events agree")


def _disk(spool: Path | None) -> Iterator[Finding]:
    """Where this machine keeps something: the spool, and the local servers'."""
    places = {"spool": spool, "local servers": Path(".sentio"), "working folder": Path()}
    devices = set()
    for name, place in places.items():
        if place is None or not place.exists() or (device := place.stat().st_dev) in devices:
            continue
        devices.add(device)
        usage = shutil.disk_usage(place)
        free = usage.free / usage.total
        found = f"{name}: {usage.free / 1e9:,.1f} GB free, {free:.0%}"
        level: Level = "bad" if free < DISK_BAD else "warn" if free < DISK_WARN else "ok"
        remedy = "" if level == "ok" else "make room; docs/runbooks/broker-disk-full.md"
        yield Finding(level, "disk", found, remedy)


def _kafka(settings: AccessSettings, seen: state.State) -> Iterator[Finding]:
    if seen.kafka is None:
        remedy = (
            f"is {PREFIX}KAFKA right in this shell? If so, its log says why it ended ('sentio stack status' shows where"
            " that of a local one is, 'sentio stack up' starts it); docs/runbooks/broker-disk-full.md"
        )
        yield from (Finding("bad", "kafka", trouble, remedy) for trouble in seen.troubles if "kafka" in trouble)
        return
    yield Finding("ok", "kafka", f"{settings.kafka} answers; brokers: {seen.kafka.brokers}")
    if seen.kafka.brokers < settings.replication:
        found = f"{seen.kafka.brokers} brokers cannot hold {settings.replication} replicas"
        yield Finding("bad", "kafka", found, f"start more, or lower {PREFIX}REPLICATION")
    yield from _kafka_clock(settings)
    yield from _guarded("topics", lambda: _topics(settings))
    for span in seen.topics:
        if span.dead_kept:
            found = f"{span.name}: {span.dead_kept:,} records could not be used"
            yield Finding("warn", "dead letters", found, "sentio dead list; docs/runbooks/poison-storm.md")
    running = {row.group for row in seen.groups if row.members}
    for group in ("store", "aggregates"):
        if group not in running:
            yield Finding("warn", "groups", f"nobody runs {group}", f"sentio run {group}")
    if {"store", "aggregates"} <= running:
        yield Finding("ok", "groups", f"{', '.join(sorted(running))} run")
    yield from _late(seen.groups)


def _late(groups: list[state.GroupState]) -> Iterator[Finding]:
    """Groups that are behind, each by the topic in which it is most so."""
    worst: dict[str, state.GroupState] = {}
    for row in groups:
        worst[row.group] = max(worst.get(row.group, row), row, key=lambda one: one.oldest_unread_s)
    for row in (one for one in worst.values() if one.oldest_unread_s > LATE_S):
        found = f"{row.group} is {age(row.oldest_unread_s)} behind in {row.topic}: {row.lag:,} records"
        level: Level = "warn"
        if row.retention_left_s is not None and row.retention_left_s < LEFT_S:
            level, found = "bad", f"{found}, which Kafka deletes in {age(max(0.0, row.retention_left_s))}"
        yield Finding(level, "groups", found, "docs/runbooks/consumer-stuck.md")


def _kafka_clock(settings: AccessSettings) -> Iterator[Finding]:
    from sentio.cli.clock import kafka_ahead_s

    ahead_s = kafka_ahead_s(settings)
    if ahead_s is None:
        yield Finding("warn", "clocks", "Kafka's is not known", "compare it by hand: 'date -u' there and here")
    else:
        yield _clock("Kafka", ahead_s)


def _clock(whose: str, ahead_s: float) -> Finding:
    if abs(ahead_s) <= SKEW_WARN_S:
        return Finding("ok", "clocks", f"{whose}'s agrees with this machine's within {SKEW_WARN_S:g} s")
    found = f"{whose}'s is {abs(ahead_s):,.1f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's"
    remedy = "see to NTP on both: lag in seconds and retention go by these clocks"
    return Finding("bad" if abs(ahead_s) > SKEW_BAD_S else "warn", "clocks", found, remedy)


def _topics(settings: AccessSettings) -> Iterator[Finding]:
    changes = [change for change in topics.plan(settings) if change.lines]
    if missing := [change.topic.name for change in changes if change.create]:
        yield Finding("bad", "topics", f"there is no {', '.join(missing)}", "sentio topics apply")
    for change in changes:
        if not change.create:
            found = f"{change.topic.name}: {'; '.join(change.lines)}"
            yield Finding("warn", "topics", found, "sentio topics apply")
    if not changes:
        yield Finding("ok", "topics", "all are as schemas/topics.toml and the settings say")


def _database(settings: AccessSettings, seen: state.State) -> Iterator[Finding]:
    base = seen.database
    if base is None:
        remedy = f"is it up, and is {PREFIX}DATABASE right in this shell? docs/runbooks/lost-database.md"
        yield from (Finding("bad", "database", trouble, remedy) for trouble in seen.troubles if "database" in trouble)
        return
    yield Finding("ok", "database", f"{base.edition} answers")
    yield _clock("the database", base.clock_ahead_s)
    yield from _guarded("tables", lambda: _migrations(settings))


def _migrations(settings: AccessSettings) -> Iterator[Finding]:
    ours = database.migrations()
    done = database.applied(settings.database)
    if missing := [name for name in ours if name not in done]:
        found = f"{len(missing)} migrations are not applied: {', '.join(missing)}"
        yield Finding("warn", "tables", found, "the store applies them when it starts: sentio run store")
    elif unknown := sorted(done - set(ours)):
        found = f"the database has migrations that are not known here: {', '.join(unknown)}"
        yield Finding(
            "bad", "tables", found, "this is an older version than the one that wrote there: bring it up to date"
        )
    else:
        yield Finding("ok", "tables", f"all {len(ours)} migrations are applied")


def _redis(settings: AccessSettings, seen: state.State) -> Iterator[Finding]:
    if settings.redis is None:
        return
    if seen.clients is None:
        troubles = [trouble for trouble in seen.troubles if "REDIS" in trouble]
        yield from (Finding("bad", "redis", trouble, f"is {PREFIX}REDIS right?") for trouble in troubles)
    else:
        yield Finding("ok", "redis", f"answers; {len(seen.clients)} instances of the stream have clients")


def _guarded(what: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except SentioError as failure:
        yield Finding("bad", what, str(failure), "as the line says")
