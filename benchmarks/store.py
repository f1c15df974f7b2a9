"""Kafka to PostgreSQL: `sentio run store` beside bare COPY, code written by hand, Quix Streams and Debezium."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from benchmarks import clocks, programs, tables
from benchmarks.goals import Goal
from benchmarks.harness import Contestant, Measured
from benchmarks.peers import connect, installed
from benchmarks.stage import Log, Stage
from benchmarks.trades import EVENT
from schemas.layout import FRAME
from schemas.registry import current

NAME = "store"
TITLE = "Store: Kafka to PostgreSQL"
COPY = "limit: COPY with the same keys"
DEBEZIUM = "Debezium JDBC sink"
QUIX = "Quix Streams PostgreSQL sink"
GOALS = [
    Goal("total under 5 µs", at_most_us=5.0),
    Goal("total within 1.4x of COPY with the same keys", times=1.4, than=COPY),
    Goal("5x below Debezium", times=1 / 5, than=DEBEZIUM),
    Goal("12x below Quix Streams", times=1 / 12, than=QUIX),
]
NOTES = """One topic of trades in 4 partitions into one table with a primary key (time, UUIDv7) and an index on
(symbol, time), until all rows are stored. `sentio` is the process `sentio run store`, with the second's wait for a
batch that docs/operations.md advises for load (a batch is full before), exactly once: offsets and marks against repeats
move in the transaction of the rows. The others are at least once, with inserts rather than upserts, which is the faster
of what they offer. COPY is the binary format, encoded before,
20,000 rows a transaction; it reads no log. Debezium reads Avro with Apicurio's converter and registry, 5,000 rows a
batch; its JVM's compiler threads are apart, since a process that runs for hours compiles no more; Quix Streams reads
bare Avro and commits every 20,000 rows."""
PROFILE = """Of 3.9 µs of the client in one instrumented run: decoding 1.0, COPY's encoding 1.0 (half of it decimals),
librdkafka's thread 0.7, copying messages out of its queue 0.8, the marks against repeats 0.2; what Python itself does
is a tenth. The database does what COPY alone asks of it, and a few per cent more for offsets, marks and a commit
for each batch. Messages are read past the client's objects
([decision 0023](decisions/0023-messages-past-the-client.md))."""

ROWS = 20_000


@dataclass(frozen=True)
class Sink:
    """A program that takes trades from a topic to the table."""

    who: str
    program: Callable[[Stage, Log, str], tuple[Sequence[str], Mapping[str, str]]]
    """(command, environment) for a log and a DSN."""

    values: Callable[[Stage], list[bytes]] = lambda stage: stage.trades.values
    """The trades in the format it reads."""

    house: bool = False
    """Needs every topic of the platform."""

    jvm: bool = False

    def run(self, stage: Stage) -> Measured:
        return run_sink(self, stage)


class Debezium:
    """Has a registry beside it, and the id of that one in its values."""

    who = DEBEZIUM

    def __init__(self) -> None:
        self._values: dict[tuple[Stage, int], list[bytes]] = {}

    def run(self, stage: Stage) -> Measured:
        with connect.registry(stage) as (address, schema_id):
            if (stage, schema_id) not in self._values:
                self._values[stage, schema_id] = connect.values(stage, schema_id)
            sink = Sink(
                DEBEZIUM,
                lambda stage, log, dsn: (connect.command(stage, log, dsn, address), {}),
                values=lambda stage: self._values[stage, schema_id],
                jvm=True,
            )
            return run_sink(sink, stage)


def run_sink(sink: Sink, stage: Stage) -> Measured:
    values = sink.values(stage)
    with ExitStack() as stack:
        dsn = stack.enter_context(stage.fresh_database())
        log = stack.enter_context(stage.fresh_log(house=sink.house))
        table = stack.enter_context(tables.watched(dsn, stage.trades))
        command, env = sink.program(stage, log, dsn)
        program = stack.enter_context(programs.started(stage, sink.who.split()[0].lower(), command, env))
        measured = programs.consume(
            stage,
            program,
            append=lambda first, end: log.append(first, end, values),
            done=table.holds,
            watcher=table.watcher,
            jvm=sink.jvm,
        )
        return replace(measured, output=table.contents())


class Copy:
    """The database's own work: rows that are encoded already, in the same table."""

    who = COPY

    def __init__(self) -> None:
        self._encoded: dict[Stage, list[bytes]] = {}

    def run(self, stage: Stage) -> Measured:
        if stage not in self._encoded:
            self._encoded[stage] = encoded(stage)
        first, *chunks = self._encoded[stage]
        with stage.fresh_database() as dsn, tables.watched(dsn, stage.trades) as table:
            with psycopg.connect(dsn) as connection:
                _copy(connection, first)
                watch = stage.watch(clocks.own, without=table.watcher).start()
                for chunk in chunks:
                    _copy(connection, chunk)
                cpu_s, wall_s = watch.stop()
            del cpu_s["broker"]  # has no part in it
            return Measured(stage.events, cpu_s, wall_s, output=table.contents())


