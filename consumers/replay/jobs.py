"""The folder of jobs: a file each, replaced as a whole, and a lock that says whether one runs."""

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from consumers.replay.job import Job, State, dumps, loads
from sentio.errors import Fatal, SettingError

_ID = re.compile(r"[\w-]+")


class Jobs:
    """Jobs of this machine, in ``folder`` (SENTIO_REPLAY_STATE); ``tell`` hears of each that is saved."""

    def __init__(self, folder: Path, tell: Callable[[Job], None] = lambda _: None) -> None:
        self._folder = folder
        self._tell = tell

    def all(self) -> list[Job]:
        """Oldest first."""
        return [self.get(path.stem) for path in sorted(self._folder.glob("*.json"))]

    def get(self, job_id: str) -> Job:
        """Raises `SettingError` for one that is not there, `Fatal` for a file that is none."""
        path = self._path(job_id)
        try:
            return loads(path.read_text())
        except FileNotFoundError:
            raise SettingError(f"no replay {job_id} in SENTIO_REPLAY_STATE={self._folder}") from None
        except (ValueError, KeyError, TypeError) as failure:
            raise Fatal(f"{path}: not the file of a replay: {failure}") from failure

    def save(self, job: Job) -> None:
        """Raises `SettingError` when the folder cannot be written."""
        job.updated_at = datetime.now(UTC).isoformat()[:19] + "Z"
        path = self._path(job.id)
        fresh = path.with_suffix(".new")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with fresh.open("w") as file:
                file.write(dumps(job))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except OSError as failure:
            raise SettingError(f"SENTIO_REPLAY_STATE={self._folder}: {failure.strerror}") from failure
        self._tell(job)

    @contextmanager
    def alone(self, job: Job) -> Iterator[None]:
        """Be the only process that runs this job; `Fatal` when another does."""
        with self._lock(job.id) as file:
            if not _locked(file):
                raise Fatal(f"replay {job.id} is running in another process")
            yield

    def is_running(self, job: Job) -> bool:
        with self._lock(job.id) as file:
            return not _locked(file)

    def cancel(self, job: Job) -> bool:
        """Ask a running job to stop; False when none runs."""
        if not self.is_running(job):
            return False
        self._cancel(job.id).touch()
        return True

    def is_cancelled(self, job: Job) -> bool:
        return self._cancel(job.id).exists()

    def forget_cancel(self, job: Job) -> None:
        self._cancel(job.id).unlink(missing_ok=True)

    def _path(self, job_id: str) -> Path:
        if not _ID.fullmatch(job_id):
            raise SettingError(f"{job_id}: the id of a replay, as 'sentio replay status' shows it")
        return self._folder / f"{job_id}.json"

    def _cancel(self, job_id: str) -> Path:
        return self._path(job_id).with_suffix(".cancel")

    def _lock(self, job_id: str) -> IO[str]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            return self._path(job_id).with_suffix(".lock").open("w")
        except OSError as failure:
            raise SettingError(f"SENTIO_REPLAY_STATE={self._folder}: {failure.strerror}") from failure


def shown_state(job: Job, *, runs: bool) -> str:
    """The state as people are told it: a job that no process runs any more was interrupted."""
    return "interrupted" if job.state is State.RUNNING and not runs else str(job.state)


def _locked(file: IO[str]) -> bool:
    """Whether the lock is ours now; it goes with the file."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
