"""An engine's own log files as a source, while the engine writes them: what `producers.session` makes of a whole day.

Lines are merged by the minute that they belong to: signals, fills, positions. A minute is done when the files have
gone on behind it, or have been quiet. Each file is a producer of its own, whose sequences are its lines, since nothing
else is the same whenever they are read; and so events of a file are never given in another order than its own.
"""

import json
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple
from uuid import NAMESPACE_OID, UUID, uuid5

from uuid_utils import uuid7

from producers.engine_log import Content, fill_of, row_of, signal_of
from producers.fields import Fields, LineError
from producers.session import NEW_YORK
from producers.sidecar.followed import EVENTS_OF_A_LINE, Followed, Made, Minutes
from producers.sidecar.logs import day_of, files_of, is_written
from producers.sidecar.numbered import Numbered, messages
from producers.sidecar.source import QUIET_S, Beat, Portion, Refused
from producers.sidecar.tail import Mark, Tail, TailLine
from sentio import log
from sentio.errors import Fatal, SettingError

KINDS = ("signals", "trades", "positions")
SIGNALS, POSITIONS = KINDS.index("signals"), KINDS.index("positions")
CHECKPOINT = ".sentio-follow.json"

PENDING = 20_000
"""Lines of a file that are read ahead of the others at most."""

CLOCKS = timedelta(minutes=5)
"""How far the engine's clock may be ahead into another day."""

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_FOR_EVER = datetime.max.replace(tzinfo=UTC)


class _Placed(NamedTuple):
    """A line, and the minute that it belongs to."""

    minute: datetime
    kind: int
    line: TailLine
    at: datetime
    content: Content

    @property
    def place(self) -> tuple[datetime, int]:
        return self.minute, self.kind


