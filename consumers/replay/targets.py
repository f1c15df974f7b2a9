"""Where a replay writes to, but for Kafka (`topic`) and live tables (`table`): a file, stdout, or nowhere."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from consumers.replay.job import Job
from consumers.replay.selection import UNDECODABLE, Chosen
from sentio.errors import Fatal, SettingError
from sentio.rows import documents


class Target(Protocol):
    """Takes what was chosen. What was written before a checkpoint is there after a kill, once; the rest may be lost.

    Raises `Retryable` when what it writes to does not answer; then it is closed, and opened when it is tried again.
    """

    def open(self, job: Job) -> None:
        """Go on where the job stands, or say in the job where this target stands. Raises `Fatal`.

        May come again after `close`.
        """

    def write(self, chosen: Chosen) -> int:
        """How many records are written by that; a target that knows later adds them to the job at a checkpoint."""
        ...

    @property
    def is_full(self) -> bool:
        """A checkpoint is due, whatever the time."""
        ...

    def checkpoint(self, job: Job) -> None:
        """Make sure that what was written stays, before the job's file says so."""

    def finish(self, job: Job, /) -> None:
        """All is written, and the last checkpoint made."""

    def drop(self, job: Job, /) -> None:
        """The job is cancelled: nobody wants what there is."""

    def close(self) -> None: ...


class Count:
    """Writes nothing: what would be written is known afterwards."""

    is_full = False

    def open(self, job: Job) -> None: ...

    def write(self, chosen: Chosen) -> int:
        return len(chosen.indexes)

    def checkpoint(self, job: Job) -> None: ...

    def finish(self, job: Job, /) -> None: ...

    def drop(self, job: Job, /) -> None: ...

    def close(self) -> None: ...


class Stdout(Count):
    """One JSON document a line. What was printed is gone: it begins anew after a kill."""

    def __init__(self) -> None:
        self._is_ours = False

    def open(self, job: Job) -> None:
        if job.counts.read and not self._is_ours:
            raise Fatal(f"replay {job.id} wrote to stdout and cannot go on; begin another")
        self._is_ours = True

    def write(self, chosen: Chosen) -> int:
        sys.stdout.writelines(lines(chosen))
        sys.stdout.flush()
        return len(chosen.indexes)


class File:
    """JSON lines beside ``path`` until all are there, and then under its name."""

    is_full = False

    def __init__(self, path: Path, job_id: str) -> None:
        self._path = path
        self._part = path.with_name(f"{path.name}.{job_id}.part")
        self._descriptor: int | None = None
        self._bytes = 0

    def open(self, job: Job) -> None:
        if self._path.exists():
            if not self._part.exists() and not job.left() and self._path.stat().st_size == job.file_bytes:
                return  # killed between the last name and the last word about it
            raise SettingError(f"--into file:{self._path} is there already; name another, or remove it")
        try:
            self._descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as failure:
            raise SettingError(f"--into file:{self._path}: {failure.strerror}") from failure
        if os.fstat(self._descriptor).st_size < job.file_bytes:
            raise Fatal(f"{self._part} is shorter than replay {job.id} left it; begin another")
        os.ftruncate(self._descriptor, job.file_bytes)
        os.lseek(self._descriptor, 0, os.SEEK_END)
        self._bytes = job.file_bytes

    def write(self, chosen: Chosen) -> int:
        assert self._descriptor is not None
        text = memoryview("".join(lines(chosen)).encode())
        try:
            while text:
                written = os.write(self._descriptor, text)
                self._bytes += written
                text = text[written:]
        except OSError as failure:
            raise Fatal(f"{self._part}: {failure.strerror}") from failure
        return len(chosen.indexes)

    def checkpoint(self, job: Job) -> None:
        if self._descriptor is None:
            return
        try:
            os.fsync(self._descriptor)
        except OSError as failure:
            raise Fatal(f"{self._part}: {failure.strerror}") from failure
        job.file_bytes = self._bytes

    def finish(self, _: Job) -> None:
        if self._descriptor is not None:
            self._part.replace(self._path)

    def drop(self, _: Job) -> None:
        self._part.unlink(missing_ok=True)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def lines(chosen: Chosen) -> Iterator[str]:
    """A JSON document for each message, in order: where it was, and its fields or why it cannot be decoded."""
    assert chosen.records is not None
    partitions, offsets, times_ms = (column.to_pylist() for column in chosen.messages.columns())
    reasons = chosen.reasons or {}
    wanted = pa.array([row for row in chosen.rows if row != UNDECODABLE], pa.int64())
    rows = documents(chosen.records.take(wanted))
    for index, row in zip(chosen.indexes, chosen.rows, strict=True):
        document = {
            "topic": chosen.topic.name,
            "partition": partitions[index],
            "offset": offsets[index],
            "at_ms": times_ms[index],
        }
        if row == UNDECODABLE:
            document["undecodable"] = reasons[index]
        else:
            document |= next(rows)
        yield json.dumps(document) + "\n"
