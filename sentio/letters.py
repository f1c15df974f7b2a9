"""What a dead letter says of itself, and the topics by which dead letters go and come back.

Groups, bridges and the receiver of webhooks write them, `sentio dead` reads them: they have these words in common.
"""

import re
from collections.abc import Iterable
from typing import Any

DEAD_SUFFIX = ".dead"
_REDRIVE = ".redrive."

SOURCE_GROUP = "source.group"
SOURCE_TOPIC = "source.topic"
SOURCE_PARTITION = "source.partition"
SOURCE_OFFSET = "source.offset"
SOURCE_WEBHOOK = "source.webhook"
SOURCE_INDEX = "source.index"
SOURCE_SIGNATURE = "source.signature"
ERROR_TYPE = "error.type"
ERROR_MESSAGE = "error.message"
DROPPED_BYTES = "value.dropped_bytes"

REDRIVE_COUNT = "redrive-count"
"""How often the record was redriven. Believed only of what comes from a redrive topic: anyone may publish headers."""

REDRIVE_ID = "x-redrive-id"
"""Of the command that sent it."""

EDITED_FROM = "edited-from"
"""The event_id, or else the place, of the record whose edited copy this is."""

ORIGIN = ("origin.topic", "origin.partition", "origin.offset")
"""Where the record was at first, however often it was redriven."""

_OF_A_REFUSAL = {
    SOURCE_GROUP,
    SOURCE_TOPIC,
    SOURCE_PARTITION,
    SOURCE_OFFSET,
    ERROR_TYPE,
    ERROR_MESSAGE,
    DROPPED_BYTES,
}
_TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")

Headers = list[tuple[str, Any]]
"""As Kafka's client has them."""


def source(group: str, topic: str, partition: int, offset: int) -> Headers:
    """Who refused which record; a repeated letter is known by these four."""
    return [
        (SOURCE_GROUP, group.encode()),
        (SOURCE_TOPIC, topic.encode()),
        (SOURCE_PARTITION, str(partition).encode()),
        (SOURCE_OFFSET, str(offset).encode()),
    ]


def error(kind: str, reason: str) -> Headers:
    return [(ERROR_TYPE, kind.encode()), (ERROR_MESSAGE, reason.encode(errors="replace"))]


def dropped(size_bytes: int) -> tuple[str, bytes]:
    """Instead of a value that is too large for a letter."""
    return DROPPED_BYTES, str(size_bytes).encode()


def own(headers: Iterable[tuple[str, Any]]) -> Headers:
    """The record's headers without those of an earlier refusal."""
    return [(name, value) for name, value in headers if name not in _OF_A_REFUSAL]


def redrive_topic(topic: str, group: str) -> str:
    """The topic by which redriven records of ``topic`` (full name) come to one group (without prefix)."""
    return f"{topic}{_REDRIVE}{group}"


def redrive_pattern(topic: str, group: str) -> str | None:
    """For a subscription, since the topic may not be there yet; None when no topic can have that name."""
    name = redrive_topic(topic, group)
    return f"^{name.replace('.', '[.]')}$" if _TOPIC_NAME.fullmatch(name) else None


def is_redrive_topic(topic: str) -> bool:
    return _REDRIVE in topic


def base_topic(topic: str) -> str:
    """The topic whose records a redrive topic has; any other is its own."""
    return topic.rpartition(_REDRIVE)[0] or topic


def dead_topic(topic: str) -> str:
    """Where dead letters of a topic go; those of a redrive topic, to the same place as the first ones."""
    return base_topic(topic) + DEAD_SUFFIX
