"""The work of `sentio status`: the whole platform as it is at this moment, each part asked by itself."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import psycopg
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from sentio import database, kafka
from sentio.config import AccessSettings
from sentio.errors import SentioError
from sentio.hours import is_open
from sentio.lag import by_topic, lags
from sentio.survey import LastBeat, Span, kept_s, last_beats, spans

TIMEOUT_S = 10.0
SILENT_S = 150.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kafka:
    """The cluster that answered."""

    brokers: int
    controller: int
    topics: int


@dataclass(frozen=True, slots=True)
class Database:
    """The database that answered."""

    edition: str
    size_bytes: int
    migrations: int
    clock_ahead_s: float
    """Its clock against this machine's."""


@dataclass(frozen=True, slots=True)
class GroupState:
    """One group in one topic: its partitions added, the oldest of what it has not read."""

    group: str
    topic: str
    members: int
    lag: int
    oldest_unread_s: float
    retention_left_s: float | None


@dataclass(slots=True)
class State:
    """What is None did not answer; ``troubles`` says why."""

    at: datetime
    trading_hours: bool
    kafka: Kafka | None = None
    database: Database | None = None
    topics: list[Span] = field(default_factory=list)
    groups: list[GroupState] = field(default_factory=list)
    engines: list[LastBeat] = field(default_factory=list)
    clients: dict[str, int] | None = None
    """By instance of the stream; None where no Redis is set."""

    troubles: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        shown = asdict(self)
        for engine, beat in zip(shown["engines"], self.engines, strict=True):
            engine["age_s"] = round(beat.age_s, 3)
        return shown


def look(settings: AccessSettings) -> State:
    """Ask everything once. What does not answer is a trouble, and the rest is there."""
    now = datetime.now(UTC)
    state = State(now, is_open(now))
    state.kafka = _asked(state, lambda: _kafka(settings))
    state.database = _asked(state, lambda: _database(settings))
    if state.kafka:
        state.topics = _asked(state, lambda: spans(settings)) or []
        state.groups = _asked(state, lambda: _groups(settings, state.topics)) or []
        state.engines = _asked(state, lambda: last_beats(settings)) or []
    if settings.redis:
        state.clients = _asked(state, lambda: _clients(settings))
    return state


def _asked(state: State, ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except SentioError as failure:
        state.troubles.append(str(failure))
    return None


def _kafka(settings: AccessSettings) -> Kafka:
    admin = AdminClient(kafka.client(settings.kafka))
    try:
        found = admin.list_topics(timeout=TIMEOUT_S)
    except KafkaException as failure:
        raise kafka.silent(settings.kafka, failure) from failure
    ours = [name for name in found.topics if name.startswith(f"{settings.topic_prefix}.")]
    return Kafka(len(found.brokers), found.controller_id, len(ours))


def _database(settings: AccessSettings) -> Database:
    with database.outages_are_retryable(), database.connect(settings.database, name="sentio-status") as connection:
        began_s = time.time()
        row = connection.execute(
            "select pg_database_size(current_database()),"
            " extract(epoch from clock_timestamp())::float8, to_regclass('schema_migrations') is not null"
        ).fetchone()
        assert row
        size_bytes, clock_s, has_migrations = row
        ahead_s = clock_s - (began_s + time.time()) / 2
        counted = connection.execute("select count(*) from schema_migrations").fetchone() if has_migrations else None
        return Database(_edition(connection), size_bytes, counted[0] if counted else 0, round(ahead_s, 3))


def _edition(connection: psycopg.Connection) -> str:
    """Without installing anything, as a migration would."""
    found = connection.execute("select extversion from pg_extension where extname = 'timescaledb'").fetchone()
    server = f"PostgreSQL {connection.info.parameter_status('server_version')}"
    return f"TimescaleDB {found[0]} on {server}" if found else server


def _groups(settings: AccessSettings, topics: list[Span]) -> list[GroupState]:
    rows = lags(settings)
    members = _members(settings, sorted({row.group for row in rows}))
    found = []
    for (group, topic), behind in by_topic(rows, kept_s(settings, topics)).items():
        name, short = (full.removeprefix(f"{settings.topic_prefix}.") for full in (group, topic))
        counted = members.get(group, 0), behind.records, behind.oldest_unread_s, behind.retention_left_s
        found.append(GroupState(name, short, *counted))
    return found


def _members(settings: AccessSettings, groups: list[str]) -> dict[str, int]:
    if not groups:
        return {}
    admin = AdminClient(kafka.client(settings.kafka))
    try:
        futures = admin.describe_consumer_groups(groups, request_timeout=TIMEOUT_S)
        return {name: len(future.result(TIMEOUT_S + 1).members) for name, future in futures.items()}
    except (KafkaException, TimeoutError) as failure:
        raise kafka.silent(settings.kafka, failure) from failure


def _clients(settings: AccessSettings) -> dict[str, int]:
    from gateway.clients import connected

    found: dict[str, int] = {}
    for client in connected(settings):
        found[client.instance] = found.get(client.instance, 0) + 1
    return found
