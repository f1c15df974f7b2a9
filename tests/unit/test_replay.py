"""Which messages a replay takes, in which order and how fast; and what a job's file holds."""

import errno
import gc
import json
import os
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from consumers.replay import pace
from consumers.replay.job import Counts, Job, Spans, State, Wish, dumps, loads, make
from consumers.replay.jobs import Jobs, shown_state
from consumers.replay.run import Replay
from consumers.replay.selection import Chosen, Selection
from consumers.replay.source import Found, Part
from consumers.replay.targets import File, lines
from schemas.topics import topics
from sentio.conditions import condition
from sentio.errors import Fatal, SettingError
from sentio.kafka import Place
from tests.samples import encoded, trade

PREFIX = "sentio"
TOPIC = "sentio.trades.executed"
TRADES = topics()["trades.executed"]


@dataclass
class Kept:
    """Messages of trades: (partition, offset, minute); a minute of -1 is no event."""

    places: Sequence[tuple[int, int, int]]
    headers: Sequence[tuple[str, Any]] = ()

    def __len__(self) -> int:
        return len(self.places)

    def values(self) -> list[bytes | None]:
        return [b"?" if minute < 0 else encoded(trade(minute), number=minute) for _, _, minute in self.places]

    def columns(self) -> tuple[pa.Array, pa.Array, pa.Array]:
        partitions, offsets, minutes = zip(*self.places, strict=True)
        return pa.array(partitions, pa.int32()), pa.array(offsets, pa.int64()), pa.array(minutes, pa.int64())

    def spans(self) -> dict[int, tuple[int, int]]:
        raise NotImplementedError

    def since(self, first: dict[int, int], /) -> "Kept":
        raise NotImplementedError

    def letter(self, index: int, /) -> tuple[int, int, bytes | None, bytes | None, Sequence[tuple[str, Any]]]:
        partition, offset, _ = self.places[index]
        return partition, offset, None, None, self.headers if index % 2 else ()


def part(*places: tuple[int, int, int], headers: Sequence[tuple[str, Any]] = ()) -> Part:
    reached = {(TOPIC, partition): offset + 1 for partition, offset, _ in places}
    return Part(TOPIC, Kept(places, headers), range(len(places)), reached)


def choosing(*where: str, headers: Sequence[str] = (), decodes: bool = True) -> Selection:
    return Selection([TRADES], PREFIX, where=where, headers=headers, decodes=decodes)


def minutes(chosen: Chosen) -> list[int]:
    assert isinstance(chosen.messages, Kept)
    return [chosen.messages.places[index][2] for index in chosen.indexes]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("symbol=TQQQ", [0, 3]),
        ("symbol!=TQQQ", [1, 2, 4]),
        ("quantity>=103.0", [3, 4]),
        ("quantity < 101", [0]),
        ("executed_at>2025-10-10T13:32:00Z", [3, 4]),
        ("executed_at<=2025-10-10T15:31+02:00", [0, 1]),
        ("event_id=00000000-0000-0000-0000-000000000002", [2]),
        ("realized_pnl<0", []),
        ("order_id!=x", []),
        ('reason=rank, "strength"\nand more', [0, 1, 2, 3, 4]),
    ],
)
def test_a_condition_is_met_as_what_the_field_is(where: str, found: list[int]) -> None:
    chosen = choosing(where).choose(part(*((0, at, at) for at in range(5)), (0, 5, -1)))
    assert minutes(chosen) == found
    assert (chosen.read, chosen.undecodable) == (6, 1)
    assert [line["sequence"] for line in map(json.loads, lines(chosen))] == found


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("colour=red", "--where colour=red: FIELD=VALUE with one of event_id"),
        ("symbol", "--where symbol: FIELD=VALUE"),
        ("price=dear", "--where price=dear: dear is no number with at most 10 decimals"),
        ("price=0.00000000001", "is no number with at most 10 decimals"),
        ("sequence=1.5", "1.5 is no number"),
        ("event_id=7", "7 is no UUID"),
        ("executed_at>noon", "--where noon: a day such as 2025-10-10"),
    ],
)
def test_a_condition_that_cannot_be_says_what_it_may_be(where: str, says: str) -> None:
    with pytest.raises(SettingError) as failure:
        condition("TradeExecuted", where)
    assert says in str(failure.value)


