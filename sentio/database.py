"""How every process speaks to the database: connections, editions, numbered migrations."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib.resources import files
from importlib.resources.abc import Traversable

import psycopg
from psycopg import Connection
from pydantic import SecretStr

from sentio import log
from sentio.errors import Fatal, Retryable

CONNECT_TIMEOUT_S = 5
MIGRATION_LOCK = 0x53454E54  # "SENT": one migrating process at a time, the others wait

OUTAGES = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
    # We were frozen inside a transaction, and woke up.
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.TransactionTimeout,
)

_MIGRATION = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")


def connect(
    database: SecretStr,
    *,
    name: str,
    idle_in_transaction_s: float = 30.0,
    statement_timeout_s: float = 0.0,
    schema: str | None = None,
) -> Connection:
    """A connection in which a process that froze inside a transaction cannot hold its rows.

    ``idle_in_transaction_s`` must be below the session timeout of the consumer group. A statement that takes longer
    than ``statement_timeout_s`` (0: any time) fails, as an outage does. Tables are looked for in ``schema`` first.
    Raises `Retryable`.
    """
    limits_ms = {
        "idle_in_transaction_session_timeout": int(idle_in_transaction_s * 1000),
        "statement_timeout": int(statement_timeout_s * 1000),
    }
    options = [f"-c {setting}={limit}" for setting, limit in limits_ms.items()]
    try:
        connection = psycopg.connect(
            database.get_secret_value(),
            application_name=name,
            connect_timeout=CONNECT_TIMEOUT_S,
            options=" ".join([*options, "-c timezone=UTC"]),
            # A server that vanished without a word (power, a cut cable) is noticed within half a minute.
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=25_000,
        )
        if schema is not None:
            connection.execute(
                "select set_config('search_path', quote_ident(%s) || ', ' || current_setting('search_path'), false)",
                [schema],
            )
            connection.commit()
    except psycopg.OperationalError as failure:
        raise Retryable(f"database: {first_line(failure)}") from failure
    return connection


@contextmanager
def outages_are_retryable() -> Iterator[None]:
    """What the server or the network may recover from becomes `Retryable`; mistakes pass as they are."""
    try:
        yield
    except OUTAGES as failure:
        raise Retryable(f"database: {first_line(failure)}") from failure


def first_line(failure: BaseException) -> str:
    return (str(failure).strip().splitlines() or [type(failure).__name__])[0]


class Edition(StrEnum):
    """What the database is, and so what it can do."""

    FULL = "timescaledb"
    APACHE = "timescaledb-apache"
    PLAIN = "postgresql"

    @property
    def is_timescale(self) -> bool:
        return self is not Edition.PLAIN


def edition(connection: Connection) -> Edition:
    """Which edition answers; installs the extension where it can be."""
    available = (
        connection.execute("select 1 from pg_available_extensions where name = 'timescaledb'").fetchone()
        and connection.execute(
            "select 1 where current_setting('shared_preload_libraries') like '%timescaledb%'"
        ).fetchone()
    )
    if not available:
        return Edition.PLAIN
    connection.execute("create extension if not exists timescaledb")
    row = connection.execute("select current_setting('timescaledb.license', true)").fetchone()
    return Edition.FULL if row and row[0] == "timescale" else Edition.APACHE


def migrate(database: SecretStr) -> list[str]:
    """Apply each migrations/NNNN_name.sql that was not applied yet, in one transaction; returns their names.

    Processes that start together wait for one another on an advisory lock. A migration is written for every
    edition: ``sentio_event_table`` of 0001 makes a hypertable or native partitions.
    """
    with connect(database, name="sentio-migrate", idle_in_transaction_s=300) as connection:
        connection.execute("select pg_advisory_lock(%s)", [MIGRATION_LOCK])
        found = edition(connection)
        connection.commit()
        connection.execute(
            "create table if not exists schema_migrations"
            " (name text primary key, applied_at timestamptz not null default now())"
        )
        done = {row[0] for row in connection.execute("select name from schema_migrations")}
        applied = []
        for name, file in _migrations():
            if name in done:
                continue
            try:
                connection.execute(file.read_text())
            except OUTAGES:
                raise
            except psycopg.Error as failure:
                raise Fatal(f"migration {name}: {first_line(failure)}") from failure
            connection.execute("insert into schema_migrations (name) values (%s)", [name])
            applied.append(name)
        connection.commit()
        log.get().info("database is up to date", edition=str(found), applied=applied)
        return applied


def _migrations() -> list[tuple[str, Traversable]]:
    entries = sorted(files("sentio").joinpath("migrations").iterdir(), key=lambda entry: entry.name)
    return [(entry.name, entry) for entry in entries if _MIGRATION.match(entry.name)]


def migrations() -> list[str]:
    """Names of all there are, in order."""
    return [name for name, _ in _migrations()]


def applied(database: SecretStr) -> set[str]:
    """Names of those that the database has; raises `Retryable`."""
    with outages_are_retryable(), connect(database, name="sentio-doctor") as connection:
        if connection.execute("select to_regclass('schema_migrations')").fetchone() == (None,):
            return set()
        return {row[0] for row in connection.execute("select name from schema_migrations")}


def next_migration() -> int:
    """Number of the migration that is to be written next."""
    return int(_migrations()[-1][0][:4]) + 1
