"""What must hold after the storm. Each claim gives its problems as lines, so that one failure shows all of them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psycopg

from schemas.columns import arrow_schema
from schemas.topics import Topic, topic_of_event
from tests.chaos import oracle, twin
from tests.chaos.actors import Run
from tests.chaos.engine import Line
from tests.chaos.oracle import Truth
from tests.chaos.witness import Witness

BATCH_RECORDS = 1_000
"""A publisher that is killed may leave a batch half written: holes in its sequences are within one batch of the end."""

VERIFY_S = 300

_WINDOWS = Path(__file__).with_name("windows.sql").read_text()


def what_was_accepted_is_in_the_log(truth: Truth, runs: Sequence[Run]) -> Iterator[str]:
    """What a spool held at a SIGKILL, what was acknowledged before it, and everything of a run that ended in order."""
    ids = truth.ids
    for number, run in enumerate(runs):
        sequences = truth.sequences.get(run.producer, set())
        if lost := len(run.accepted - ids):
            yield f"publisher {number}: {lost} of {len(run.accepted)} events in its spool are not in the log"
        if len(sequences) < run.acknowledged:
            yield f"publisher {number}: {run.acknowledged} acknowledged, {len(sequences)} in the log"
        end = run.published if run.closed else max(sequences, default=-1) + 1
        whole = end if run.closed else end - BATCH_RECORDS
        if holes := set(range(whole)) - sequences:
            yield f"publisher {number}: {len(holes)} holes in its sequences, first {min(holes)} of {end}"
    if not any(run.accepted for run in runs if not run.closed):
        yield "no publisher that was killed had anything in its spool: none was durable"
    yield from (f"{run.producer} left {len(run.accepted)} in its spool" for run in runs if run.closed and run.accepted)


def what_the_engine_published_is_in_the_log(truth: Truth, line: Line, producer: str) -> Iterator[str]:
    """Every position of its ring, once, with what the engine gave; and nothing else of that producer."""
    rows = [(topic, row) for topic, events in truth.events.items() for row in events.values() if row[1] == producer]
    found = {row[2]: (topic, row[3:]) for topic, row in rows}
    if twice := len(rows) - len(found):
        yield f"engine: {twice} positions of its ring are in the log with two ids"
    if lost := set(range(line.published)) - found.keys():
        yield f"engine: {len(lost)} of {line.published} events are not in the log, first {min(lost)}"
    if more := found.keys() - set(range(line.published)):
        yield f"engine: {len(more)} events that it did not publish are in the log, first {min(more)}"
    for position, (topic, values) in sorted(found.items()):
        event = twin.event(line.seed, line.base, position)
        name = type(event).__name__
        given = tuple(getattr(event, column) for column in arrow_schema(name).names[3:])
        if (topic, values) != (topic_of_event(name).name, given):
            yield f"engine: event {position} is {values} in {topic}, not {given}"
            return


def every_event_is_in_its_table_once(
    connection: psycopg.Connection, truth: Truth, names: Mapping[str, Topic]
) -> Iterator[str]:
    for topic in names.values():
        for what, rows in oracle.differing_rows(connection, topic, truth).items():
            yield f"{topic.table}: {what}: {rows}"


def every_window_equals_the_rows(connection: psycopg.Connection) -> Iterator[str]:
    yield from (f"window: {row}" for row in connection.execute(_WINDOWS.encode()))


def verify_agrees(connection: psycopg.Connection, environment: Mapping[str, str]) -> Iterator[str]:
    """`sentio verify` as an operator runs it: it ends with 0, and has compared every window of the table."""
    done = subprocess.run(
        [sys.executable, "-m", "sentio", "verify", "--json"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=VERIFY_S,
    )
    *differences, last = [line for line in done.stdout.splitlines() if line.startswith("{")] or ["{}"]
    if done.returncode != 0:
        yield f"sentio verify ends with {done.returncode}: {done.stderr.strip()[-500:]}"
        yield from (f"sentio verify: {line}" for line in differences[:3])
    [(windows,)] = connection.execute("select count(*) from windows").fetchall()
    expected = {"from": None, "to": None, "differing": 0, "windows": windows, "moving": 0, "left_out": 0}
    if json.loads(last) != expected or not windows:
        yield f"sentio verify says {last}, not {json.dumps(expected)}"


def every_poison_message_is_a_dead_letter(
    bootstrap: str, prefix: str, truth: Truth, names: Mapping[str, Topic], groups: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """Once in each group that reads its topic, with its bytes; a repeat counts as the letter it repeats."""
    expected = {
        (f"{prefix}.{group}", name, partition, offset): value
        for group, topics in groups.items()
        for (name, partition, offset), value in truth.poison.items()
        if names[name].name in topics
    }
    found = oracle.letters(bootstrap, names)
    for what, places in (
        ("is no dead letter", expected.keys() - found.keys()),
        ("is a dead letter and no poison", found.keys() - expected.keys()),
        ("lost its bytes", {place for place in expected.keys() & found.keys() if expected[place] != found[place]}),
    ):
        yield from (f"{len(places)} times: {place} {what}" for place in sorted(places)[:1])


def every_group_stands_at_the_end(connection: psycopg.Connection, truth: Truth, prefix: str) -> Iterator[str]:
    query = "select group_name, topic, partition, greatest(next_offset, 0) from consumer_offsets order by 1, 2, 3"
    for group, topic, partition, offset in connection.execute(query):
        if offset != truth.ends[topic, partition]:
            yield f"{group} stands at {offset} in {topic}[{partition}], which ends at {truth.ends[topic, partition]}"


def nobody_wrote_for_another(witness: Witness) -> Iterator[str]:
    yield from (f"a zombie wrote: {move}" for move in witness.zombies())
