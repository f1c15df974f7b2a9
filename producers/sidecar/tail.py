"""The lines of a log that is still being written, through rotation, truncation and restarts.

A log is a row of files, the newest of which grows. Each file has an id, within which its lines are numbered; one that
was truncated, or is another under the same name, has another. Ids follow from the one before, so that whoever goes on
from a mark in one file finds the same ids in those behind it.
"""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid5

from producers.sidecar.files import changed_ns
from producers.sidecar.logs import day_of
from sentio import log

CHUNK_BYTES = 256 * 1024
LINE_BYTES = 1 << 20
"""Longest line; what is longer comes as None."""

DIGITS = 32
NEWEST_BYTES = 4_096
"""Of what was read last, that a file still has to have there: else it was truncated."""

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
    """Of all up to its end. A file that has anything else there is another file."""

    changed_ns: int = 0
    """When the file was written last, as far as was seen. Those written later come after it."""


@dataclass(frozen=True, slots=True)
class TailLine:
    """One whole line."""

    text: bytes | None
    """Without its end; None: too long."""

    mark: Mark


class Tail:
    """Reads the log whose files ``files`` lists, the oldest first. Goes on behind ``mark``, else with the oldest.

    ``root`` is what the id of the first file follows from. A file is left for the next when that one is being written,
    and it was not for ``settle_s`` itself.
    """

    def __init__(self, files: Callable[[], Sequence[Path]], mark: Mark | None, root: UUID, settle_s: float) -> None:
        self.at_end = False
        """Everything that is there was read."""

        self._files = files
        self._mark = mark
        self._sought = mark
        self._root = root
        self._settle_s = settle_s
        self._sum = hashlib.sha256()
        self._newest = b""
        self._grew_s = time.monotonic()
        self._file: BufferedReader | None = None
        self._skips = False
        self._look_at_s = 0.0
        self._once = log.OncePer()

    def read(self) -> list[TailLine]:
        """The next lines, none when there are none yet."""
        try:
            return self._read()
        except OSError as failure:
            if self._once.due("read"):
                log.get().error("a log cannot be read; it is tried again", cause=str(failure))
            # Nobody knows what it has.
            self.at_end = False
            return []

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None

    def _read(self) -> list[TailLine]:
        if self._file is not None:
            self._look_for_truncation()
            if lines := self._lines():
                self._grew_s = time.monotonic()
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
        self.at_end = False
        if time.monotonic() - self._grew_s < self._settle_s:
            return []
        # Whoever wrote it has gone over to another: what is there now is all, the end of its last line too.
        lines = self._lines() or self._last()
        if not lines:
            self.close()
            self._open(follower)
        self._look_at_s = 0.0
        return lines

    def _find(self, mark: Mark) -> None:
        """Open the file of a mark, wherever it is now, or a copy that was made of it."""
        paths = self._files()
        here = [path for path in paths if _is_same(path, mark)]
        if any(self._take_up(path, mark) for path in here) or self._take_up_copy(mark):
            return
        # Its number may have been given to a later file, with others between.
        later = [path for path in paths if _is_later(path, mark)]
        if here and later[:1] in ([], here[:1]) and self._open(here[0]):
            _say_truncated(mark)
            return
        if later:
            self._open(later[0])
        log.get().error(
            "a log is no longer where it was read to, and what it had behind that is lost; it is read on in the first"
            " file that was written later",
            file=mark.path,
            line=mark.line,
        )

    def _take_up(self, path: Path, mark: Mark) -> bool:
        """Open a file behind the mark, if it begins as the mark says."""
        with ExitStack() as opened:
            file = opened.enter_context(path.open("rb"))
            found = _sum_of(file, mark.end)
            if found is None or found.hexdigest()[:DIGITS] != mark.digest:
                return False
            file.seek(mark.start)
            self._newest = file.read(mark.end - mark.start)[-NEWEST_BYTES:]
            self._sum = found
            status = os.fstat(file.fileno())
            self._mark = mark._replace(path=str(path), device=status.st_dev, inode=status.st_ino)
            self.close()
            self._file = file
            opened.pop_all()
            return True

    def _take_up_copy(self, mark: Mark) -> bool:
        """The same of a copy; what stands where a log is written is none."""
        for path in self._files()[:-1]:
            with suppress(OSError):
                if self._take_up(path, mark):
                    return True
        return False

    def _go_over(self) -> bool:
        """Open the file of the mark that it began with, or the first, or the first after the one that is gone."""
        if self._sought is not None:
            self._find(self._sought)
            self._sought = None
            if self._file is not None:
                return True
        paths = self._later()
        return bool(paths) and self._open(paths[0])

    def _later(self) -> list[Path]:
        """The files after the one that was read last."""
        paths, mark = list(self._files()), self._mark
        if mark is None:
            return paths
        here = [place for place, path in enumerate(paths) if _is_same(path, mark)]
        return paths[here[-1] + 1 :] if here else [path for path in paths if _is_later(path, mark)]

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
        before = self._mark.id if self._mark else self._root
        identity = uuid5(before, f"{status.st_dev} {status.st_ino}")
        self._skips, self._newest, self._sum = False, b"", hashlib.sha256()
        self._grew_s = time.monotonic()
        digest = self._sum.hexdigest()[:DIGITS]
        self._mark = Mark(identity, str(path), status.st_dev, status.st_ino, 0, 0, 0, digest, status.st_mtime_ns)

    def _look_for_truncation(self) -> None:
        assert self._file is not None
        assert self._mark is not None
        mark = self._mark
        size = os.fstat(self._file.fileno()).st_size
        self._file.seek(mark.end - len(self._newest))
        if size >= mark.end and self._file.read(len(self._newest)) == self._newest:
            return
        # Where it was copied before, what of it was not read is in the copy, and this file comes after that.
        if self._take_up_copy(mark):
            return
        _say_truncated(mark)
        self._begin(mark.path)

    def _follower(self) -> Path | None:
        """The file after the one that is open, if somebody writes one by now: one that is only there is not enough."""
        later = self._later()
        return later[0] if any(_size(path) for path in later) else None

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
            self._sum.update(data)
            self._newest = data[-NEWEST_BYTES:]
            behind = self._mark.end + len(data)
            self._mark = self._mark._replace(start=behind, end=behind, digest=self._sum.hexdigest()[:DIGITS])
        changed_ns = os.fstat(self._file.fileno()).st_mtime_ns
        return [self._line(text, b"\n", changed_ns) for text in data.split(b"\n")[:-1]]

    def _last(self) -> list[TailLine]:
        """What is left of a file that nobody writes any more."""
        assert self._file is not None
        assert self._mark is not None
        self._file.seek(self._mark.end)
        text = self._file.read(LINE_BYTES)
        return [self._line(text, b"", os.fstat(self._file.fileno()).st_mtime_ns)] if text else []

    def _line(self, text: bytes, end: bytes, changed_ns: int) -> TailLine:
        assert self._mark is not None
        start = self._mark.end
        whole = not self._skips
        self._skips = False
        self._sum.update(text + end)
        self._newest = (text + end)[-NEWEST_BYTES:]
        self._mark = self._mark._replace(
            line=self._mark.line + 1,
            start=start,
            end=start + len(text) + len(end),
            digest=self._sum.hexdigest()[:DIGITS],
            changed_ns=changed_ns,
        )
        return TailLine(text if whole else None, self._mark)


def _is_same(path: Path, mark: Mark) -> bool:
    with suppress(OSError):
        status = path.stat()
        return (status.st_dev, status.st_ino) == (mark.device, mark.inode)
    return False


def _say_truncated(mark: Mark) -> None:
    log.get().error(
        "a log was truncated, and what of it was not read is lost; it is read from its beginning",
        file=mark.path,
        line=mark.line,
    )


def _is_later(path: Path, mark: Mark) -> bool:
    """Whether a file was written after that of a mark; in folders named by day, whether its day is later."""
    there, here = day_of(Path(mark.path).parent), day_of(path.parent)
    if there is not None and here is not None and there != here:
        return here > there
    return changed_ns(path) > mark.changed_ns


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _sum_of(file: BufferedReader, end: int) -> "hashlib._Hash | None":
    """Of the first bytes of a file, None if it has fewer."""
    found = hashlib.sha256()
    left = end
    while left and (data := file.read(min(left, CHUNK_BYTES))):
        found.update(data)
        left -= len(data)
    return None if left else found
