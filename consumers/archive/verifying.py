"""Whether an archive holds what its manifests say, every offset accounted for."""

from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from consumers.archive import manifests
from consumers.archive.compaction import unnamed
from consumers.archive.manifests import Absent, File, View
from consumers.archive.stores import Store
from sentio.kafka import Place


@dataclass
class Found:
    """What a partition's archive holds, and what is wrong with it."""

    place: Place
    first: int | None
    next: int | None
    rows: int
    files: int
    size_bytes: int
    absent: list[Absent]
    faults: list[str] = field(default_factory=list)


def summary(store: Store, place: Place) -> Found | None:
    """What the manifests say of a partition; None where they say nothing."""
    found = manifests.view(store, place)
    return _summary(place, found) if found is not None else None


def _summary(place: Place, found: View) -> Found:
    files = found.files
    return Found(
        place,
        min((file.first for file in files if file.epoch == found.head.epoch), default=found.head.next_offset),
        found.head.next_offset,
        sum(file.rows for file in files),
        len(files),
        sum(file.size_bytes for file in files),
        found.head.absent,
    )


def verify(store: Store, place: Place) -> Found | None:
    """Hold a partition's files against its manifests."""
    found = manifests.view(store, place)
    if found is None:
        return None
    result = _summary(place, found)
    if result.rows != found.head.rows:
        result.faults.append(f"{result.rows:,} rows in the files that are listed, {found.head.rows:,} were written")
    result.faults += _gaps(found)
    for file in found.files:
        result.faults += _faults(store, found, file)
    return result


def strays(store: Store, topics: set[str]) -> list[str]:
    """Files that no manifest names: rows in them would be read twice by pattern."""
    return [path for topic in sorted(topics) for path in unnamed(store, topic)]


def _gaps(found: View) -> list[str]:
    """Offsets between the oldest and the next that neither a file nor a reason accounts for."""
    head = found.head
    said: list[File | Absent] = [*found.files, *head.absent]
    spans = sorted((one.epoch, one.first, one.next) for one in said)
    if head.next_offset is not None:
        spans.append((head.epoch, head.next_offset, head.next_offset))
    faults = []
    reached: dict[int, int] = {}
    for epoch, first, end in spans:
        if first > reached.setdefault(epoch, first):
            faults.append(f"offsets {reached[epoch]} to {first - 1} are in no file")
        reached[epoch] = max(reached[epoch], end)
    return faults


def _faults(store: Store, found: View, file: File) -> list[str]:
    try:
        with manifests.open_file(store, file, found.moving) as opened:
            parquet = pq.ParquetFile(opened)
            rows, spans = parquet.metadata.num_rows, _offsets(parquet)
    except FileNotFoundError:
        return [f"{file.path} is not there"]
    except pa.ArrowException as failure:
        return [f"{file.path} is no Parquet file: {failure}"]
    faults = [] if rows == file.rows else [f"{file.path} has {rows:,} rows, the manifest says {file.rows:,}"]
    if spans != (file.first_offset, file.last_offset):
        faults.append(f"{file.path} has offsets {spans}, the manifest says {(file.first_offset, file.last_offset)}")
    return faults


def _offsets(parquet: pq.ParquetFile) -> tuple[int, int] | None:
    """Lowest and highest offset, from the file's own statistics; None where it has none."""
    column = parquet.schema_arrow.get_field_index("kafka_offset")
    # Columns of lists and structs count as their leaves; those come last.
    groups = [
        parquet.metadata.row_group(index).column(column).statistics for index in range(parquet.metadata.num_row_groups)
    ]
    if not groups or any(group is None or not group.has_min_max for group in groups):
        return None
    return min(group.min for group in groups), max(group.max for group in groups)
