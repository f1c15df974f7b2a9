"""Records as Parquet: an event's columns, and beside them the record exactly as it is in the log.

A file holds records of one hour, by Kafka's timestamp, so that a time in the archive means what it means in the log.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from consumers.archive.manifests import File
from consumers.polled import ORIGINALS
from sentio.batch import Batch
from sentio.kafka import Place

LEVEL = 3
"""Of zstd."""
GROUP_ROWS = 50_000
"""What a reader has to take at once."""
HOUR_MS = 3_600_000
LAST_MS = 253_402_300_799_999  # of the year 9999
"""A record without a time, or with one that no calendar has, lies in the first hour of 1970."""

KAFKA = pa.schema(
    [
        pa.field("kafka_partition", pa.int32()),
        pa.field("kafka_offset", pa.int64()),
        pa.field("kafka_timestamp_ms", pa.int64()),
        *(field.with_name(f"kafka_{field.name}") for field in ORIGINALS),
    ]
)
"""Columns behind those of the event."""


def rows_of(batch: Batch) -> Mapping[int, pa.RecordBatch]:
    """A batch as an archive keeps it, by partition."""
    assert batch.originals is not None
    arrays = [
        *batch.records.columns,
        batch.partitions,
        batch.offsets,
        batch.timestamps_ms,
        *batch.originals.columns,
    ]
    fields = [field.with_nullable(True) for field in batch.records.schema]
    rows = pa.record_batch(arrays, pa.schema([*fields, *KAFKA]))
    found = {}
    for partition in batch.ranges:
        mine = rows if len(batch.ranges) == 1 else rows.filter(pc.equal(batch.partitions, partition))
        found[partition] = mine
    return found


def by_hour(rows: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Rows of each hour, with the hour's folder."""
    times_ms = rows["kafka_timestamp_ms"]
    known = pc.and_(pc.greater_equal(times_ms, 0), pc.less_equal(times_ms, LAST_MS))
    hours = pc.if_else(known, pc.divide(times_ms, HOUR_MS), 0)
    for hour in sorted(pc.unique(hours).to_pylist()):
        start = datetime.fromtimestamp(hour * 3600, UTC)
        yield f"date={start:%Y-%m-%d}/hour={start:%H}", rows.filter(pc.equal(hours, hour))


def hour_ms(file: File) -> int:
    """When the hour of a file begins, milliseconds since 1970 UTC."""
    date, hour = file.hour.split("/")[-2:]
    start = datetime.strptime(f"{date} {hour}", "date=%Y-%m-%d hour=%H").replace(tzinfo=UTC)
    return round(start.timestamp() * 1000)


def path_of(place: Place, hour: str, first: int, end: int, epoch: int) -> str:
    """The object of one hour of offsets [first, end): whoever writes it writes the same."""
    topic, partition = place
    again = f"again{epoch}-" if epoch else ""
    return f"{topic}/{hour}/{again}{partition}-{first}-{end}.parquet"


def written(rows: pa.Table) -> pa.Buffer:
    """The bytes of a file with these rows."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd", compression_level=LEVEL, row_group_size=GROUP_ROWS)
    return sink.getvalue()


def entry(path: str, rows: pa.Table, *, first: int, end: int, size_bytes: int, epoch: int) -> File:
    """What the manifest says of a file; ``rows`` in the order of their offsets."""
    offsets = rows["kafka_offset"]
    return File(
        path=path,
        first=first,
        next=end,
        rows=len(rows),
        first_offset=offsets[0].as_py(),
        last_offset=offsets[-1].as_py(),
        size_bytes=size_bytes,
        epoch=epoch,
    )
