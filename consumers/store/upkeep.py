"""The store's own timer: what is to be done to the tables now and then, between batches, on a connection of its own."""

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial

import psycopg
from psycopg import Connection
from pydantic import SecretStr

from consumers.store import compression, retention
from schemas.topics import Topic
from sentio import database, log
from sentio.database import Edition
from sentio.errors import Retryable

EVERY_S = 600.0
LOCK = 0x55504B50  # "UPKP": one member of the group at a time
LOCK_TIMEOUT_S = 1.0  # whoever uses a table that is to lose a partition goes first: the log is not kept waiting
# As long the loop may stand still, for the largest chunk is compressed in one go; /livez waits 60 s.
STATEMENT_TIMEOUT_S = 50.0


class Upkeep:
    """Does a bounded step with each `turn`; what fails is tried again in the next round."""

    def __init__(
        self,
        address: SecretStr,
        topics: Iterable[Topic],
        *,
        schema: str | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._schema = schema
        self._topics = list(topics)
        self._now = now
        self._monotonic_s = monotonic_s
        self._next_s = monotonic_s() + EVERY_S / 10  # not while the process is busy starting
        self._round: Iterator[None] | None = None

    def turn(self) -> None:
        """Do the next step of a round; begin one when it is time."""
        if self._round is None:
            if self._monotonic_s() < self._next_s:
                return
            self._round = self._steps()
        try:
            next(self._round)
        except StopIteration:
            self.close()
        except (Retryable, psycopg.Error) as failure:
            log.get().warning("upkeep: will try again", cause=str(failure), in_s=EVERY_S)
            self.close()

    def close(self) -> None:
        """Leave off, also in the middle of a round; the next one goes on there."""
        if self._round is not None:
            self._round.close()  # type: ignore[attr-defined] # a generator: it lets go of its connection
            self._round = None
        self._next_s = self._monotonic_s() + EVERY_S

    def _steps(self) -> Iterator[None]:
        with (
            database.outages_are_retryable(),
            database.connect(
                self._address, name="store-upkeep", statement_timeout_s=STATEMENT_TIMEOUT_S, schema=self._schema
            ) as connection,
        ):
            connection.autocommit = True
            connection.execute(f"set lock_timeout = {int(LOCK_TIMEOUT_S * 1000)}")
            # Of the session: it goes with the connection, however this ends.
            row = connection.execute("select pg_try_advisory_lock(%s), now()", [LOCK]).fetchone()
            assert row is not None
            mine, database_now = row
            if mine:
                # The earlier of two clocks: one that runs ahead must not cost rows.
                yield from self._topic_by_topic(connection, min(self._now(), database_now))

    def _topic_by_topic(self, connection: Connection, now: datetime) -> Iterator[None]:
        edition = database.edition(connection)
        jobs = [partial(retention.steps, connection, edition, topic, now) for topic in self._topics]
        if edition is Edition.FULL:
            jobs += [partial(compression.steps, connection, topic, now) for topic in self._topics]
        jobs.append(partial(retention.forget_redriven, connection, now))
        for job in jobs:
            try:
                yield from job()
            except psycopg.Error as failure:
                if connection.closed:
                    raise
                # What fails every time must not keep the others from their turn.
                log.get().warning("upkeep: will try again", cause=database.first_line(failure), in_s=EVERY_S)
