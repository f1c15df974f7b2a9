"""Statistics per account and symbol, by minute and by day: from a full topic until every window is where it is kept."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl
import psycopg
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks import programs
from benchmarks.goals import Goal
from benchmarks.harness import Contestant, Measured, Unavailable
from benchmarks.peers import installed
from benchmarks.peers.aggregates import fills, windows
from benchmarks.stage import PARTITIONS, Log, Stage
from schemas.amounts import money, product

NAME = "aggregates"
TITLE = "Aggregates: windows of one minute and one day per symbol, strategy and account"
NOTES = """One topic of fills in 4 partitions: orders of 3 accounts in 12 symbols over 15 trading days, each filled in
1 to 20 parts within seconds, one order in a hundred reported up to six hours late. The key is account, strategy and
symbol, so that nobody has to move records between partitions for the finest windows. Windows of one minute and of one
day, per account, strategy and symbol, per account and strategy, and per account: fills, round trips, wins, losses,
volume, notional, fees and realized P&L. Every window of every contestant is compared with a plain computation in
decimals, in every round; all are exact. As many fills as are timed come before, to warm up.

`sentio` is the process `sentio run aggregates`, with the second's wait for a batch that docs/operations.md advises for
load, exactly once into PostgreSQL, and does more: weeks and months, profit and loss apart, and late events without
limit. The others keep what was asked for, write it to a topic, take events up to two days late, and count days by
UTC, which for the regular session is New York's day; their brokers' part holds changelogs, what moves between
partitions, and results. Strategies and accounts they sum up from the windows below, which is far less than every fill
three times. Kafka Streams: `BigDecimal`, one thread, RocksDB, a cache of 256 MB, lz4, a commit every 30 s (at least
once) or every second (exactly once v2), tables grouped from tables; its JVM's compiler threads are apart and not in the
total, since a process that runs for hours compiles no more. Bytewax: `Decimal`, its state only in memory, without
recovery, results when a window closes: it has no guarantee at all in this setting, which is its fastest. Quix
Streams: the finest windows only, a third of what is asked, since whatever is grouped anew goes through the broker
again and it is the slowest as it is; at least once, RocksDB and changelogs, a commit every 5 s, results when a window
closes; its state is JSON, so that amounts are whole numbers of their last decimal place, exact as well.
The limit is Polars' group-by in one piece over columns in memory, notional included, and both windows: no log, no
decoding, nothing kept."""
PROFILE = """The database has more than half: 0.29 windows an event are written, most of them new and minutes, at some
20 µs a window (COPY into a temporary table, the upsert, the note that it is to be announced, and announcing one in
twenty); no part stands out, a tenth is comparing keys in the index
([decision 0017](decisions/0017-one-index-for-minutes.md)). Of 4.4 µs of the client in one instrumented run librdkafka
and Polars' threads have 1.8, decoding and reading 0.9, Polars 0.4, COPY's encoding 0.2; announcing is a quarter of the
rest. Kafka Streams keeps its windows in its own process and their changelog in the
broker, whose share is apart; what serves them to a query is not in its figure."""
GOALS = [
    Goal("under 3 µs in all", at_most_us=3.0),
    Goal("4x below Kafka Streams (at least once)", times=1 / 4, than="kafka streams (at least once)"),
    Goal("4x below Kafka Streams (exactly once)", times=1 / 4, than="kafka streams (exactly once v2)"),
    Goal("10x below Bytewax", times=1 / 10, than="bytewax"),
    Goal("10x below Quix Streams", times=1 / 10, than="quix streams"),
]

HERE = installed.HERE / "aggregates"
REQUIREMENTS = {"bytewax": "aggregates/requirements-bytewax.txt", "quix": "requirements-quix.txt"}
COMPILE_S = 120
SCHEMA = Path(__file__).parents[1] / "schemas" / "avro" / "trade_executed.avsc"

JAVA = [
    "java",
    "-Xmx1g",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "-XX:-UseDynamicNumberOfCompilerThreads",  # none ends and takes its processor time with it
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
]


@dataclass(frozen=True)
class Peer:
    """A stream processor from the topic of trades to a topic of windows."""

    who: str
    command: Callable[[Stage], list[str]]
    env: dict[str, str] = field(default_factory=dict)
    jvm: bool = False
    finest_only: bool = False

    def run(self, stage: Stage) -> Measured:
        command = self.command(stage)
        stage = _filled(stage)
        with stage.fresh_log() as log, tempfile.TemporaryDirectory(dir=stage.root) as folder:
            output = _output_topic(log)
            env = {
                "KAFKA": log.kafka,
                "TOPIC": log.topic,
                "OUTPUT": output,
                "GROUP": f"{log.prefix}.windows",
                "SCHEMA": str(SCHEMA),
                "FOLDER": folder,
                "WARM_UP": str(stage.warm_up),
                "TOTAL": str(len(stage.trades)),
                "ENDS": ",".join(map(str, _ends(stage))),
            }
            with programs.started(stage, self.who.replace(" ", "-"), command, env | self.env) as program:

                def done(end: int) -> bool:
                    return ("done" if end == len(stage.trades) else "warm") in program.log.read_text().split()

                measured = programs.consume(stage, program, append=log.append, done=done, jvm=self.jvm)
            found = windows.of_topic(log.kafka, output)
        output = windows.compare(self.who, found, len(stage.trades), finest_only=self.finest_only)
        # It has no database; what ours does on its own at that time is not the peer's.
        own = {part: cpu_s for part, cpu_s in measured.cpu_s.items() if part != "database"}
        return replace(measured, cpu_s=own, output=output)


class Sentio:
    """`sentio run aggregates`, to the table of windows."""

    who = "sentio"

    def run(self, stage: Stage) -> Measured:
        stage = _filled(stage)
        with (
            stage.fresh_database() as dsn,
            stage.fresh_log(house=True) as log,
            psycopg.connect(dsn, autocommit=True) as watcher,
        ):

            def done(end: int) -> bool:
                row = watcher.execute(
                    "select sum(next_offset) from consumer_offsets where topic = %s and next_offset > 0", [log.topic]
                ).fetchone()
                assert row is not None
                return bool(row[0] == end)

            env = {
                "SENTIO_KAFKA": log.kafka,
                "SENTIO_TOPIC_PREFIX": log.prefix,
                "SENTIO_DATABASE": dsn,
                "SENTIO_BATCH_WAIT_MS": "1000",
                "SENTIO_LOG_LEVEL": "WARNING",
            }
            command = [sys.executable, "-m", "sentio", "run", "aggregates"]
            with programs.started(stage, self.who, command, env) as program:
                measured = programs.consume(
                    stage, program, append=log.append, done=done, watcher=watcher.info.backend_pid
                )
            found = windows.of_table(dsn)
        return replace(measured, output=windows.compare(self.who, found, len(stage.trades)))


class Grouping:
    """Polars alone, over columns that are decoded and multiplied already, in one piece."""

    who = "limit: polars group-by"

    def run(self, stage: Stage) -> Measured:
        total = len(_filled(stage).trades)
        records = fills.make(total).records
        price_quantity = zip(records["price"].to_pylist(), records["quantity"].to_pylist(), strict=True)
        notional = pl.Series([money(product(price, quantity)) for price, quantity in price_quantity])
        rows = pl.DataFrame(records).with_columns(notional=notional)
        first_s, begin_s = time.process_time(), time.perf_counter()
        found = {"MINUTE": _levels(rows, "1m"), "DAY": _levels(rows, "1d")}
        cpu_s, wall_s = time.process_time() - first_s, time.perf_counter() - begin_s
        keyed = {
            (kind, account, strategy, symbol, windows.start(kind, at)): tuple(sums)
            for kind, frame in found.items()
            for account, strategy, symbol, at, *sums in frame.iter_rows()
        }
        return Measured(total, {"client": cpu_s}, wall_s, output=windows.compare(self.who, keyed, total))


def _levels(rows: pl.DataFrame, length: str) -> pl.DataFrame:
    pnl = pl.col("realized_pnl")
    finest = rows.group_by("account", "strategy", "symbol", pl.col("executed_at").dt.truncate(length)).agg(
        fills=pl.len(),
        trades=pnl.count(),
        wins=(pnl > 0).sum(),
        losses=(pnl < 0).sum(),
        volume=pl.col("quantity").sum(),
        notional=pl.col("notional").sum(),
        fees=pl.col("fees").sum(),
        pnl=pnl.sum(),
    )
    strategies = _rolled_up(finest, symbol=pl.lit(windows.ALL))
    return pl.concat([finest, strategies, _rolled_up(strategies, strategy=pl.lit(windows.ALL))])


def _rolled_up(below: pl.DataFrame, **names: pl.Expr) -> pl.DataFrame:
    return below.with_columns(**names).group_by("account", "strategy", "symbol", "executed_at").sum()


def contestants(_: Stage) -> list[Contestant]:
    found: list[Contestant] = [
        Sentio(),
        Peer(
            "kafka streams (at least once)",
            _kafka_streams,
            {"GUARANTEE": "at_least_once", "COMMIT_MS": "30000"},
            jvm=True,
        ),
        Peer(
            "kafka streams (exactly once v2)",
            _kafka_streams,
            {"GUARANTEE": "exactly_once_v2", "COMMIT_MS": "1000"},
            jvm=True,
        ),
        Peer("bytewax", lambda _: _script("bytewax")),
        Peer("quix streams", lambda _: _script("quix"), finest_only=True),
        Grouping(),
    ]
    return found


def versions() -> dict[str, str]:
    """The peers', as pinned."""
    pinned = {
        "kafka-streams": ("aggregates/kafka-streams-pom.xml", r">kafka-streams</artifactId>\s*<version>([^<]+)<"),
        "bytewax": (REQUIREMENTS["bytewax"], r"bytewax.*==(\S+)"),
        "quixstreams": (REQUIREMENTS["quix"], r"quixstreams.*==(\S+)"),
    }
    found = {name: re.search(pattern, (installed.HERE / file).read_text()) for name, (file, pattern) in pinned.items()}
    return {name: match[1] if match else "?" for name, match in found.items()}


