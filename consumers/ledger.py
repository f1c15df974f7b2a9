"""Where a group stands, kept with its results: offsets, generations and marks, moved in the transaction of the rows.

What it refused is noted there, too (`consumers.refusals`).

A generation is raised by whoever is assigned the partition, so that an earlier owner (a zombie that woke up) finds
another number and writes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl
from psycopg import Connection

from consumers import refusals
from consumers.consumer import Fenced
from sentio.batch import Batch
from sentio.errors import Fatal
from sentio.kafka import Place

_SOURCE = ("partition", "producer")  # within these two sequences rise
_NONE = -1  # below every sequence


@dataclass(frozen=True, slots=True)
class Fresh:
    """What of a batch is still to be written, and what to note when it is."""

    batch: Batch
    marks: tuple[tuple[int, str, int], ...]
    """(partition, producer, highest sequence) after this batch."""


class Ledger:
    """The offsets of one group. Every method works inside the caller's transaction."""

    def __init__(self, group: str, prefix: str) -> None:
        self._group = group
        self._prefix = prefix
        self._generations: dict[Place, int] = {}

    def claim(self, connection: Connection, topic_ids: Mapping[Place, str]) -> dict[Place, int]:
        """Become the owner of these partitions; the next offset of each that was owned before.

        Raises `Fatal` when a topic was deleted and made again since: its offsets mean other records.
        """
        found: dict[Place, int] = {}
        for (topic, partition), topic_id in sorted(topic_ids.items()):
            row = connection.execute(
                "insert into consumer_offsets as o"
                " (group_name, topic, partition, generation, next_offset, topic_id, noted_from, noted_to)"
                " values (%s, %s, %s, 1, -1, %s, 0, -1) on conflict (group_name, topic, partition)"
                " do update set generation = o.generation + 1, swapped = false, updated_at = now(),"
                " noted_from = case when o.noted_to = o.next_offset then o.noted_from else o.next_offset end,"
                " noted_to = o.next_offset"
                " returning generation, next_offset, topic_id",
                [self._group, topic, partition, topic_id],
            ).fetchone()
            assert row is not None
            generation, next_offset, known_id = row
            if known_id != topic_id:
                raise Fatal(
                    f"{topic}[{partition}] is another topic (id {topic_id}) than the one group {self._group} read up to"
                    f" offset {next_offset} (id {known_id}); to begin with the new one:"
                    f" sentio skip {self._group} {topic} {partition} --new-topic"
                )
            self._generations[topic, partition] = generation
            if next_offset >= 0:
                found[topic, partition] = next_offset
        refusals.forget(connection, self._group, list(topic_ids))
        return found

    def release(self, places: Sequence[Place]) -> None:
        """No longer the owner, as far as this process knows."""
        for place in places:
            self._generations.pop(place, None)

    def fresh(self, connection: Connection, batch: Batch) -> Fresh:
        """Lock the batch's partitions and leave out what is in the tables already.

        Raises `Fenced` when a partition has another owner or stands at another offset, as it does after a commit of
        our own whose outcome never reached us. After a swap of tables the owner is still who it was, and claims anew.
        Raises `Poison` for redriven records of which nobody knows whether they were refused.
        """
        topic = batch.log_name(self._prefix)
        rows = connection.execute(
            "select partition, case when swapped then generation - 1 else generation end, next_offset, swapped"
            " from consumer_offsets"
            " where group_name = %s and topic = %s and partition = any(%s) order by partition for update",
            [self._group, topic, sorted(batch.ranges)],
        ).fetchall()
        stands = {partition: tuple(rest) for partition, *rest in rows}
        gone, moved = [], []
        for partition, span in batch.ranges.items():
            generation, next_offset, swapped = stands.get(partition, (None, None, False))
            if generation is None or generation != self._generations.get((topic, partition)):
                gone.append((topic, partition))
            elif swapped or next_offset not in (span.first, -1):
                moved.append((topic, partition))
        if gone or moved:
            raise Fenced(gone=gone, moved=moved)
        if batch.redrive_topic is not None:
            base = batch.topic.full_name(self._prefix)
            return Fresh(refusals.not_yet_redriven(connection, self._group, base, batch), ())
        return self._without_repeats(connection, topic, batch)

    def advance(self, connection: Connection, fresh: Fresh) -> None:
        """Note that the batch is written, in the transaction that wrote it."""
        topic = fresh.batch.log_name(self._prefix)
        spans = sorted(fresh.batch.ranges.items())
        # Not executemany: its pipeline leaves the connection in a state that idle_in_transaction_session_timeout does
        # not see, and a process frozen before COMMIT would hold these rows for as long as it is frozen.
        connection.execute(
            "update consumer_offsets as o"
            " set next_offset = done.next_offset, noted_to = done.next_offset, updated_at = now()"
            " from unnest(%s::int[], %s::bigint[]) as done (partition, next_offset)"
            " where o.group_name = %s and o.topic = %s and o.partition = done.partition",
            [[partition for partition, _ in spans], [span.next for _, span in spans], self._group, topic],
        )
        if fresh.batch.redrive_topic is None:
            refusals.note(connection, self._group, topic, fresh.batch)
        if fresh.marks:
            partitions, producers, sequences = zip(*sorted(fresh.marks), strict=True)
            connection.execute(
                "insert into consumer_marks as m (group_name, topic, partition, producer, sequence)"
                " select %s, %s, * from unnest(%s::int[], %s::text[], %s::bigint[])"
                " on conflict (group_name, topic, partition, producer)"
                " do update set sequence = greatest(m.sequence, excluded.sequence), updated_at = now()",
                [self._group, topic, list(partitions), list(producers), list(sequences)],
            )

    def _without_repeats(self, connection: Connection, topic: str, batch: Batch) -> Fresh:
        if not len(batch):
            return Fresh(batch, ())
        sequence = pl.col("sequence")
        rows = pl.DataFrame(
            {
                "partition": batch.partitions,
                "producer": batch.records["producer"],
                "sequence": batch.records["sequence"],
            }
        )
        runs = rows.group_by(_SOURCE).agg(
            first=sequence.first(), highest=sequence.max(), rises=(sequence.diff() > 0).all()
        )
        marks = self._marks(connection, topic, runs)
        reached = runs.join(marks, on=_SOURCE, how="left").with_columns(pl.col("mark").fill_null(_NONE))
        new = tuple(runs.select(*_SOURCE, "highest").rows())
        if reached.select((pl.col("rises") & (pl.col("first") > pl.col("mark"))).all()).item():
            return Fresh(batch, new)
        # A repeat is at or below what its producer reached before it, in an earlier batch or earlier in this one.
        before = sequence.cum_max().shift(1).over(_SOURCE)
        keep = rows.join(reached, on=_SOURCE, how="left", maintain_order="left").select(
            sequence > pl.max_horizontal("mark", before)
        )
        return Fresh(batch.where(keep.to_series().to_arrow()), new)

    def _marks(self, connection: Connection, topic: str, runs: pl.DataFrame) -> pl.DataFrame:
        """The mark of each (partition, producer) that has one."""
        found = connection.execute(
            "select partition, producer, sequence from consumer_marks where group_name = %s and topic = %s"
            " and (partition, producer) in (select * from unnest(%s::int[], %s::text[]))",
            [self._group, topic, runs["partition"].to_list(), runs["producer"].to_list()],
        ).fetchall()
        return pl.DataFrame(
            found, schema={"partition": pl.Int32, "producer": pl.String, "mark": pl.Int64}, orient="row"
        )
