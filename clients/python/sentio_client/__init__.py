"""Client of Sentio Stream: typed events from the WebSocket gateway, without a gap."""

from sentio_client.backoff import Backoff
from sentio_client.cursors import Cursors, FileCursors
from sentio_client.errors import BadFrame, Closed, Refused, Rejected, StreamError
from sentio_client.events import (
    CHANNELS,
    AggregateUpdated,
    EngineHeartbeat,
    Event,
    PerformanceMinute,
    PositionUpdated,
    PriceBar,
    PriceUpdated,
    SignalGenerated,
    TradeExecuted,
)
from sentio_client.items import Gap, Item, Resumed, Snapshot, Status, Update
from sentio_client.stream import Stream
from sentio_client.tokens import Token

__all__ = [
    "CHANNELS",
    "AggregateUpdated",
    "Backoff",
    "BadFrame",
    "Closed",
    "Cursors",
    "EngineHeartbeat",
    "Event",
    "FileCursors",
    "Gap",
    "Item",
    "PerformanceMinute",
    "PositionUpdated",
    "PriceBar",
    "PriceUpdated",
    "Refused",
    "Rejected",
    "Resumed",
    "SignalGenerated",
    "Snapshot",
    "Status",
    "Stream",
    "StreamError",
    "Token",
    "TradeExecuted",
    "Update",
]
