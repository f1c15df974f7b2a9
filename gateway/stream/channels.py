"""The channels a client may name: a topic's own ("trades"), or one value of its filter ("trades.TQQQ")."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from schemas.topics import Topic, topics

MAX_VALUE_LENGTH = 128


class UnknownChannel(ValueError):
    """No topic is served under this name."""


@dataclass(frozen=True, slots=True)
class Channel:
    """What one subscription hears."""

    name: str
    topic: Topic
    value: str | None
    """Of the topic's filter field; none: all of the topic."""

    @property
    def text(self) -> str:
        """The name as JSON."""
        return json.dumps(self.name)


@cache
def served() -> Mapping[str, Topic]:
    """Topics by the name of their channel."""
    return {topic.channel: topic for topic in topics().values() if topic.channel}


def parse(name: str) -> Channel:
    """The channel of a name; raises `UnknownChannel`."""
    base, dot, value = name.partition(".")
    topic = served().get(base)
    if topic is None:
        raise UnknownChannel(f"no channel {name[:64]!r}; there are {', '.join(served())}")
    if not dot:
        return Channel(name, topic, None)
    if topic.filter is None:
        raise UnknownChannel(f"channel {base} cannot be narrowed")
    if not value or len(value) > MAX_VALUE_LENGTH or not value.isprintable():
        raise UnknownChannel(f"after {base}. comes a {topic.filter} of 1 to {MAX_VALUE_LENGTH} printable characters")
    return Channel(name, topic, value)
