"""`sentio run lag`: asks Kafka, beside all groups, who is behind and what is kept, and shows it on /metrics."""

import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sentio import log, metrics, survey
from sentio.config import ObservedSettings
from sentio.errors import Retryable, SettingError
from sentio.hours import is_open
from sentio.lag import Lag, by_topic, lags
from sentio.stopping import on_stop

PERIOD_S = 15.0
STALLED_S = 120.0

_BY_PARTITION = ("group", "topic", "partition")


class Exporter(Collector):
    """Looks every ``period_s`` and shows what it saw last; nothing of the log where that is too old to be believed."""

    def __init__(self, settings: ObservedSettings, *, period_s: float = PERIOD_S) -> None:
        self._settings = settings
        self._period_s = period_s
        self._once = log.OncePer()
        self._families: list[Metric] = []
        self._turned_s = time.monotonic()
        self._seen_s = float("-inf")

    @property
    def live(self) -> bool:
        """The loop turned lately."""
        return time.monotonic() - self._turned_s < STALLED_S

    @property
    def ready(self) -> bool:
        """Kafka answered lately."""
        return time.monotonic() - self._seen_s < max(STALLED_S, 3 * self._period_s)

    def run(self, stop: threading.Event) -> None:
        """Look again and again until asked to stop."""
        while not stop.is_set():
            self._turned_s = time.monotonic()
            try:
                self.look()
            except Retryable as failure:
                if self._once.due("look"):
                    log.get().warning("waiting, will try again", what="lag", cause=str(failure))
            stop.wait(self._period_s)

    def look(self) -> None:
        """Once; raises `Retryable`."""
        began_s = time.monotonic()
        found = lags(self._settings)
        spans = survey.spans(self._settings)
        beats = survey.last_beats(self._settings)
        kept_s = survey.kept_s(self._settings, spans)
        self._families = [*_lags(found, self._settings.topic_prefix, kept_s), *_topics(spans), *_engines(beats)]
        self._seen_s = time.monotonic()
        log.get().debug("looked", seconds=round(self._seen_s - began_s, 3))

    def describe(self) -> Iterator[Metric]:
        """The same, without a value."""
        yield from (*_lags([], "", {}), *_topics([]), *_engines([]), *self._own())

    def collect(self) -> Iterator[Metric]:
        yield from self._own()
        if self.ready:
            yield from self._families

    def _own(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("sentio_lag_ready", "1 if Kafka answered lately; else nothing is shown", self.ready)
        yield GaugeMetricFamily("sentio_trading_hours", "1 while the market is open", is_open(datetime.now(UTC)))


def _lags(found: list[Lag], prefix: str, kept_s: Mapping[str, float]) -> Iterator[Metric]:
    offsets = GaugeMetricFamily("sentio_lag_offset", "Where a group has read to", labels=_BY_PARTITION)
    records = GaugeMetricFamily("sentio_lag_records", "Records between there and the end", labels=_BY_PARTITION)
    seconds = GaugeMetricFamily(
        "sentio_lag_seconds",
        "Age of the oldest record that a group has not read; 0 if it has all",
        labels=_BY_PARTITION,
    )
    left = GaugeMetricFamily(
        "sentio_lag_retention_left_seconds",
        "Until the oldest record that a group has not read is deleted",
        labels=("group", "topic"),
    )
    for row in found:
        topic = row.topic.removeprefix(f"{prefix}.")
        place = (row.group, topic, str(row.partition))
        offsets.add_metric(place, row.offset)
        records.add_metric(place, row.lag)
        seconds.add_metric(place, row.oldest_unread_s)
    for (group, topic), behind in by_topic(found, kept_s).items():
        if behind.retention_left_s is not None:
            left.add_metric((group, topic.removeprefix(f"{prefix}.")), behind.retention_left_s)
    yield from (offsets, records, seconds, left)


def _topics(spans: list[survey.Span]) -> Iterator[Metric]:
    first = GaugeMetricFamily("sentio_topic_first_offset", "Oldest offsets, all partitions added", labels=["topic"])
    end = GaugeMetricFamily("sentio_topic_end_offset", "Next offsets, all partitions added", labels=["topic"])
    kept = GaugeMetricFamily("sentio_topic_retention_seconds", "How long Kafka keeps a record", labels=["topic"])
    dead = CounterMetricFamily("sentio_dead_letters", "Dead letters there ever were", labels=["topic"])
    dead_kept = GaugeMetricFamily("sentio_dead_letters_kept", "Dead letters that are still there", labels=["topic"])
    for span in spans:
        first.add_metric([span.name], span.first)
        end.add_metric([span.name], span.end)
        dead.add_metric([span.name], span.dead)
        dead_kept.add_metric([span.name], span.dead_kept)
        if span.retention_s is not None:
            kept.add_metric([span.name], span.retention_s)
    yield from (first, end, kept, dead, dead_kept)


def _engines(beats: list[survey.LastBeat]) -> Iterator[Metric]:
    at = GaugeMetricFamily(
        "sentio_engine_beat_timestamp_seconds", "When an engine last said that it is there", labels=["engine", "mode"]
    )
    for beat in beats:
        at.add_metric([beat.engine, beat.mode], beat.at.timestamp())
    yield at


def main(settings: ObservedSettings) -> None:
    """Look until SIGTERM or SIGINT. Raises `SettingError` where there is no port to show it on."""
    if settings.metrics_port is None:
        raise SettingError("SENTIO_METRICS_PORT is not set: the port on which lag is shown")
    stop = threading.Event()
    on_stop(stop.set)
    exporter = Exporter(settings)
    registry = CollectorRegistry()
    registry.register(exporter)
    server = metrics.serve(
        settings.metrics_port, live=lambda: exporter.live, ready=lambda: exporter.ready, registry=registry
    )
    log.get().info("listening", address=f"http://127.0.0.1:{server.server_port}/metrics")
    exporter.run(stop)
