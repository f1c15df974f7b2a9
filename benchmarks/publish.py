"""Publishing a trade, from the event to its acknowledgement: `EventPublisher` beside what confluent-kafka offers."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.goals import Goal
from benchmarks.harness import Contestant, Measured, Unavailable
from benchmarks.peers import installed
from benchmarks.stage import PARTITIONS, Log, Stage
from benchmarks.trades import EVENT
from schemas import codec
from schemas.layout import FRAME, MAGIC
from schemas.registry import current
from sentio import kafka

NAME = "publish"
TITLE = "Publish: one trade to an acknowledged record"
SERIALIZER = "confluent-kafka AvroSerializer + produce"
GOALS = [
    Goal("encoded and sent at under 3 µs an event in all", at_most_us=3.0),
    Goal("caller under 5 µs", at_most_us=5.0, part="caller"),
    Goal("10x below the peer (AvroSerializer)", times=1 / 10, than=SERIALIZER),
]
NOTES = """As fast as it goes, until all is acknowledged: idempotent, lz4, `acks=all`, `linger.ms=5`. The total is the
whole process: `caller` is the thread that has the event (all of the encoding with the peers), `thread` is every other
one, those of librdkafka too. Ours gets typed events and gives each its id and sequence; the peers get dicts that have
them. The peer's registry is the one in memory that confluent-kafka has for tests, asked once. The limit sends bytes
that are ready."""
PROFILE = """Of 7.0 µs in one instrumented run on the machine below: librdkafka's own thread 1.2 and `produce_batch`
1.7, reading events and writing messages 1.8, keys and ids 0.5, the caller's lock and queue 1.0, one call back for
each record 0.5 (the client makes it to free its own state even where only failures are told), the queue 0.2. Two
threads that compute share one interpreter here, and two cores: writing messages costs 1.2 alone."""

DISTINCT = 5_000
LIMIT_S = 240.0
PROJECT = Path(__file__).parents[1]
SUMS = ("quantity", "price", "realized_pnl", "fees")


@dataclass(frozen=True)
class Publisher:
    """One way of peers/publishing.py, in a process of its own."""

    who: str
    how: str
    python: Callable[[], str] = lambda: sys.executable

    def run(self, stage: Stage) -> Measured:
        with stage.fresh_log() as log:
            counts = [str(stage.events), str(stage.warm_up), str(stage.broker_pid)]
            files = [str(path) for path in _files(stage)]
            script = str(PROJECT / "benchmarks" / "peers" / "publishing.py")
            said = self._said([self.python(), script, self.how, stage.kafka, log.topic, *counts, *files])
            output = contents(log) if stage.rehearsal else count(log)
            return Measured(stage.events, said["cpu_s"], said["wall_s"], output=output)

    def _said(self, command: list[str]) -> dict[str, Any]:
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                timeout=LIMIT_S,
                env={**os.environ, "PYTHONPATH": str(PROJECT)},
            )
        except subprocess.TimeoutExpired as failure:
            raise Unavailable(f"given up after {LIMIT_S:.0f} s") from failure
        if done.returncode:
            raise Unavailable(f"ended with {done.returncode}: {done.stderr.strip().splitlines()[-1][:300]}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


def contestants(_: Stage) -> list[Contestant]:
    return [
        Publisher("limit: raw produce of ready bytes", "raw"),
        Publisher("sentio", "sentio"),
        Publisher("fastavro + produce", "fastavro"),
        Publisher(SERIALIZER, "serializer", lambda: str(installed.python("requirements-avro-serializer.txt"))),
    ]


def versions() -> dict[str, str]:
    """Of the peers."""
    return installed.pinned("requirements-avro-serializer.txt")


def count(log: Log) -> int:
    """Records in the topic."""
    return sum(end - first for first, end in _spans(log).values())


def contents(log: Log) -> list[tuple[Any, ...]]:
    """By symbol: how many trades the topic holds, and exact sums of their numbers."""
    found: dict[str, list[Any]] = {}
    frame = FRAME.pack(MAGIC, current(EVENT).id)
    for messages in kafka.read(log.kafka, _spans(log)):
        # Every registry gives ids of its own; the schema is the same.
        values = [frame + (message.value() or b"")[len(frame) :] for message in messages]
        for row in codec.decode(EVENT, values).records.to_pylist():
            sums = found.setdefault(row["symbol"], [0] * (1 + len(SUMS)))
            sums[0] += 1
            for place, name in enumerate(SUMS, 1):
                sums[place] += row[name] or 0
    return sorted((symbol, *sums) for symbol, sums in found.items())


def _spans(log: Log) -> dict[tuple[str, int], tuple[int, int]]:
    return kafka.spans(log.kafka, [(log.topic, partition) for partition in range(PARTITIONS)])


def _files(stage: Stage) -> tuple[Path, Path]:
    """The schema, and the first trades as lines of JSON."""
    schema, lines = stage.root / f"{EVENT}.avsc", stage.root / "trades.jsonl"
    schema.write_text(json.dumps(current(EVENT).schema))
    lines.write_text("\n".join(_lines(stage)))
    return schema, lines


def _lines(stage: Stage) -> Iterator[str]:
    for row in stage.trades.records.slice(0, DISTINCT).to_pylist():
        time_us = round(row["executed_at"].timestamp() * 1_000_000)
        plain = {name: str(row[name]) if row[name] is not None else None for name in SUMS}
        yield json.dumps({**row, **plain, "event_id": row["event_id"].hex(), "executed_at": time_us})
