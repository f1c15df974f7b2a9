"""What a sidecar counts, for Prometheus."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from producers.sidecar.source import Tally


class Counted(Protocol):
    """What has tallies: a sidecar or a bridge."""

    @property
    def tallies(self) -> Mapping[str, Tally]:
        """By source."""
        ...

    @property
    def failed(self) -> int:
        """Events that Kafka refuses: lost."""
        ...


class Figures(Collector):
    """Reads tallies whenever they are asked for."""

    def __init__(self, sidecar: Counted) -> None:
        self._sidecar = sidecar

    @classmethod
    def register(cls, sidecar: Counted) -> None:
        """Show them with the process's other metrics."""
        REGISTRY.register(cls(sidecar))

    def describe(self) -> Iterator[Metric]:
        """The same, without a value."""
        yield from _families()

    def collect(self) -> Iterator[Metric]:
        """Counters of each source, what it counts itself, and what Kafka refused."""
        events, refused, figures, failed = _families()
        for name, tally in self._sidecar.tallies.items():
            events.add_metric([name], tally.events)
            refused.add_metric([name], tally.refused)
            for figure, value in tally.figures.items():
                figures.add_metric([name, figure], value)
        failed.add_metric([], self._sidecar.failed)
        yield from (events, refused, figures, failed)


def _families() -> tuple[CounterMetricFamily, CounterMetricFamily, GaugeMetricFamily, CounterMetricFamily]:
    return (
        CounterMetricFamily("sentio_sidecar_events", "Events that Kafka acknowledged.", labels=["source"]),
        CounterMetricFamily("sentio_sidecar_refused", "Events that cannot be used.", labels=["source"]),
        GaugeMetricFamily("sentio_sidecar_source", "What a source counts.", labels=["source", "figure"]),
        CounterMetricFamily("sentio_sidecar_failed", "Events that Kafka refused for good: lost."),
    )