def _kafka_streams(stage: Stage) -> list[str]:
    jars = installed.jars("aggregates/kafka-streams-pom.xml")
    classes = stage.root / "kafka-streams"
    if not classes.exists():
        sources = [str(file) for file in sorted((HERE / "kafka_streams").glob("*.java"))]
        compiler = ["javac", "-cp", f"{jars}/*", "-d", str(classes), *sources]
        try:
            subprocess.run(compiler, capture_output=True, text=True, check=True, timeout=COMPILE_S)
        except (OSError, subprocess.SubprocessError) as failure:
            raise Unavailable(f"javac: {getattr(failure, 'stderr', None) or failure}") from failure
    return [*JAVA, "-cp", f"{classes}:{jars}/*", "Windows"]


def _script(peer: str) -> list[str]:
    python = installed.python(REQUIREMENTS[peer])
    return [str(python), str(HERE / f"{peer}_windows.py")]


def _filled(stage: Stage) -> Stage:
    """With the fills of this benchmark, and as many again to warm up: a JVM compiles for long while it runs."""
    return replace(stage, warm_up=stage.events, trades=fills.make(2 * stage.events))


def _output_topic(log: Log) -> str:
    """Its records carry the event's time, which retention by time would remove."""
    name = f"{log.prefix}.windows"
    admin = AdminClient({"bootstrap.servers": log.kafka})
    for future in admin.create_topics([NewTopic(name, PARTITIONS, 1, config={"retention.ms": "-1"})]).values():
        future.result(30)
    return name


def _ends(stage: Stage) -> list[int]:
    """Next offset of each partition once all trades are in the log."""
    ends = [0] * PARTITIONS
    for index in range(len(stage.trades)):
        ends[stage.trades.partition(index, PARTITIONS)] += 1
    return ends
