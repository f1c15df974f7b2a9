"""Makes one file of the small ones of an hour that is over, while the group writes and others read: decision 0029.

A reader of the manifest sees the old files or the new one. A reader by pattern (`**/*.parquet`) never sees a row twice:
the new file gets its place when the old ones are gone, so that for a moment rows of that hour are missing to it.
"""

import time
import uuid
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from consumers.archive import manifests
from consumers.archive.chains import Chain, Superseded
from consumers.archive.files import GROUP_ROWS, HOUR_MS, LEVEL, hour_ms, path_of
from consumers.archive.manifests import Compacted, File, Moving
from consumers.archive.stores import Store
from sentio import log
from sentio.errors import Retryable
from sentio.kafka import Place

SETTLED_MS = HOUR_MS
"""How long after its end an hour is taken to be over."""
PARTS = "_compacting"


class Compaction:
    """Compacts partitions of an archive; another process that does so meanwhile ends this one's turn."""

    def __init__(self, store: Store, *, file_bytes: int) -> None:
        self._store = store
        self._file_bytes = file_bytes
        self._owner = uuid.uuid4().hex

    def run(self, place: Place, *, now_ms: int | None = None) -> tuple[int, int]:
        """Compact a partition; how many files there were of what was compacted, and are. Raises `Retryable`."""
        now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
        try:
            return self._run(place, now_ms)
        except (Superseded, FileNotFoundError) as failure:
            raise Retryable(f"archive: {place[0]}[{place[1]}] is compacted by another process: {failure}") from failure

    def _run(self, place: Place, now_ms: int) -> tuple[int, int]:
        chain = manifests.compacted_chain(self._store, place, self._owner)
        state = chain.claim()
        compacted = manifests.parse(Compacted, state) if state is not None else Compacted()
        if compacted.moving is not None:  # what another process began is brought to its end
            compacted = self._settle(chain, compacted)
        folder = f"{PARTS}/{place[0]}/{place[1]}"
        for stray in self._store.list(folder):  # of one that was killed; the partition's are ours alone now
            self._store.delete(stray)
        before = after = 0
        found = manifests.view(self._store, place)
        for group in _groups(found.files if found else [], now_ms, self._file_bytes):
            merged, data = self._merge(place, group)
            at = f"{folder}/{self._owner}-{merged.first}-{merged.next}.part"
            self._store.put(at, data)
            moving = Moving(path=merged.path, at=at, replaces=[file.path for file in group])
            compacted = Compacted(files=[*manifests.left(compacted.files, [merged]), merged], moving=moving)
            chain.put(compacted.model_dump())
            chain.check()
            compacted = self._settle(chain, compacted)
            before, after = before + len(group), after + 1
            log.get().info("compacted", path=merged.path, files=len(group), rows=merged.rows)
        return before, after

    def _settle(self, chain: Chain, compacted: Compacted) -> Compacted:
        """Take the old files away, then put the new one where they were."""
        assert compacted.moving is not None
        for path in compacted.moving.replaces:
            self._store.delete(path)
        try:
            self._store.move(compacted.moving.at, compacted.moving.path)
        except FileNotFoundError:
            if compacted.moving.path not in self._store.list(compacted.moving.path.rpartition("/")[0]):
                raise
        settled = Compacted(files=compacted.files)
        chain.put(settled.model_dump())
        chain.check()
        return settled

    def _merge(self, place: Place, group: list[File]) -> tuple[File, pa.Buffer]:
        tables = [pq.ParquetFile(manifests.read_file(self._store, file, None)) for file in group]
        # Files of before an event got a field have nulls there.
        schema = pa.unify_schemas([table.schema_arrow for table in tables])
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, schema, compression="zstd", compression_level=LEVEL) as writer:
            for table in tables:
                for rows in table.iter_batches(GROUP_ROWS):
                    writer.write_table(_as(schema, rows), GROUP_ROWS)
        data = sink.getvalue()
        first, last = group[0], group[-1]
        hour = first.hour.partition("/")[2]
        merged = File(
            path=path_of(place, hour, first.first, last.next, first.epoch),
            first=first.first,
            next=last.next,
            rows=sum(file.rows for file in group),
            first_offset=first.first_offset,
            last_offset=last.last_offset,
            size_bytes=data.size,
            epoch=first.epoch,
        )
        return merged, data


def sweep(store: Store, topic: str) -> list[str]:
    """Remove files of a topic that no manifest names: of a process that was frozen, and woke when its work was done.

    Returns their paths.
    """
    strays = unnamed(store, topic)
    for path in strays:
        store.delete(path)
    return strays


def unnamed(store: Store, topic: str) -> list[str]:
    """Files of a topic that no manifest names."""
    # First the files, then the manifests: a file is only written when a manifest names it.
    there = {path for path in store.list(topic) if path.endswith(".parquet")}
    for place in manifests.places(store):
        if place[0] == topic and (found := manifests.view(store, place)) is not None:
            there -= {file.path for file in found.files}
            there -= set(found.head.pending.paths if found.head.pending else ())
            there -= set(found.moving.replaces if found.moving else ())
    return sorted(there)


def _groups(files: list[File], now_ms: int, file_bytes: int) -> Iterator[list[File]]:
    """Neighbours of one hour that make a file no larger than wished, two at least."""
    hours: dict[tuple[str, int], list[File]] = {}
    for file in files:
        if hour_ms(file) + HOUR_MS + SETTLED_MS <= now_ms:
            hours.setdefault((file.hour, file.epoch), []).append(file)
    for mine in hours.values():
        group: list[File] = []
        for file in sorted(mine, key=lambda file: file.first):
            if group and sum(one.size_bytes for one in group) + file.size_bytes > file_bytes:
                if len(group) > 1:
                    yield group
                group = []
            group.append(file)
        if len(group) > 1:
            yield group


def _as(schema: pa.Schema, rows: pa.RecordBatch) -> pa.Table:
    columns = [
        rows[field.name] if field.name in rows.schema.names else pa.nulls(len(rows), field.type) for field in schema
    ]
    return pa.table(columns, schema)