class Follower:
    """The files `signals.jsonl`, `trades.jsonl` and `positions.jsonl` of a folder, or of its folders named by day.

    ``settle_s``: how long after the last line of any file those of the others may come. How far it came is kept in
    `CHECKPOINT` of the folder; Fatal when that cannot be read or written.
    """

    def __init__(self, folder: Path, *, engine: str, settle_s: float) -> None:
        if not folder.is_dir():
            raise SettingError(f"follow {folder}: there is no such folder")
        self.name = f"follow:{folder}"
        self._folder = folder.absolute()
        self._engine = engine
        self._settle_s = settle_s
        self._checkpoint = self._folder / CHECKPOINT
        self._root, self._marks, self._done = self._load()
        self._tails = [
            Tail(partial(files_of, self._folder, kind), self._marks[kind], uuid5(self._root, kind), settle_s)
            for kind in KINDS
        ]
        self._pending: list[deque[_Placed]] = [deque() for _ in KINDS]
        self._latest = [_LONG_AGO] * len(KINDS)
        self._unplaced: deque[TailLine] = deque()
        self._changed_s = time.monotonic()
        self._lines = 0
        self._once = log.OncePer()
        # What everything else follows from has to be there again.
        self._save(must=True)

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
        producer = f"{self._engine}@{uuid5(NAMESPACE_OID, str(self._folder))}"
        is_there = any(is_written(self._folder, kind, QUIET_S) for kind in KINDS)
        return [Beat(producer, self._engine, "", "", is_there=is_there)]

    def figures(self) -> Mapping[str, int]:
        return {"lines": self._lines, "waiting": sum(map(len, self._pending)) + len(self._unplaced)}

    def close(self) -> None:
        for tail in self._tails:
            tail.close()

    # --- reading ---------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        for kind, tail in enumerate(self._tails):
            if self._is_full(kind):
                continue
            lines = tail.read()
            if lines:
                self._changed_s = time.monotonic()
            for line in lines:
                if kind == POSITIONS:
                    self._unplaced.append(line)
                else:
                    self._pending[kind].append(self._placed(kind, line))
        self._place_rows()

    def _is_full(self, kind: int) -> bool:
        return len(self._pending[kind]) + (len(self._unplaced) if kind == POSITIONS else 0) >= PENDING

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
        day = day_of(path.parent)
        if day is not None and at.astimezone(NEW_YORK).date() != day:
            raise LineError(f"timestamp_ms is {at:%Y-%m-%d %H:%M} UTC, not within {day} in New York")
        # One of another day would end this one for all that comes.
        now = datetime.now(UTC)
        if at > now + CLOCKS and at.astimezone(NEW_YORK).date() > now.astimezone(NEW_YORK).date():
            raise LineError(f"timestamp_ms is {at:%Y-%m-%d %H:%M} UTC, in the future")
        return at

    def _place_rows(self) -> None:
        """Rows at the times of the signals, as far as those are there."""
        while self._unplaced:
            line = self._unplaced[0]
            at = self._latest[POSITIONS]
            content: Content
            try:
                fields = _fields(line)
                bar = fields.integer("bar", 1, 10**6)
                day = day_of(Path(line.mark.path).parent)
                found = self._done.minutes.of(bar, day, is_final=self._minutes_are_final())
                if found is None:
                    return
                at = found
                content = row_of(fields, at)
            except LineError as error:
                content = error
            self._unplaced.popleft()
            minute = max(self._latest[POSITIONS], at.replace(second=0, microsecond=0))
            self._latest[POSITIONS] = minute
            self._pending[POSITIONS].append(_Placed(minute, POSITIONS, line, at, content))

    def _minutes_are_final(self) -> bool:
        """Whether no signal comes that tells the next row's minute, or many came, and all wait for that row."""
        if self._is_quiet() and self._tails[SIGNALS].at_end:
            return True
        first, limit = self._first(), self._limit()
        waits_for_row = limit == (self._latest[POSITIONS], POSITIONS)
        return waits_for_row and self._is_full(SIGNALS) and first is not None and first.place > limit

    # --- giving ----------------------------------------------------------------------------------------------------

    def _is_still(self) -> bool:
        return time.monotonic() - self._changed_s >= self._settle_s

    def _is_quiet(self) -> bool:
        """Nothing more comes, unless what is there is given."""
        return self._is_still() and all(tail.at_end or self._is_full(kind) for kind, tail in enumerate(self._tails))

    def _ready(self, most: int) -> Iterator[_Placed]:
        """Lines of minutes that are done, in order: by minute, then signals, fills, positions."""
        limit = self._limit()
        for _ in range(most):
            first = self._first()
            if first is None or first.place > limit:
                return
            yield self._pending[first.kind].popleft()

    def _first(self) -> _Placed | None:
        heads = [waiting[0] for waiting in self._pending if waiting]
        return min(heads, key=lambda placed: placed.place, default=None)

    def _limit(self) -> tuple[datetime, int]:
        """The first place, a minute and a kind, that may have more lines: those that are there are given up to it.

        Of a file that is not read to its end that is the place of its last line, however many it has in that minute.
        """
        places = [(_FOR_EVER, 0)]
        newest = max(self._latest)
        if not self._is_still():
            places.append((newest if newest == _LONG_AGO else newest - timedelta(seconds=self._settle_s), -1))
        for kind, tail in enumerate(self._tails):
            if kind == POSITIONS and self._unplaced:
                if not self._rows_wait_for_more():
                    places.append((self._latest[kind], kind))
            elif not tail.at_end:
                places.append((self._latest[kind], kind))
        return min(places)

    def _rows_wait_for_more(self) -> bool:
        """Signals of one minute are all that is read ahead: only once they are given there are more, for later rows."""
        return self._is_full(SIGNALS) and self._pending[SIGNALS][0].minute == self._latest[SIGNALS]

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

    def _save(self, *, must: bool = False) -> None:
        """What is behind the name is whole after a power cut too: the former, or this one."""
        marks = {kind: mark and [str(mark.id), *mark[1:]] for kind, mark in self._marks.items()}
        draft = self._checkpoint.with_name(f"{CHECKPOINT}.new")
        try:
            with draft.open("w", encoding="utf-8") as file:
                json.dump({"root": str(self._root), "marks": marks, **self._done.saved()}, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._checkpoint)
        except OSError as failure:
            if must:
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
