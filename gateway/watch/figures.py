"""What the watcher shows of itself on /metrics."""

from collections import Counter as Count
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import Counter, Gauge

from gateway.watch.comparing import Difference, Side
from gateway.watch.probe import Heard

ROUNDS = Counter("sentio_watch_rounds", "Comparisons of engine, store, aggregates and clients", ["outcome"])
DIFFERENCES = Gauge("sentio_reconcile_differences", "Figures of which two do not say the same", ["pair"])
LEVEL = Gauge("sentio_reconcile_level", "1: the pair was compared in the last round", ["pair"])
LAG = Gauge("sentio_watch_lag_seconds", "Age of a group's oldest unread event", ["group"])
LEFT = Gauge("sentio_watch_retention_left_seconds", "Until Kafka may delete what a group has not read", ["group"])
DELIVERY = Gauge("sentio_watch_delivery_seconds", "From publishing to a client, last minute", ["gateway", "quantile"])
ALERTS = Gauge("sentio_watch_alerts", "1: the alert has begun and not ended", ["alert"])
UNSENT = Gauge("sentio_watch_alerts_unsent", "Messages that wait for their target", ["target"])
LOST = Gauge("sentio_watch_alerts_dropped", "Messages dropped since too many waited", ["target"])


def show(
    sides: Iterable[Side], differing: Sequence[Difference], known: Mapping[str, Any], probes: Mapping[str, Heard]
) -> None:
    """Set the gauges after a round."""
    counts = Count(one.side for one in differing)
    for side in sides:
        DIFFERENCES.labels(f"engine-{side.name}").set(counts[side.name])
        LEVEL.labels(f"engine-{side.name}").set(side.level)
    for group in known["groups"]:
        LAG.labels(group.group).set(group.seconds)
        LEFT.labels(group.group).set(group.retention_left_s)
    for url, heard in probes.items():
        for quantile, value_ms in (("0.5", heard.p50_ms), ("0.99", heard.p99_ms)):
            if value_ms is not None:
                DELIVERY.labels(url, quantile).set(value_ms / 1000)
