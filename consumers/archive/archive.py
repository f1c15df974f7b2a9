"""Writes every topic as Parquet to a folder or a bucket, each record once: docs/archive.md, decision 0029."""

import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ClassVar

from consumers.archive import files
from consumers.archive.buffers import Buffer
from consumers.archive.chains import Superseded
from consumers.archive.manifests import File, Owned
from consumers.archive.stores import Store, open_store
from consumers.consumer import Consumer, Fenced
from schemas.topics import topics
from sentio import log
from sentio.batch import Batch
from sentio.config import ArchiveSettings, ConsumerSettings
from sentio.errors import Fatal, Retryable
from sentio.kafka import Place

CLAIMS = 16
"""Partitions that are claimed at once: each takes several answers of the store."""
SLICE_S = 1.0
"""The loop turns again after writing for so long."""
AGAIN_S = 3.0
"""Between tries while the store does not answer."""


class Archive(Consumer):
    """Keeps records until a file of them is large or old enough. What was not written is read again."""

    name: ClassVar[str] = "archive"
    topics: ClassVar[Sequence[str]] = tuple(topics())
    owns_offsets: ClassVar[bool] = True
    wants_originals: ClassVar[bool] = True
    settings_kind: ClassVar[type[ConsumerSettings]] = ArchiveSettings

    def __init__(self, settings: ArchiveSettings) -> None:
        self._settings = settings
        self._owner = uuid.uuid4().hex
        self._store: Store | None = None
        self._buffers: dict[Place, Buffer] = {}
        self._again_s = 0.0

    def open(self) -> None:
        self._store = open_store(self._settings)

    def assigned(self, topic_ids: Mapping[Place, str]) -> Mapping[Place, int]:
        places = sorted(topic_ids)
        with ThreadPoolExecutor(CLAIMS, "claim") as pool:
            owned = list(pool.map(partial(self._claim, topic_ids), places))
        found = {}
        for place, one in zip(places, owned, strict=True):
            self._buffers[place] = Buffer(one)
            if one.head.next_offset is not None:
                found[place] = one.head.next_offset
        return found

    def revoked(self, places: Sequence[Place]) -> None:
        for place in places:
            self._buffers.pop(place, None)

    def process(self, batch: Batch) -> None:
        topic = batch.log_name(self._settings.topic_prefix)
        places = {(topic, partition): span for partition, span in batch.ranges.items()}
        if gone := [place for place in places if place not in self._buffers]:
            raise Fenced(gone=gone)
        buffers = {place: self._buffers[place] for place in places}
        if moved := [place for place, buffer in buffers.items() if buffer.next not in (places[place].first, None)]:
            raise Fenced(moved=moved)
        rows = files.rows_of(batch)
        # Before anything is taken: a batch whose process fails comes again, whole.
        self._make_room(sum(part.nbytes for part in rows.values()))
        for (_, partition), buffer in buffers.items():
            buffer.add(rows[partition], batch.ranges[partition])

    def idle(self) -> None:
        now_s = time.monotonic()
        if now_s < self._again_s:
            return
        try:
            for place, buffer in list(self._buffers.items()):
                if self._is_due(buffer, now_s):
                    self._write(place, buffer)
                    if time.monotonic() - now_s > SLICE_S:
                        break
        except Retryable:
            self._again_s = time.monotonic() + AGAIN_S
            raise

    def _claim(self, topic_ids: Mapping[Place, str], place: Place) -> Owned:
        assert self._store is not None
        owned = Owned(self._store, place, topic_ids[place], self._owner)
        if owned.head.topic_id != topic_ids[place]:
            topic, partition = place
            raise Fatal(
                f"{topic}[{partition}] is another topic (id {topic_ids[place]}) than the one that the archive holds up"
                f" to offset {owned.head.next_offset} (id {owned.head.topic_id}); to begin with the new one, behind"
                f" what is archived: sentio skip {self.name} {topic} {partition} --new-topic"
            )
        return owned

    def _is_due(self, buffer: Buffer, now_s: float) -> bool:
        if buffer.end is None:
            return False
        large = buffer.size_bytes >= self._settings.archive_file_bytes
        return large or now_s - buffer.since_s >= self._settings.archive_file_s

    def _make_room(self, size_bytes: int) -> None:
        """Write the largest until so many bytes more are within what memory may hold."""
        for place, buffer in sorted(self._buffers.items(), key=lambda item: -item[1].size_bytes):
            held = sum(one.size_bytes for one in self._buffers.values())
            if held + size_bytes <= self._settings.archive_memory_bytes:
                return
            if buffer.end is not None:
                self._write(place, buffer)

    def _write(self, place: Place, buffer: Buffer) -> None:
        """Write what a partition has, in this order: which files, the files, that they are there."""
        assert self._store is not None
        end, owned = buffer.end, buffer.owned
        assert end is not None
        rows = buffer.before(end)
        epoch = owned.head.epoch
        hours = {} if rows is None else dict(files.by_hour(rows))
        parts = {files.path_of(place, hour, buffer.first, end, epoch): part for hour, part in hours.items()}
        done: list[File] = []
        try:
            if parts:
                owned.intend(end, sorted(parts))
            for path, part in parts.items():
                data = files.written(part)
                self._store.put(path, data)
                done.append(files.entry(path, part, first=buffer.first, end=end, size_bytes=data.size, epoch=epoch))
            owned.commit(buffer.first, end, done)
        except Superseded as failure:
            del self._buffers[place]
            raise Fenced(gone=[place]) from failure
        buffer.drop(end)
        if done:
            log.get().info(
                "archived",
                topic=place[0],
                partition=place[1],
                first=done[0].first,
                next=end,
                rows=sum(file.rows for file in done),
                files=len(done),
            )
