"""Native partitions for rows that are to come; on hypertables the database makes them itself."""

from collections.abc import Set as AbstractSet
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
from psycopg import Connection

from sentio.batch import Batch


def make(connection: Connection, batch: Batch, known: AbstractSet[datetime]) -> set[datetime]:
    """Have the partitions that the rows fall into, but for ``known`` ones; those of these rows.

    They are there, and to be known, once the transaction has ended well.
    """
    table, time, width = batch.topic.table or "", batch.topic.time, batch.topic.partition_width
    spans = _spans(batch.records[time], width)
    for first in sorted(spans - known):
        connection.execute("select sentio_partition_for(%s, %s, %s, %s)", [table, time, first, width])
    return spans


def _spans(times: pa.Array, width: str) -> set[datetime]:
    """First instant of each UTC month or day, as ``width`` says, in which there is a time."""
    bounds = pc.min_max(times)
    ends = pc.floor_temporal(pa.array([bounds["min"], bounds["max"]], times.type), unit=width)
    if ends[0] != ends[1]:  # seldom, and dear
        ends = pc.unique(pc.floor_temporal(times, unit=width))
    return set(ends.to_pylist())
