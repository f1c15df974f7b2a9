"""What a consumer is: the class to write when you add one. `consumers.group.Group` runs it."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from sentio.batch import Batch
from sentio.config import ConsumerSettings
from sentio.kafka import Place


class Consumer:
    """Reads topics as a consumer group, batch by batch.

    Its life: `open` once; then, as often as Kafka gives partitions, `assigned`, any number of `process` and
    `revoked`; `idle` between batches; `close` at the end. All on one thread, and only the group runner polls,
    seeks, pauses and commits.

    `process` gets each record at least once. It returns when the batch is done and raises `Retryable` when
    the world is at fault (the same batch comes again, the partitions wait), `Poison` naming records that cannot be used
    (they become dead letters, and the batch comes again without them), or `Fatal`.

    A consumer whose offsets live with its results sets ``owns_offsets`` and answers `assigned` from there; that makes
    exactly once. For the others offsets are committed to Kafka after `process`.
    """

    name: ClassVar[str]
    """The consumer group."""

    topics: ClassVar[Sequence[str]]
    """Names from schemas/topics.toml, without prefix."""

    owns_offsets: ClassVar[bool] = False

    wants_originals: ClassVar[bool] = False
    """Batches come with the keys, values and headers of the log, which costs an object for each message."""

    settings_kind: ClassVar[type[ConsumerSettings]] = ConsumerSettings
    """What `sentio run` loads for it."""

    def open(self) -> None:
        """Connect, migrate, warm up; may raise `Retryable` and is then called again."""

    def assigned(self, topic_ids: Mapping[Place, str]) -> Mapping[Place, int]:
        """Take these partitions of topics with these Kafka topic ids; the next offset of each that has one.

        Only asked when ``owns_offsets``. May raise `Retryable`; `Fatal` when a topic is not the one it knew.
        """
        raise NotImplementedError

    def revoked(self, places: Sequence[Place]) -> None:
        """These partitions are no longer ours."""

    def process(self, batch: Batch) -> None:
        """Do the work of one batch of one topic."""
        raise NotImplementedError

    def idle(self) -> None:
        """Called between batches, many times a second; `Retryable` is logged and it is called again later.

        May raise `Fenced`, as `process` may.
        """

    def close(self) -> None:
        """Let go of everything."""


class Fenced(Exception):
    """Raised by `process` or `idle`: these partitions have another owner, or stand elsewhere; nothing was written.

    ``moved`` are still ours but at another offset: the runner asks `assigned` again. ``gone`` belong to another
    generation: it drops them and waits for the group to say so too.
    """

    def __init__(self, *, gone: Sequence[Place] = (), moved: Sequence[Place] = ()) -> None:
        self.gone = tuple(gone)
        self.moved = tuple(moved)
        super().__init__(f"gone: {self.gone}, moved: {self.moved}")
