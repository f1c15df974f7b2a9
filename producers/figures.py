"""What a publisher counts, for Prometheus: `show` it, and it is with the process's other metrics."""

from collections.abc import Iterator

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from producers.publisher import EventPublisher


class Figures(Collector):
    """Of one publisher, read whenever they are asked for."""

    def __init__(self, publisher: EventPublisher) -> None:
        self._publisher = publisher

    def describe(self) -> Iterator[Metric]:
        """The same, without a value."""
        yield from _families()

    def collect(self) -> Iterator[Metric]:
        counted = self._publisher.counters()
        name = self._publisher.producer.partition("@")[0]
        events, waiting, spooled = _families()
        for outcome in ("acknowledged", "failed", "repeated"):
            events.add_metric([name, outcome], getattr(counted, outcome))
        waiting.add_metric([name], counted.waiting)
        spooled.add_metric([name], counted.spooled_bytes)
        yield from (events, waiting, spooled)


def show(publisher: EventPublisher, registry: CollectorRegistry = REGISTRY) -> Figures:
    """Have what the publisher counts shown; ``registry.unregister`` what this returns when it is closed."""
    figures = Figures(publisher)
    registry.register(figures)
    return figures


def _families() -> tuple[CounterMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
    return (
        CounterMetricFamily(
            "sentio_publisher_events",
            "Events given to publish(), by what became of them",
            labels=["publisher", "outcome"],
        ),
        GaugeMetricFamily(
            "sentio_publisher_waiting", "Events in memory, under way or in the spool", labels=["publisher"]
        ),
        GaugeMetricFamily("sentio_publisher_spooled_bytes", "Size of the spool", labels=["publisher"]),
    )
