"""An engine's own log files as a source, while the engine writes them: what `producers.session` makes of a whole day.

Lines are merged by the minute that they belong to: signals, fills, positions. A minute is done when the files have
gone on behind it, or have been quiet. Each file is a producer of its own, whose sequences are its lines, since nothing
else is the same whenever they are read; and so events of a file are never given in another order than its own.
"""

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import NAMESPACE_OID, UUID, uuid5

from uuid_utils import uuid7

from producers.engine_log import Content, fill_of, row_of, signal_of
from producers.fields import Fields, LineError
from producers.session import NEW_YORK
from producers.sidecar.files import changed_ns
from producers.sidecar.followed import Followed, Made, Minutes
from producers.sidecar.numbered import Numbered, messages
from producers.sidecar.source import AHEAD, QUIET_S, Beat, Portion, Refused
from producers.sidecar.tail import Mark, Tail, TailLine
from sentio import log
from sentio.errors import Fatal, SettingError

KINDS = ("signals", "trades", "positions")
CHECKPOINT = ".sentio-follow.json"

PENDING = 20_000
"""Lines of a file that are read ahead of the others at most."""

EVENTS_OF_A_LINE = 1_024
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class _Placed(NamedTuple):
    """A line, and the minute that it belongs to."""

    minute: datetime
    kind: int
    line: TailLine
    at: datetime
    content: Content


