"""What an archive says of itself, for each partition of each topic: its files, and the offset at which it goes on.

Two documents a partition: the head, which the group's member writes, and what compaction made of the head's files.
Readers take the head first: a file leaves the head only when the compacted one is known.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from consumers.archive.chains import Chain, State
from consumers.archive.stores import Store
from sentio.errors import Fatal
from sentio.kafka import Place

MANIFESTS = "_manifests"
TRIM_FILES = 200
"""Each time the head has so many files more, those that were compacted are taken out."""

Document = TypeVar("Document", bound=BaseModel)


class File(BaseModel):
    """A Parquet file with records of one hour of one partition, in the order of their offsets."""

    model_config = ConfigDict(frozen=True)

    path: str
    first: int
    """Of the offsets from this one ..."""
    next: int
    """... up to this one, it holds those whose time is in its hour."""
    rows: int
    first_offset: int
    last_offset: int
    size_bytes: int
    epoch: int = 0

    @property
    def hour(self) -> str:
        """Its folder."""
        return self.path.rpartition("/")[0]

    def covers(self, other: "File") -> bool:
        """It holds what the other one does."""
        same = (self.hour, self.epoch) == (other.hour, other.epoch)
        return same and self.first <= other.first and other.next <= self.next


class Pending(BaseModel):
    """Files that are about to be written. Whoever goes on from here writes the same ones."""

    next: int
    paths: list[str]


class Absent(BaseModel):
    """Offsets [first, next) that are in no file."""

    epoch: int
    first: int
    next: int
    why: str


class Head(BaseModel):
    """Where the group stands in a partition."""

    topic_id: str
    """Kafka's own: another one is another log."""
    epoch: int = 0
    """How many times the topic was made anew, and that was accepted."""
    next_offset: int | None = None
    rows: int = 0
    """In all files, compacted ones too."""
    files: list[File] = []
    pending: Pending | None = None
    absent: list[Absent] = []


class Moving(BaseModel):
    """A compacted file that is not yet where it belongs, and what it replaces."""

    path: str
    at: str
    replaces: list[str]


class Compacted(BaseModel):
    """What compaction made of a partition's files."""

    files: list[File] = []
    moving: Moving | None = None


class View(BaseModel):
    """A partition's files as they are to be read."""

    head: Head
    files: list[File]
    moving: Moving | None


def head_chain(store: Store, place: Place, owner: str = "") -> Chain:
    return Chain(store, f"{_folder(place)}/head", owner)


def compacted_chain(store: Store, place: Place, owner: str = "") -> Chain:
    return Chain(store, f"{_folder(place)}/compacted", owner)


def places(store: Store) -> list[Place]:
    """Every partition that the archive has."""
    found = set()
    for path in store.list(MANIFESTS):
        _, topic, partition, kind, _ = path.split("/")
        if kind == "head":
            found.add((topic, int(partition)))
    return sorted(found)


def view(store: Store, place: Place) -> View | None:
    """What a partition's archive holds now; None where it holds nothing."""
    if (state := head_chain(store, place).newest()) is None:
        return None
    head = parse(Head, state)
    compacted = compaction(store, place)
    files = sorted([*left(head.files, compacted.files), *compacted.files], key=lambda f: (f.epoch, f.first_offset))
    return View(head=head, files=files, moving=compacted.moving)


def compaction(store: Store, place: Place) -> Compacted:
    state = compacted_chain(store, place).newest()
    return parse(Compacted, state) if state is not None else Compacted()


def read_file(store: Store, file: File, moving: Moving | None) -> pa.BufferReader:
    """The bytes of a file, which nobody can take away while they are read; FileNotFoundError when it is not there."""
    with open_file(store, file, moving) as opened:
        return pa.BufferReader(opened.read())


@contextmanager
def open_file(store: Store, file: File, moving: Moving | None) -> Iterator[pa.NativeFile]:
    """A file, to be read here and there meanwhile."""
    at = moving.at if moving is not None and moving.path == file.path else file.path
    with ExitStack() as reading:
        try:
            opened = reading.enter_context(store.open(at))
        except FileNotFoundError:  # in its place meanwhile
            opened = reading.enter_context(store.open(file.path))
        yield opened


def left(files: list[File], by: list[File]) -> list[File]:
    """Those that none of the others covers."""
    hours: dict[str, list[File]] = {}
    for file in by:
        hours.setdefault(file.hour, []).append(file)
    return [file for file in files if not any(other.covers(file) for other in hours.get(file.hour, ()))]


def parse(kind: type[Document], state: State) -> Document:
    try:
        return kind.model_validate(state)
    except ValidationError as failure:
        raise Fatal(f"archive: a manifest that this version cannot read: {failure}") from failure


class Owned:
    """The head of a partition that this process has claimed."""

    def __init__(self, store: Store, place: Place, topic_id: str, owner: str) -> None:
        self.place = place
        self._store = store
        self._chain = head_chain(store, place, owner)
        state = self._chain.claim()
        self.head = parse(Head, state) if state is not None else Head(topic_id=topic_id)

    def intend(self, end: int, paths: list[str]) -> None:
        """Say which files are about to be written; raises `Superseded` when they must not be."""
        before = self.head.pending.paths if self.head.pending else []
        pending = Pending(next=end, paths=sorted({*paths, *before}))
        self._put(self.head.model_copy(update={"pending": pending}))
        self._chain.check()

    def commit(self, first: int, end: int, files: list[File]) -> None:
        """The files of offsets [first, end) are there: go on behind them."""
        kept = self.head.files
        if len(kept) % TRIM_FILES == TRIM_FILES - 1:
            kept = left(kept, compaction(self._store, self.place).files)
        rows = self.head.rows + sum(file.rows for file in files)
        pending = self.head.pending.paths if self.head.pending else []
        absent = list(self.head.absent)
        if not files:
            absent.append(Absent(epoch=self.head.epoch, first=first, next=end, why="no records, or dead letters only"))
        changed = {"next_offset": end, "rows": rows, "files": [*kept, *files], "absent": absent, "pending": None}
        self._put(self.head.model_copy(update=changed))
        if stray := set(pending) - {file.path for file in files}:
            # Of an earlier try, where the log has lost the records since (compaction of a topic).
            self._chain.check()
            for path in stray:
                self._store.delete(path)

    def _put(self, head: Head) -> None:
        self._chain.put(head.model_dump())
        self.head = head

    def replace(self, head: Head) -> None:
        """Change it by hand (`sentio skip`)."""
        stray = self.head.pending.paths if self.head.pending else []
        self._put(head)
        self._chain.check()
        for path in stray:
            self._store.delete(path)


def _folder(place: Place) -> str:
    return f"{MANIFESTS}/{place[0]}/{place[1]}"
