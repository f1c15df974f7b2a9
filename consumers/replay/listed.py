"""Replays as the owner's page knows them: a row each in the database, with a lock that is held while one runs.

The job is its file; the row follows it, and a replay never fails for want of it: many have no database at all.
"""

import socket
import time
from contextlib import suppress

import psycopg
from psycopg import Connection

from consumers.replay.job import Job, State
from sentio import log
from sentio.config import ReplaySettings
from sentio.database import connect, first_line, outages_are_retryable
from sentio.errors import Retryable

STATEMENT_S = 2.0
AGAIN_S = 60.0
"""For which a database that cannot be written is left alone."""

_RUNS = "select pg_try_advisory_lock(hashtextextended(%s, 0))"
"""Held as long as the connection is: who is killed lets go of it."""

_PUT = (
    "insert into replays (id, machine, what, target, state, cause, offsets, offsets_done, records_written,"
    " created_at, updated_at) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
    " on conflict (id) do update set machine = excluded.machine, state = excluded.state, cause = excluded.cause,"
    " offsets_done = excluded.offsets_done, records_written = excluded.records_written,"
    " updated_at = excluded.updated_at"
)


class Listed:
    """Of one process, which runs one job."""

    def __init__(self, settings: ReplaySettings) -> None:
        self._database = settings.database
        self._connection: Connection | None = None
        self._again_s = 0.0

    def put(self, job: Job) -> None:
        """Write how the job is. Where that fails the log says so, and a running job asks again after `AGAIN_S`."""
        if job.state is State.RUNNING and time.monotonic() < self._again_s:
            return
        try:
            if self._connection is None:
                self._connection = connect(self._database, name="sentio-replay", statement_timeout_s=STATEMENT_S)
                self._connection.autocommit = True
            with outages_are_retryable():
                self._connection.execute(_RUNS, [job.id])
                self._connection.execute(_PUT, _row(job))
        except (Retryable, psycopg.Error) as failure:
            self._again_s = time.monotonic() + AGAIN_S
            self.close()
            log.get().info("the owner's page does not hear of this replay", job=job.id, cause=first_line(failure))

    def close(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None


def _row(job: Job) -> list[object]:
    wish = job.wish
    what = " ".join([*wish.topics, *wish.where, *(f"header {text}" for text in wish.headers)])
    progress = [job.offsets, job.offsets_done, job.counts.written]
    return [
        job.id, socket.gethostname(), what, wish.into, str(job.state), job.cause, *progress, job.created_at,
        job.updated_at,
    ]  # fmt: skip
