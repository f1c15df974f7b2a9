"""The statistics: per minute, day, week and month, merged into one table in the transaction of the offsets."""

from typing import ClassVar

from psycopg import Connection

from consumers.aggregates import drawdown, limits, partials
from consumers.aggregates.announce import Announcer
from consumers.aggregates.merge import merge
from consumers.aggregates.sender import Sender
from consumers.sink import DatabaseConsumer
from sentio import database
from sentio.batch import Batch
from sentio.config import ConsumerSettings


class Aggregates(DatabaseConsumer):
    """Keeps statistics of trades and performance, and announces them on `aggregates.updated`."""

    name: ClassVar[str] = "aggregates"
    topics: ClassVar[tuple[str, ...]] = ("trades.executed", "performance.minute")
    tables: ClassVar[tuple[str, ...]] = ("windows", "window_changes")

    def __init__(self, settings: ConsumerSettings, sender: Sender | None = None) -> None:
        super().__init__(settings)
        self._sender = sender or Sender(settings.kafka, settings.topic_prefix, name=self.name)
        self._announcer = Announcer(self._sender, self.connection)

    def write(self, connection: Connection, batch: Batch) -> None:
        if batch.topic.event == "TradeExecuted":
            limits.check(batch)
            merge(connection, partials.of_trades(batch))
        else:
            windows = partials.of_performance(batch)
            merge(connection, windows)
            drawdown.recompute(connection, windows)

    def idle(self) -> None:
        if self.schema is not None:
            return  # windows of a shadow are nobody's until the swap
        with database.outages_are_retryable():
            self._announcer.turn()

    def close(self) -> None:
        self._sender.close()
        super().close()