def test_headers_are_compared_without_decoding() -> None:
    headers = [("run", b"2"), ("more", b"x")]
    chosen = choosing(headers=["run=2"], decodes=False).choose(part(*((0, at, at) for at in range(4)), headers=headers))
    assert minutes(chosen) == [1, 3]
    assert chosen.records is None
    assert minutes(choosing(headers=["run=3"], decodes=False).choose(part((0, 0, 0), (0, 1, 1), headers=headers))) == []


def test_pieces_are_together_the_whole_with_every_message_counted_once() -> None:
    places = [(at % 2, at // 2, at) for at in range(9)]
    chosen = choosing("symbol!=SQQQ").choose(part(*places, (1, 9, -1)))
    for pieces in (list(chosen.slices(2)), [piece for _, piece in chosen.by_partition()]):
        assert sorted(minute for piece in pieces for minute in minutes(piece)) == sorted(minutes(chosen))
        assert sum(piece.read for piece in pieces) == 10
        assert sum(piece.undecodable for piece in pieces) == 1
        stands: dict[Place, int] = {}
        for piece in pieces:
            assert all(offset >= stands.get(place, 0) for place, offset in piece.reached.items())
            stands |= piece.reached
        assert stands == {(TOPIC, 0): 5, (TOPIC, 1): 10}
    assert [piece.read for _, piece in chosen.by_partition()] == [5, 5]
    first = next(chosen.slices(2))
    assert minutes(first) == [0, 2]
    assert first.reached == {(TOPIC, 0): 2}


class Script:
    """A source that gives what a test says."""

    def __init__(self, found: Sequence[Found]) -> None:
        self.found = found
        self.said: list[tuple[str, Place]] = []

    def read(self, _: Spans, /) -> Iterator[Found]:
        yield from self.found

    def hold(self, place: Place) -> None:
        self.said.append(("hold", place))

    def go_on(self, place: Place) -> None:
        self.said.append(("go on", place))


LEFT, RIGHT = (TOPIC, 0), (TOPIC, 1)


def played(source: Script, *where: str, speed: float | None = 1e9, rate: float | None = None) -> list[Chosen | float]:
    return list(pace.steps(source, {LEFT: (0, 99), RIGHT: (0, 99)}, choosing(*where), speed=speed, rate=rate))


def waits_of(source: Script, speed: float) -> list[float]:
    return [step for step in played(source, speed=speed) if isinstance(step, float) and step]


def test_partitions_are_merged_by_event_time_however_they_come() -> None:
    source = Script(
        [
            Found([part((0, 0, 0), (0, 1, 3), (0, 2, 4))], frozenset()),
            Found([part((1, 0, 1))], frozenset()),
            Found([part((1, 1, 2))], frozenset()),
            Found([part((1, 2, 5), (0, 3, -1), (0, 4, 6))], frozenset({LEFT, RIGHT})),
        ]
    )
    written = [minute for step in played(source) if isinstance(step, Chosen) for minute in minutes(step)]
    # What cannot be decoded has the time of the one before it in its poll, or else the log's, and keeps its place.
    assert [minute for minute in written if minute >= 0] == list(range(7))
    assert written.index(-1) < written.index(6)


def test_a_partition_that_is_far_ahead_is_held_until_the_other_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FULL", 3)
    source = Script(
        [
            Found([part(*((0, at, at) for at in range(4)))], frozenset()),
            Found([part((1, 0, 9))], frozenset({RIGHT})),
            Found([part((0, 4, 10))], frozenset({LEFT})),
        ]
    )
    assert [minute for step in played(source) if isinstance(step, Chosen) for minute in minutes(step)] == [
        *range(4), 9, 10,
    ]  # fmt: skip
    assert source.said == [("hold", LEFT), ("go on", LEFT)]


def test_what_no_condition_takes_is_not_kept_and_counts_for_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FULL", 6)
    parts = [part(*((0, at, at) for at in range(begin, begin + 3))) for begin in range(1, 10, 3)]
    read = [weakref.ref(each.messages) for each in parts]
    kept: list[object] = []

    class Polls(Script):
        def read(self, _: Spans, /) -> Iterator[Found]:
            yield Found([part((0, 0, 0))], frozenset())  # it is taken, and so the others wait behind it
            while parts:
                yield Found([parts.pop(0)], frozenset())
            gc.collect()
            kept.extend(each() for each in read[:-1])
            yield Found([part((1, 0, 10))], frozenset({LEFT, RIGHT}))

    source = Polls([])
    steps = [step for step in played(source, "quantity=100") if isinstance(step, Chosen)]
    assert kept == [None, None]
    assert source.said == [("hold", LEFT), ("go on", LEFT)]
    assert [list(step.indexes) for step in steps] == [[], [0], []]
    assert [step.read for step in steps] == [1, 1, 9]
    assert steps[2].reached == {LEFT: 10}
    assert "".join(lines(steps[2])) == ""


def test_a_speed_waits_for_as_long_as_it_took_divided_by_it() -> None:
    source = Script([Found([part((0, 0, 0), (0, 1, 2), (0, 2, 5))], frozenset({LEFT, RIGHT}))])
    assert waits_of(source, 60.0) == pytest.approx([2, 5], abs=0.5)  # nobody has waited


@pytest.mark.parametrize(
    ("times", "waits"),
    [
        ([0, 30_000_000, 1, 2], [60, 61, 62]),  # far ahead: an hour is waited, and the others are as far apart as ever
        ([30_000_000, 0, 1, 2], [1, 2]),  # and as the first one
        ([0, -20_000_000, 1, 2], [1, 2]),  # far behind: it goes at once
        ([0, 61, 62, 1, 63], [60, 61, 61, 62]),  # a gap, and one that is late
    ],
)
def test_a_time_that_is_far_off_is_waited_for_an_hour_at_most_and_the_others_keep_their_distance(
    times: list[int], waits: list[float]
) -> None:
    source = Script([Found([part(*((0, at, minute) for at, minute in enumerate(times)))], frozenset({LEFT, RIGHT}))])
    assert waits_of(source, 60.0) == pytest.approx(waits, abs=0.5)  # nobody has waited


def test_a_rate_is_kept_on_the_whole_and_what_was_not_used_is_not_made_up_for() -> None:
    chosen = choosing().choose(part(*((0, at, at) for at in range(50))))
    clock = [0.0]
    written: list[float] = []
    for step in pace._at_rate(iter([chosen, chosen]), 200.0, clock=lambda: clock[0]):
        if isinstance(step, Chosen):
            assert len(step.indexes) <= 4
            written += [clock[0]] * len(step.indexes)
            clock[0] += 10 if len(written) == 50 else 0  # a slow target
        else:
            clock[0] += step
    assert written[49] == pytest.approx(0.24)
    assert written[99] - written[50] == pytest.approx(0.22, abs=0.03)


@pytest.mark.parametrize(("text", "speed"), [("1x", 1.0), ("60x", 60.0), ("0.5", 0.5), ("max", None)])
def test_speed_is_said_as_a_number_or_max(text: str, speed: float | None) -> None:
    assert pace.speed_of(text) == speed


@pytest.mark.parametrize("text", ["0x", "fast", "-1", "1xx", ""])
def test_a_speed_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="--speed"):
        pace.speed_of(text)


def test_a_job_is_read_as_it_was_written(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "jobs")
    job = make(
        Wish(("trades.executed",), "file:x", ("symbol=A",), rate=2.5), {LEFT: (3, 9), RIGHT: (0, 0)}, {TOPIC: "i"}
    )
    job.next, job.counts, job.file_bytes, job.cause = {LEFT: 7}, Counts(4, 3, 1), 99, "why"
    jobs.save(job)
    again = jobs.get(job.id)
    assert dumps(again) == dumps(job)
    assert again.left() == {LEFT: (7, 9)}
    assert (again.offsets, again.offsets_done) == (6, 4)
    assert loads(dumps(again)).wish == job.wish
    with pytest.raises(SettingError, match="no replay nothing"):
        jobs.get("nothing")
    with pytest.raises(SettingError, match="id of a replay"):
        jobs.get("../x")
    (tmp_path / "jobs" / "bad.json").write_text("{}")
    with pytest.raises(Fatal, match="not the file of a replay"):
        jobs.get("bad")


def test_a_job_is_run_by_one_and_an_interrupted_one_is_known(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path)
    job = make(Wish(("trades.executed",), "count"), {LEFT: (0, 9)}, {TOPIC: "i"})
    job.state = State.RUNNING
    assert not jobs.cancel(job)
    with jobs.alone(job):
        assert shown_state(job, runs=jobs.is_running(job)) == "running"
        with pytest.raises(Fatal, match="running in another process"), jobs.alone(job):
            pass
        assert jobs.cancel(job)
        assert jobs.is_cancelled(job)
    assert shown_state(job, runs=jobs.is_running(job)) == "interrupted"


class Log(Script):
    """A partition with an event at each offset, a poll of its own each."""

    def __init__(self) -> None:
        super().__init__([])

    def read(self, spans: Spans, /) -> Iterator[Found]:
        for place, (first, end) in spans.items():
            yield from (Found([part((place[1], at, at))], frozenset()) for at in range(first, end))
        yield Found((), frozenset(spans))


def into_file(folder: Path, *where: str) -> tuple[Jobs, Job, Path]:
    """Ten events that are to be replayed into a file."""
    jobs, out = Jobs(folder / "state"), folder / "out"
    job = make(Wish((TRADES.name,), f"file:{out}", where), {LEFT: (0, 10)}, {TOPIC: "i"})
    jobs.save(job)
    return jobs, job, out


def test_a_file_that_could_not_be_written_on_has_every_record_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, job, out = into_file(tmp_path)
    write, calls = os.write, iter(range(10))

    def full(descriptor: int, data: bytes) -> int:
        if next(calls) == 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(Fatal, match="No space left"):
            Replay(job, jobs, File(out, job.id)).run(Log, choosing())
    job = jobs.get(job.id)
    assert (job.state, job.offsets_done, job.counts) == (State.FAILED, 0, Counts())
    assert Replay(job, jobs, File(out, job.id)).run(Log, choosing()) is State.COMPLETE
    assert [json.loads(line)["offset"] for line in out.read_text().splitlines()] == list(range(10))
    assert job.counts == Counts(read=10, written=10)


class Killed(BaseException):
    """As SIGKILL would: nobody notes anything."""


class KilledWhenItHasItsName(File):
    def finish(self, job: Job) -> None:
        super().finish(job)
        raise Killed


@pytest.mark.parametrize("where", [(), ("symbol=none",)])
def test_a_file_that_had_its_name_when_the_replay_was_killed_is_complete(tmp_path: Path, where: Sequence[str]) -> None:
    jobs, job, out = into_file(tmp_path, *where)
    with pytest.raises(Killed):
        Replay(job, jobs, KilledWhenItHasItsName(out, job.id)).run(Log, choosing(*where))
    written = out.read_text()
    job = jobs.get(job.id)
    assert job.state is State.RUNNING
    out.write_text("another's")
    with pytest.raises(SettingError, match="is there already"):
        Replay(job, jobs, File(out, job.id)).run(Log, choosing(*where))
    out.write_text(written)
    assert Replay(job, jobs, File(out, job.id)).run(Log, choosing(*where)) is State.COMPLETE
    assert out.read_text() == written
