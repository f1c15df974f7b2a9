"""The lines of a log that is still being written, through rotation, truncation and restarts.

A log is a row of files, the newest of which grows. Each file has an id, within which its lines are numbered; one that
was truncated, or is another under the same name, has another. Ids follow from the one before, so that whoever goes on
from a mark in one file finds the same ids in those behind it.
"""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid5

from sentio import log

CHUNK_BYTES = 256 * 1024
LINE_BYTES = 1 << 20
"""Longest line; what is longer comes as None."""

LOOK_S = 0.25
"""How often it is looked whether there is another file."""


class Mark(NamedTuple):
    """How far a log was read: a file, and the last line of it."""

    id: UUID
    path: str
    device: int
    inode: int
    line: int = 0
    """Its number, from 1; 0: nothing of the file was read."""

    start: int = 0
    end: int = 0
    """Bytes of the file before the line, and up to its end."""

    digest: str = ""
    """Of the line. A file that has another one there is another file."""


@dataclass(frozen=True, slots=True)
class TailLine:
    """One whole line."""

    text: bytes | None
    """Without its end; None: too long."""

    mark: Mark


class Tail:
    """Reads the log whose files ``files`` lists, the oldest first. Goes on behind ``mark``, else with the oldest.

    ``root`` is what the id of the first file follows from.
    """

    def __init__(self, files: Callable[[], Sequence[Path]], mark: Mark | None, root: UUID) -> None:
        self.at_end = False
        """Everything that is there was read."""

        self._files = files
        self._mark = mark
        self._root = root
        self._file: BufferedReader | None = None
        self._skips = False
        self._look_at_s = 0.0
        self._once = log.OncePer()
        if mark is not None:
            self._find(mark)

    def read(self) -> list[TailLine]:
        """The next lines, none when there are none yet."""
        try:
            return self._read()
        except OSError as failure:
            if self._once.due("read"):
                log.get().error("a log cannot be read; it is tried again", cause=str(failure))
            self.at_end = True
            return []

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None

    def _read(self) -> list[TailLine]:
        if self._file is not None:
            self._look_for_truncation()
            if lines := self._lines():
                self.at_end = False
                return lines
        if time.monotonic() < self._look_at_s:
            return []
        self._look_at_s = time.monotonic() + LOOK_S
        if self._file is None:
            self.at_end = not self._go_over()
            return []
        follower = self._follower()
        if follower is None:
            self.at_end = True
            return []
        # Whoever wrote it has gone over to another: what is there now is all, the end of its last line too.
        lines = self._lines() or self._last()
        if not lines:
            self.close()
            self._open(follower)
        self._look_at_s = 0.0
        self.at_end = False
        return lines

    def _find(self, mark: Mark) -> None:
        """Open the file of a mark, wherever it is now."""
        for path in sorted(self._files(), key=lambda path: str(path) != mark.path):
            with suppress(OSError):
                file = path.open("rb")
                if _is_it(file, mark):
                    self._file = file
                    self._mark = mark._replace(path=str(path))
                    return
                file.close()
        log.get().error(
            "a log is no longer where it was read to; it is read on from the oldest file that came after it",
            file=mark.path,
            line=mark.line,
        )

    def _go_over(self) -> bool:
        """Open the first file, or the first after the one that is gone."""
        paths = self._files()
        if self._mark is not None:
            with suppress(ValueError):
                paths = paths[[str(path) for path in paths].index(self._mark.path) :]
        return bool(paths) and self._open(paths[0])

    def _open(self, path: Path) -> bool:
        with suppress(FileNotFoundError):
            self._file = path.open("rb")
            self._begin(path)
            return True
        return False

    def _begin(self, path: Path | str) -> None:
        """The open file is a new one."""
        assert self._file is not None
        status = os.fstat(self._file.fileno())
        self._skips = False
        before, line = (self._mark.id, self._mark.line) if self._mark else (self._root, 0)
        identity = uuid5(before, f"{line} {status.st_dev} {status.st_ino}")
        self._mark = Mark(identity, str(path), status.st_dev, status.st_ino)

    def _look_for_truncation(self) -> None:
        assert self._file is not None
        assert self._mark is not None
        if not _is_it(self._file, self._mark):
            log.get().warning("a log was truncated; it is read from its beginning", file=self._mark.path)
            self._begin(self._mark.path)

    def _follower(self) -> Path | None:
        """The file after the one that is open, if there is one by now."""
        assert self._mark is not None
        paths = list(self._files())
        here = [place for place, path in enumerate(paths) if _is_same(path, self._mark)]
        if here:
            return paths[here[-1] + 1] if here[-1] + 1 < len(paths) else None
        return paths[-1] if paths else None  # it was removed

    def _lines(self) -> list[TailLine]:
        assert self._file is not None
        assert self._mark is not None
        while True:
            self._file.seek(self._mark.end)
            data = self._file.read(CHUNK_BYTES)
            if b"\n" not in data and len(data) == CHUNK_BYTES:
                data += self._file.read(LINE_BYTES)
            if b"\n" in data or len(data) <= LINE_BYTES:
                break
            # Too long: it is passed over piece by piece, and told of with its end.
            self._skips = True
            behind = self._mark.end + len(data)
            self._mark = self._mark._replace(start=behind, end=behind)
        return [self._line(text, len(text) + 1) for text in data.split(b"\n")[:-1]]

    def _last(self) -> list[TailLine]:
        """What is left of a file that nobody writes any more."""
        assert self._file is not None
        assert self._mark is not None
        self._file.seek(self._mark.end)
        text = self._file.read(LINE_BYTES)
        return [self._line(text, len(text))] if text else []

    def _line(self, text: bytes, size: int) -> TailLine:
        assert self._mark is not None
        start = self._mark.end
        whole = not self._skips
        self._skips = False
        self._mark = self._mark._replace(
            line=self._mark.line + 1,
            start=start,
            end=start + size,
            digest=_digest(text),
        )
        return TailLine(text if whole else None, self._mark)


def _is_same(path: Path, mark: Mark) -> bool:
    with suppress(OSError):
        status = path.stat()
        return (status.st_dev, status.st_ino) == (mark.device, mark.inode)
    return False


def _is_it(file: BufferedReader, mark: Mark) -> bool:
    """Whether an open file is that of a mark and has its last line where it was."""
    status = os.fstat(file.fileno())
    if (status.st_dev, status.st_ino) != (mark.device, mark.inode) or status.st_size < mark.end:
        return False
    if mark.end == mark.start:
        return True
    file.seek(mark.start)
    return _digest(file.read(mark.end - mark.start).removesuffix(b"\n")) == mark.digest


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]