class Follower:
    """The files `signals.jsonl`, `trades.jsonl` and `positions.jsonl` of a folder, or of its folders named by day.

    ``settle_s``: how long after the last line of any file those of the others may come. How far it came is kept in
    `CHECKPOINT` of the folder; Fatal when that cannot be read or written.
    """

    def __init__(self, folder: Path, *, engine: str, settle_s: float) -> None:
        if not folder.is_dir():
            raise SettingError(f"follow {folder}: there is no such folder")
        self.name = f"follow:{folder}"
        self._folder = folder
        self._engine = engine
        self._settle_s = settle_s
        self._checkpoint = folder / CHECKPOINT
        self._root, self._marks, self._done = self._load()
        self._tails = [Tail(self._files(kind), self._marks[kind], uuid5(self._root, kind), settle_s) for kind in KINDS]
        self._pending: list[deque[_Placed]] = [deque() for _ in KINDS]
        self._latest = [_LONG_AGO] * len(KINDS)
        self._unplaced: deque[TailLine] = deque()
        self._changed_s = time.monotonic()
        self._lines = 0
        self._once = log.OncePer()
        # What everything else follows from has to be there again.
        self._save(durable=True)

    def take(self, most: int) -> Portion | None:
        self._read()
        events: list[Numbered] = []
        refused: list[Refused] = []
        count = 0
        for placed in self._ready(most):
            count += 1
            self._give(placed, events, refused)
            if len(events) >= most:
                break
        if not any(self._pending) and self._is_quiet():
            self._number(self._done.end_of_minute(), events)
        if not count and not events:
            return None
        self._lines += count
        return Portion(messages(events), refused)

    def acknowledge(self) -> None:
        self._save()

    def beats(self) -> Sequence[Beat]:
        producer = f"{self._engine}@{uuid5(NAMESPACE_OID, str(self._folder.absolute()))}"
        is_there = time.monotonic() - self._changed_s < QUIET_S
        return [Beat(producer, self._engine, "", "", is_there=is_there)]

    def figures(self) -> Mapping[str, int]:
        return {"lines": self._lines, "waiting": sum(map(len, self._pending)) + len(self._unplaced)}

    def close(self) -> None:
        for tail in self._tails:
            tail.close()

    # --- reading ---------------------------------------------------------------------------------------------------

    def _files(self, kind: str) -> Callable[[], Sequence[Path]]:
        name = f"{kind}.jsonl"

        def listed() -> list[Path]:
            by_day = [path / name for path in sorted(self._folder.iterdir()) if _day(path) is not None]
            if by_day:
                return [path for path in by_day if path.is_file()]
            rotated = [path for path in self._folder.glob(f"{name}?*") if path.suffix not in {".gz", ".zst", ".xz"}]
            newest = [path for path in [self._folder / name] if path.is_file()]
            return [*sorted(rotated, key=changed_ns), *newest]

        return listed

    def _read(self) -> None:
        for kind, tail in enumerate(self._tails):
            waiting = len(self._pending[kind]) + (len(self._unplaced) if KINDS[kind] == "positions" else 0)
            if waiting >= PENDING:
                continue
            lines = tail.read()
            if lines:
                self._changed_s = time.monotonic()
            for line in lines:
                if KINDS[kind] == "positions":
                    self._unplaced.append(line)
                else:
                    self._pending[kind].append(self._placed(kind, line))
        self._place_rows()

    def _placed(self, kind: int, line: TailLine) -> _Placed:
        """A signal or a fill, at its own minute; what cannot be used, at that of the line before."""
        at = self._latest[kind]
        content: Content
        try:
            fields = _fields(line)
            at = self._own_time(fields, Path(line.mark.path))
            if KINDS[kind] == "signals":
                content = signal_of(fields, at)
                self._done.minutes.add(at.astimezone(NEW_YORK).date(), at)
            else:
                content = fill_of(fields, at)
        except LineError as error:
            content = error
        # In the order of its file whatever its time: sequences of a producer rise.
        self._latest[kind] = max(self._latest[kind], at.replace(second=0, microsecond=0))
        return _Placed(self._latest[kind], kind, line, at, content)

    def _own_time(self, fields: Fields, path: Path) -> datetime:
        at = fields.time("timestamp_ms")
        day = _day(path.parent)
        if day is not None and at.astimezone(NEW_YORK).date() != day:
            raise LineError(f"timestamp_ms is {at:%Y-%m-%d %H:%M} UTC, not within {day} in New York")
        if at > datetime.now(UTC) + AHEAD:
            raise LineError(f"timestamp_ms is {at:%Y-%m-%d %H:%M} UTC, in the future")
        return at

    def _place_rows(self) -> None:
        """Rows at the times of the signals, as far as those are there."""
        kind = KINDS.index("positions")
        # Signals that are read so far ahead have told all minutes of its day.
        is_final = self._is_quiet() or len(self._pending[0]) >= PENDING
        while self._unplaced:
            line = self._unplaced[0]
            at = self._latest[kind]
            content: Content
            try:
                fields = _fields(line)
                bar = fields.integer("bar", 1, 10**6)
                found = self._done.minutes.of(bar, _day(Path(line.mark.path).parent), is_final=is_final)
                if found is None:
                    return
                at = found
                content = row_of(fields, at)
            except LineError as error:
                content = error
            self._unplaced.popleft()
            self._latest[kind] = max(self._latest[kind], at.replace(second=0, microsecond=0))
            self._pending[kind].append(_Placed(self._latest[kind], kind, line, at, content))

    # --- giving ----------------------------------------------------------------------------------------------------

    def _is_quiet(self) -> bool:
        is_still = time.monotonic() - self._changed_s >= self._settle_s
        return is_still and all(tail.at_end for tail in self._tails)

    def _ready(self, most: int) -> Iterator[_Placed]:
        """Lines of minutes that are done, in order: by minute, then signals, fills, positions."""
        limit = self._limit()
        for _ in range(most):
            heads = [waiting[0] for waiting in self._pending if waiting]
            if not heads:
                return
            first = min(heads, key=lambda placed: placed.minute)
            if limit is not None and first.minute >= limit:
                return
            yield self._pending[first.kind].popleft()

    def _limit(self) -> datetime | None:
        """The minute that may have more lines; None: nothing more comes of any that is there."""
        if self._is_quiet() and not self._unplaced:
            return None
        newest = max(self._latest)
        if newest == _LONG_AGO:
            return newest
        behind = [
            self._latest[kind]
            for kind, tail in enumerate(self._tails)
            if not tail.at_end or (KINDS[kind] == "positions" and self._unplaced)
        ]
        return min([newest - timedelta(seconds=self._settle_s), *behind])

    def _give(self, placed: _Placed, events: list[Numbered], refused: list[Refused]) -> None:
        kind, mark = KINDS[placed.kind], placed.line.mark
        self._marks[kind] = mark
        try:
            if isinstance(placed.content, LineError):
                raise placed.content
            self._number(self._done.turn_to(placed.minute), events)
            self._number(self._done.events(kind, placed.content, placed.at, mark.id, mark.line), events)
        except LineError as error:
            if placed.line.text is None or placed.line.text.strip():
                refused.append(Refused(f"{mark.path} line {mark.line}", str(error)))

    def _number(self, made: Sequence[Made], events: list[Numbered]) -> None:
        for kind, file, line, place, event in made:
            producer = f"{self._engine}.{kind}@{file}"
            events.append(Numbered(producer, file, line * EVENTS_OF_A_LINE + place, event))

    # --- the checkpoint --------------------------------------------------------------------------------------------

    def _save(self, *, durable: bool = False) -> None:
        marks = {kind: mark and [str(mark.id), *mark[1:]] for kind, mark in self._marks.items()}
        draft = self._checkpoint.with_name(f"{CHECKPOINT}.new")
        try:
            with draft.open("w", encoding="utf-8") as file:
                json.dump({"root": str(self._root), "marks": marks, **self._done.saved()}, file)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            draft.replace(self._checkpoint)
        except OSError as failure:
            if durable:
                raise Fatal(f"{draft} cannot be written: {failure.strerror}") from failure
            # Whoever goes on from an older one sends some events again, the same.
            if self._once.due("save"):
                log.get().error("how far the log was read cannot be kept", file=str(draft), cause=failure.strerror)

    def _load(self) -> tuple[UUID, dict[str, Mark | None], Followed]:
        try:
            text = self._checkpoint.read_text(encoding="utf-8")
        except FileNotFoundError:
            return UUID(bytes=uuid7().bytes), dict.fromkeys(KINDS), Followed(Minutes())
        except OSError as failure:
            raise Fatal(f"{self._checkpoint} cannot be read: {failure.strerror}") from failure
        try:
            saved = json.loads(text)
            marks = {kind: mark and Mark(UUID(mark[0]), *mark[1:]) for kind, mark in saved["marks"].items()}
            return UUID(saved["root"]), {kind: marks[kind] for kind in KINDS}, Followed.of(saved)
        except (ValueError, KeyError, TypeError, ArithmeticError) as failure:
            raise Fatal(
                f"{self._checkpoint} is damaged ({failure}); without it, all of {self._folder} is published anew"
            ) from failure


def _fields(line: TailLine) -> Fields:
    if line.text is None:
        raise LineError("is too long")
    return Fields.parse(line.text)


def _day(folder: Path) -> date | None:
    try:
        return date.fromisoformat(folder.name)
    except ValueError:
        return None
