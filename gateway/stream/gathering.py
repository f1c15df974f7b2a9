"""Messages that were read and not decoded yet: those of a busy topic wait here for each other, until their tick ends.

To pass messages on costs a millisecond however few there are, and what comes within a tick is sent together anyway. A
message that comes alone waits for nobody. Times are monotonic, in seconds.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from confluent_kafka import Message

MOST_AT_ONCE = 1_000
"""Of one topic: so many wait for no more."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """Messages of one topic, in the order they came."""

    name: str
    messages: list[Message]
    since_s: float
    """When the first of them came."""


@dataclass(slots=True)
class _Topic:
    wait_s: float = 0.0
    taken_s: float = float("-inf")
    since_s: float = 0.0
    messages: list[Message] = field(default_factory=list)

    @property
    def due_s(self) -> float:
        return float("-inf") if len(self.messages) >= MOST_AT_ONCE else self.taken_s + self.wait_s

    def take(self, name: str, now_s: float) -> Gathered:
        found = Gathered(name, self.messages, self.since_s)
        self.taken_s, self.messages = now_s, []
        return found


class Gathering:
    """Belongs to the feed's thread, but for `wait`."""

    def __init__(self) -> None:
        self._topics: dict[str, _Topic] = {}
        self._waiting: dict[str, _Topic] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def wait(self, name: str, wait_s: float) -> None:
        """So long may pass between one time that messages of this topic are taken and the next. From any thread."""
        self._topics.setdefault(name, _Topic()).wait_s = wait_s

    def add(self, name: str, message: Message, now_s: float) -> None:
        topic = self._topics.get(name) or self._topics.setdefault(name, _Topic())
        if not topic.messages:
            topic.since_s = now_s
            self._waiting[name] = topic
        topic.messages.append(message)

    def due_in_s(self, now_s: float, most_s: float) -> float:
        """Until something is due; ``most_s`` when that is later, or nothing waits."""
        if not self._waiting:
            return most_s
        due_s = min(topic.due_s for topic in self._waiting.values())
        return min(most_s, max(0.0, due_s - now_s))

    def due(self, now_s: float) -> Iterator[Gathered]:
        """Take what has waited long enough."""
        for name, topic in list(self._waiting.items()):
            if topic.due_s <= now_s:
                del self._waiting[name]
                yield topic.take(name, now_s)

    def all(self, now_s: float) -> Iterator[Gathered]:
        """Take all that waits."""
        while self._waiting:
            name, topic = self._waiting.popitem()
            yield topic.take(name, now_s)
