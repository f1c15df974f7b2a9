"""The loop of a replay: read, choose, wait, write, note how far it is. It may be killed at any moment and goes on.

An outage of what it reads from or writes to is waited out, and then it goes on as after a kill.
"""

import time
from collections.abc import Callable

from consumers import waiting
from consumers.replay import pace
from consumers.replay.job import Job, State
from consumers.replay.jobs import Jobs
from consumers.replay.pace import Steps
from consumers.replay.selection import Chosen, Selection
from consumers.replay.source import Source
from consumers.replay.targets import Target
from sentio import log
from sentio.errors import Retryable, SentioError

CHECKPOINT_S = 1.0


class Replay:
    """One run of a job. ``stop`` says that the process is to end, ``tell`` hears how far the job is."""

    def __init__(
        self,
        job: Job,
        jobs: Jobs,
        target: Target,
        *,
        stop: Callable[[], bool] = lambda: False,
        tell: Callable[[Job], None] = lambda _: None,
    ) -> None:
        self._job = job
        self._jobs = jobs
        self._target = target
        self._stop = stop
        self._tell = tell
        self._once = log.OncePer()
        self._noted_s = time.monotonic()
        self._is_noted = True

    def run(self, source: Callable[[], Source], selection: Selection) -> State:
        """Until all is written (`COMPLETE`), the job is cancelled, or the process is to end (`RUNNING`, to be resumed).

        ``source`` makes one to read from, anew after an outage. Raises what ends it before, after having noted it; it
        can be resumed then, too.
        """
        job = self._job
        try:
            what, once = f"replay {job.id}", self._once
            if not waiting.until_done(
                what, lambda: self._attempt(source, selection), is_over=self._ends_early, once=once
            ):
                self._end_early()
        except SentioError as failure:
            self._go_back()
            job.state, job.cause = State.FAILED, str(failure)
            self._jobs.save(job)
            raise
        finally:
            self._target.close()
        return job.state

    def _attempt(self, source: Callable[[], Source], selection: Selection) -> None:
        job = self._job
        was_away, job.state = job.cause is not None and job.state is State.RUNNING, State.RUNNING
        try:
            self._target.open(job)
            steps = self._steps(source(), selection)
            if was_away:
                log.get().info("going on", after=f"replay {job.id}")
                self._once.reset()
            job.cause = None
            self._jobs.save(job)
            self._carry(steps)
            self._end()
        except Retryable as failure:
            self._target.close()
            self._go_back()
            job.cause = str(failure)
            self._jobs.save(job)
            raise

    def _go_back(self) -> None:
        """As after a kill: the file says how far it is, unless the target knows better."""
        job = self._job
        noted = self._jobs.get(job.id)
        job.next, job.counts, job.file_bytes = noted.next, noted.counts, noted.file_bytes
        self._is_noted = True

    def _steps(self, source: Source, selection: Selection) -> Steps:
        wish = self._job.wish
        try:
            yield from pace.steps(source, self._job.left(), selection, speed=pace.speed_of(wish.speed), rate=wish.rate)
        except Retryable:
            self._note()  # the target is still there
            raise

    def _carry(self, steps: Steps) -> None:
        job = self._job
        for step in steps:
            if isinstance(step, Chosen):
                self._write(step)
            elif step:
                self._wait(step)
            if self._target.is_full or time.monotonic() - self._noted_s > CHECKPOINT_S:
                self._note()
            if self._ends_early():
                return
        # What is left of the spans are markers of transactions, or compacted away.
        job.next = {place: end for place, (_, end) in job.spans.items()}
        self._is_noted = False

    def _write(self, chosen: Chosen) -> None:
        job = self._job
        job.counts.written += self._target.write(chosen)
        job.next |= chosen.reached
        job.counts.read += chosen.read
        job.counts.undecodable += chosen.undecodable
        self._is_noted = False

    def _wait(self, wait_s: float) -> None:
        """What was written is not kept from readers meanwhile."""
        if wait_s > waiting.LOOK_S:
            self._note()
        waiting.pause(wait_s, self._ends_early)

    def _ends_early(self) -> bool:
        return self._stop() or self._jobs.is_cancelled(self._job)

    def _note(self) -> None:
        if not self._is_noted:
            self._target.checkpoint(self._job)
            self._jobs.save(self._job)
            self._is_noted = True
        self._noted_s = time.monotonic()
        self._tell(self._job)

    def _end(self) -> None:
        job = self._job
        self._note()
        if job.left():
            self._end_early()
            return
        # First the name, then the word: what is killed between is found complete.
        self._target.finish(job)
        job.state = State.COMPLETE
        self._jobs.forget_cancel(job)
        self._jobs.save(job)
        self._tell(job)

    def _end_early(self) -> None:
        """The job is cancelled, or goes on another time."""
        job = self._job
        if self._jobs.is_cancelled(job):
            try:
                self._target.drop(job)
            except Retryable as failure:
                log.get().warning("cancelled, and what it goes by was left behind", job=job.id, cause=str(failure))
            job.state, job.cause = State.CANCELLED, None
        self._jobs.forget_cancel(job)
        self._jobs.save(job)
        self._tell(job)
