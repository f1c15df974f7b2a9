"""The topics of the platform, read from topics.toml: what each carries, its key, its table, its channel."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import repeat
from operator import attrgetter
from typing import Any

KAFKA_DAYS = 7


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. ``name`` is without prefix; see topics.toml for what each field means."""

    name: str
    event: str
    key: tuple[str, ...]
    time: str
    table: str | None = None
    channel: str | None = None
    filter: str | None = None
    cleanup: str = "delete"
    kafka_days: int = KAFKA_DAYS
    store_days: int | None = None

    def full_name(self, prefix: str) -> str:
        return f"{prefix}.{self.name}"

    @property
    def partition_width(self) -> str:
        """How much time a native partition of its table holds: a ``day`` or a ``month``, of UTC."""
        return "month" if self.store_days is None else "day"

    def record_key(self, event: object, producer: str) -> bytes:
        """Key of the Kafka record: the key fields' values, joined with ``|``. Never empty.

        An empty key would go to any partition, and a producer's sequences rise only within one.
        """
        return self.record_keys([event], producer)[0]

    def record_keys(self, events: Sequence[object], producer: str) -> list[bytes]:
        """`record_key` of each event."""
        columns = [
            repeat(producer, len(events)) if name == "producer" else map(attrgetter(name), events) for name in self.key
        ]
        if len(columns) == 1:
            return [str(value).encode() or b"-" for value in columns[0]]
        return ["|".join(map(str, values)).encode() or b"-" for values in zip(*columns, strict=True)]


@cache
def topics() -> Mapping[str, Topic]:
    """Every topic by its name without prefix."""
    entries: dict[str, dict[str, Any]] = tomllib.loads(files("schemas").joinpath("topics.toml").read_text())["topics"]
    return {name: Topic(name=name, **{**entry, "key": tuple(entry["key"])}) for name, entry in entries.items()}


@cache
def topic_of_event(event: str) -> Topic:
    """The topic that carries an event, e.g. ``TradeExecuted``; KeyError for a name that is no event."""
    return next((topic for topic in topics().values() if topic.event == event), None) or _no_topic(event)


def _no_topic(event: str) -> Topic:
    raise KeyError(f"no topic carries {event}")


def topic_of_name(full_name: str, prefix: str) -> Topic:
    """The topic behind a full name; KeyError when it is not one of the house."""
    return topics()[full_name.removeprefix(f"{prefix}.")]


def stored_topics() -> tuple[Topic, ...]:
    """The topics that the store writes to a table."""
    return tuple(topic for topic in topics().values() if topic.table)
