"""What one process of the stream shows on /metrics: read from what it counts anyway, only when it is asked."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.stream.fanout import Fanout
from gateway.stream.feed import Feed
from gateway.stream.sockets import Sockets
from gateway.stream.tally import cumulative

_SINGLE: dict[str, tuple[type[CounterMetricFamily | GaugeMetricFamily], str]] = {
    "connections": (GaugeMetricFamily, "Open connections"),
    "held_connections": (GaugeMetricFamily, "Connections with bytes that wait for the socket"),
    "messages": (CounterMetricFamily, "Messages sent to live clients, one for each client"),
    "replayed_messages": (CounterMetricFamily, "Messages sent to clients that catch up"),
    "fell_behind": (CounterMetricFamily, "Times that a live client had no room and was sent on from the log"),
    "skipped_records": (CounterMetricFamily, "Records of the log that could not be decoded"),
}


class Figures(Collector):
    """Of one process."""

    def __init__(self, sockets: Sockets, fanout: Fanout, feed: Feed) -> None:
        self._sockets = sockets
        self._fanout = fanout
        self._feed = feed

    def describe(self) -> Iterator[Metric]:
        """The same, without a value."""
        yield from (*_single().values(), *_by_number(), _clients(), _delivered())

    def collect(self) -> Iterator[Metric]:
        tally = self._fanout.tally
        values = {
            "connections": len(self._sockets.all),
            "held_connections": len(self._sockets.held),
            "messages": tally.sent,
            "replayed_messages": tally.replayed,
            "fell_behind": tally.behind,
            "skipped_records": self._feed.skipped,
        }
        for name, family in _single().items():
            family.add_metric([], values[name])
            yield family
        for counted, counts in zip(_by_number(), (self._sockets.refused, self._sockets.closed), strict=True):
            for number, count in sorted(counts.items()):
                counted.add_metric([str(number)], count)
            yield counted
        clients = _clients()
        for product, count in sorted(self._sockets.products.counts.items()):
            clients.add_metric([product], count)
        yield clients
        delivered = _delivered()
        delivered.add_metric([], cumulative(tally.delivered), tally.delivered_s)
        yield delivered


def _single() -> dict[str, CounterMetricFamily | GaugeMetricFamily]:
    return {name: kind(f"sentio_stream_{name}", what) for name, (kind, what) in _SINGLE.items()}


def _by_number() -> tuple[CounterMetricFamily, CounterMetricFamily]:
    return (
        CounterMetricFamily("sentio_stream_refused_handshakes", "Handshakes refused", labels=["status"]),
        CounterMetricFamily("sentio_stream_closed", "Connections that the gateway closed", labels=["code"]),
    )


def _clients() -> GaugeMetricFamily:
    return GaugeMetricFamily(
        "sentio_stream_clients", "Open connections, by what the client says it is", labels=["client"]
    )


def _delivered() -> HistogramMetricFamily:
    return HistogramMetricFamily(
        "sentio_stream_delivery_seconds", "From publish() to the client's socket, of the oldest message of each sending"
    )
