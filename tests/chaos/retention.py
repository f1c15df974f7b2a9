"""A topic cut short behind a stopped store: it must stop and say so, and go on only by a word from a person.

Topics, group and database of its own, on the servers of the storm.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import psycopg
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from producers.publisher import EventPublisher
from schemas.events import TradeExecuted
from schemas.topics import topics
from sentio import kafka
from tests.chaos.actors import REPOSITORY, SENTIO, WAIT_S, Actor, wait
from tests.chaos.market import events, today
from tests.chaos.oracle import Truth, differing_rows, read
from tests.pipeline import consumer_settings, publisher_settings, rows

EVENTS = 1_500
TOPIC = "trades.executed"

_LOST = re.compile(r"(\S+)\[(\d+)\]: offsets (\d+) to (\d+) are gone .*: sentio (skip [^\"]+)")


def cut(bootstrap: str, server: str, folder: Path, random: Random) -> int:
    """Play it; returns how many events were declared lost, all others being in the table."""
    house = _House(bootstrap, server, folder, random)
    house.publish(EVENTS)
    with house.store() as store:
        wait(lambda: sum(map(_unsigned, house.stands().values())) == EVENTS, store.check)
        store.kill()
    house.publish(EVENTS)
    whole, stored, stood = house.log(), house.table(), house.stands()
    oldest = house.cut(stood)
    left = house.log()
    while oldest:
        partition = house.stops_and_names(stood, oldest)
        stood[partition] = oldest.pop(partition)
    ends = house.ends()
    with house.store() as store:
        wait(lambda: house.stands() == ends, store.check)
        store.stop()
    expected = {event_id: row for event_id, row in whole.items() if event_id in stored or event_id in left}
    with psycopg.connect(house.dsn) as connection:
        different = differing_rows(connection, topics()[TOPIC], Truth({TOPIC: expected}))
    assert not different, f"after a cut: {different}"
    return len(whole) - len(expected)


class _House:
    """A prefix and a database of its own, and a store that works on them."""

    def __init__(self, bootstrap: str, server: str, folder: Path, random: Random) -> None:
        name = f"cut{random.getrandbits(40):010x}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"create database {name}")
        self.dsn = server.rpartition("/")[0] + f"/{name}"
        self._settings = consumer_settings(bootstrap, name, self.dsn)
        self._topic = topics()[TOPIC].full_name(name)
        self._places = [(self._topic, partition) for partition in range(self._settings.partitions)]
        self._random = random
        self._events = (event for event in events(random, today()) if isinstance(event, TradeExecuted))
        self._log = folder / f"{name}.log"
        self._environment = {
            "SENTIO_KAFKA": bootstrap,
            "SENTIO_TOPIC_PREFIX": name,
            "SENTIO_DATABASE": self.dsn,
            "SENTIO_PARTITIONS": str(self._settings.partitions),
            "SENTIO_SESSION_TIMEOUT_MS": "6000",
        }

    @contextmanager
    def store(self) -> Iterator[Actor]:
        actor = Actor("store", [*SENTIO, "run", "store"], self._environment, self._log)
        try:
            yield actor
        finally:
            actor.kill()

    def publish(self, count: int) -> None:
        with EventPublisher(publisher_settings(self._settings), name="cut") as publisher:
            for event in islice(self._events, count):
                publisher.publish(event)

    def stands(self) -> dict[int, int]:
        """Next offset of each partition."""
        query = "select partition, next_offset from consumer_offsets where topic = %s"
        return dict(rows(self.dsn, query, self._topic))

    def ends(self) -> dict[int, int]:
        return {place[1]: end for place, (_, end) in kafka.spans(self._settings.kafka, self._places).items()}

    def log(self) -> dict[bytes, tuple[Any, ...]]:
        """What the log holds now, by event id."""
        return read(self._settings.kafka, {self._topic: topics()[TOPIC]}, self._places).events[TOPIC]

    def table(self) -> set[bytes]:
        return {event_id for (event_id,) in rows(self.dsn, "select uuid_send(event_id) from trades")}

    def cut(self, stood: dict[int, int]) -> dict[int, int]:
        """Do at once what retention would do to two partitions; the oldest offset that each has left."""
        ends = self.ends()
        oldest = {
            partition: self._random.randint(stood[partition] + 1, ends[partition])
            for partition in self._random.sample(sorted(ends), 2)
        }
        wanted = [TopicPartition(self._topic, partition, offset) for partition, offset in oldest.items()]
        admin = AdminClient(kafka.client(self._settings.kafka))  # has to outlive its futures
        for future in admin.delete_records(wanted).values():
            future.result(WAIT_S)
        return oldest

    def stops_and_names(self, stood: dict[int, int], oldest: dict[int, int]) -> int:
        """The store ends by itself, with nothing moved, and says which command accepts the loss: which is done."""
        with self.store() as store:
            code, words = store.ended(), store.last_words()
        said = _LOST.search(words)
        assert said, words
        partition = int(said[2])
        assert (said[1], int(said[3]), int(said[4])) == (self._topic, stood[partition], oldest[partition] - 1)
        assert code == 1
        assert self.stands() == stood, "it skipped by itself"
        command = [sys.executable, "-m", "sentio", *shlex.split(said[5])]
        environment = {**os.environ, **self._environment}
        subprocess.run(command, env=environment, cwd=REPOSITORY, check=True, timeout=WAIT_S, capture_output=True)
        return partition


def _unsigned(offset: int) -> int:
    """A partition that nothing was read from stands at -1."""
    return max(0, offset)
