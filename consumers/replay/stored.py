"""Which tables of the store a replay may add to, and how much of the log it may add: what the store has read."""

import sys
from collections.abc import Iterable, Mapping, Sequence

from consumers.aggregates.aggregates import Aggregates
from consumers.replay.held import Held, Seen
from consumers.replay.job import Spans
from consumers.store.store import Store
from schemas.topics import Topic, stored_topics
from sentio import database
from sentio.config import DatabaseSettings
from sentio.errors import Fatal, SettingError
from sentio.kafka import Place

_SUMS = {"statistics", *Aggregates.tables}


def topic_of_table(name: str, asked: Sequence[str]) -> Topic:
    """The topic of a live table; ``asked``: topics that are to be replayed into it, without prefix.

    Raises `SettingError` for a table that adds events up, one that is not the store's, and one of another topic.
    """
    if name in _SUMS:
        raise SettingError(
            f"--into table:{name}: events are added up in it, and one that came again would count twice; write it anew"
            " beside the live one, and swap: 'sentio run aggregates --into shadow_NAME'"
            " (docs/runbooks/rebuild-a-table.md)"
        )
    known = {topic.table or "": topic for topic in stored_topics()}
    if name not in known:
        raise SettingError(f"--into table:{name}: a table of the store: {', '.join(known)}")
    if list(asked) != [known[name].name]:
        raise SettingError(f"--into table:{name}: it holds {known[name].name}, and nothing of {', '.join(asked)}")
    return known[name]


def check_migrations(settings: DatabaseSettings) -> None:
    """Raises `Fatal` for a database that lacks one; `Retryable` when it does not answer."""
    if missing := set(database.migrations()) - database.applied(settings.database):
        raise Fatal(f"the database lacks {min(missing)}; 'sentio run store' of this version brings it up to date")


class Stored:
    """What is held, as far as the store has read it: what is behind that, it will write itself.

    So the two never write the same row at a time, and what a replay adds was missing.
    """

    def __init__(self, held: Held, settings: DatabaseSettings) -> None:
        self.name = f"{held.name}, as far as the store has read it,"
        self.further = held.further
        self._held = held
        self._settings = settings

    def topic_ids(self, names: Iterable[str]) -> dict[str, str]:
        return self._held.topic_ids(names)

    def bounds(self, names: Iterable[str]) -> dict[Place, tuple[int, int]]:
        """Raises `Fatal` for a database without the tables."""
        wanted = list(names)
        read = self._read(self._held.topic_ids(wanted))
        found = self._held.bounds(wanted)
        return {place: (low, max(low, min(end, read.get(place, low)))) for place, (low, end) in found.items()}

    def offsets_at(self, places: Iterable[Place], time_ms: int) -> dict[Place, int]:
        return self._held.offsets_at(places, time_ms)

    def records(self, spans: Spans) -> Mapping[Place, list[Seen]]:
        return self._held.records(spans)

    def _read(self, topic_ids: Mapping[str, str]) -> dict[Place, int]:
        """The offset that the store reads next in each partition it has begun; behind all if it reads another log."""
        check_migrations(self._settings)
        with (
            database.outages_are_retryable(),
            database.connect(self._settings.database, name="sentio-replay") as connection,
        ):
            rows = connection.execute(
                "select topic, partition, next_offset, topic_id from consumer_offsets"
                " where group_name = %s and topic = any(%s)",
                [Store.name, list(topic_ids)],
            ).fetchall()
        return {
            (topic, partition): next_offset if topic_id == topic_ids[topic] else sys.maxsize
            for topic, partition, next_offset, topic_id in rows
        }
