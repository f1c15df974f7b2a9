"""The loop of a replay: read, choose, wait, write, note how far it is. It may be killed at any moment and goes on."""

import time
from collections.abc import Callable

from consumers.replay import pace
from consumers.replay.job import Job, State
from consumers.replay.jobs import Jobs
from consumers.replay.selection import Chosen, Selection
from consumers.replay.source import Source
from consumers.replay.targets import Target
from sentio.errors import SentioError

CHECKPOINT_S = 1.0
LOOK_S = 0.2
"""How long nobody looks whether the job is cancelled, at most."""


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
        self._noted_s = time.monotonic()
        self._is_noted = True

    def run(self, source: Source, selection: Selection) -> State:
        """Until all is written (`COMPLETE`), the job is cancelled, or the process is to end (`RUNNING`, to be resumed).

        Raises what ends it before, after having noted it; it can be resumed then, too.
        """
        job = self._job
        try:
            self._target.open(job)
            job.state, job.cause = State.RUNNING, None
            self._jobs.save(job)
            self._carry(source, selection)
            self._end()
        except SentioError as failure:
            job.state, job.cause = State.FAILED, str(failure)
            self._jobs.save(job)
            raise
        finally:
            self._target.close()
        return job.state

    def _carry(self, source: Source, selection: Selection) -> None:
        job, wish = self._job, self._job.wish
        for step in pace.steps(source, job.left(), selection, speed=pace.speed_of(wish.speed), rate=wish.rate):
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
        until_s = time.monotonic() + wait_s
        if wait_s > LOOK_S:
            self._note()
        while (left_s := until_s - time.monotonic()) > 0 and not self._ends_early():
            time.sleep(min(left_s, LOOK_S))

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
        if not job.left():
            # First the name, then the word: what is killed between is found complete.
            self._target.finish(job)
            job.state = State.COMPLETE
        elif self._jobs.is_cancelled(job):
            self._target.drop(job)
            job.state = State.CANCELLED
        self._jobs.forget_cancel(job)
        self._jobs.save(job)
        self._tell(job)