def contestants(_: Stage) -> list[Contestant]:
    return [
        Copy(),
        Sink("sentio", _ours, house=True),
        Sink("fastavro + psycopg write_row", lambda *given: _script(sys.executable, "row_by_row.py", *given)),
        Debezium(),
        Sink(
            QUIX,
            lambda *given: _script(str(installed.python("requirements-quix.txt")), "quix_store.py", *given),
            values=lambda stage: [value[FRAME.size :] for value in stage.trades.values],
        ),
    ]


def versions() -> dict[str, str]:
    """Of the peers, as pinned; "postgresql" would be the name of the server and of its driver for Java."""
    pinned = installed.pinned("connect-pom.xml")
    pinned["postgresql-jdbc"] = pinned.pop("postgresql")
    return installed.pinned("requirements-quix.txt") | pinned


def _ours(stage: Stage, log: Log, dsn: str) -> tuple[Sequence[str], Mapping[str, str]]:
    return [sys.executable, "-m", "sentio", "run", "store"], {
        "SENTIO_KAFKA": stage.kafka,
        "SENTIO_TOPIC_PREFIX": log.prefix,
        "SENTIO_DATABASE": dsn,
        "SENTIO_BATCH_WAIT_MS": "1000",
        "SENTIO_LOG_LEVEL": "WARNING",
    }


def _script(python: str, name: str, stage: Stage, log: Log, dsn: str) -> tuple[Sequence[str], Mapping[str, str]]:
    path = Path(__file__).parent / "peers" / name
    return [python, str(path), stage.kafka, log.topic, dsn, str(_schema_file(stage))], {}


def _schema_file(stage: Stage) -> Path:
    path = stage.root / f"{EVENT}.avsc"
    path.write_text(json.dumps(current(EVENT).schema))
    return path


def _copy(connection: psycopg.Connection, chunk: bytes) -> None:
    statement = f"copy trades ({tables.COLUMNS}) from stdin (format binary)"
    with connection.transaction(), connection.cursor() as cursor, cursor.copy(statement) as stream:
        stream.write(chunk)


def encoded(stage: Stage) -> list[bytes]:
    """Binary COPY of the warm-up's rows, then of the others in chunks: as the database itself writes them."""
    names = tables.COLUMNS.split(", ")
    ends = [stage.warm_up, *range(stage.warm_up + ROWS, len(stage.trades), ROWS), len(stage.trades)]
    with stage.fresh_database() as dsn, psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        with cursor.copy(f"copy trades ({tables.COLUMNS}) from stdin") as copy:
            for row in stage.trades.records.to_pylist():
                copy.write_row([UUID(bytes=row[name]) if name == "event_id" else row[name] for name in names])
        return [_rows_of(cursor, first, end) for first, end in zip([0, *ends], ends, strict=False)]


def _rows_of(cursor: psycopg.Cursor[Any], first: int, end: int) -> bytes:
    query = f"select {tables.COLUMNS} from trades where sequence >= {first} and sequence < {end} order by sequence"
    with cursor.copy(f"copy ({query}) to stdout (format binary)") as rows:
        return b"".join(rows)
