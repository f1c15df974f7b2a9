"""What the receiver shows of itself on /metrics."""

from collections.abc import Mapping

from prometheus_client import Counter, Gauge, Histogram

EVENTS = Counter("sentio_webhook_events", "Events that came, by what became of them", ["outcome", "reason"])
REQUESTS = Counter("sentio_webhook_requests", "Requests, by the status of their answer", ["status"])
SECONDS = Histogram(
    "sentio_webhook_seconds",
    "From a request's head to its answer, of those answered with 200",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
)
WAITING = Gauge("sentio_webhook_waiting", "Prices in the journal that Kafka is not known to have")
WAITING_BYTES = Gauge("sentio_webhook_waiting_bytes", "Their size; SENTIO_SPOOL_MAX_BYTES is the most")
LETTERS_LOST = Counter("sentio_webhook_dead_letters_lost", "Refused events that did not become dead letters")


def count(ignored: Mapping[str, int], *, accepted: int, repeated: int, refused: int) -> None:
    """Count the events of one request."""
    for outcome, number in (("accepted", accepted), ("repeated", repeated), ("refused", refused)):
        EVENTS.labels(outcome, "").inc(number)
    for reason, number in ignored.items():
        EVENTS.labels("ignored", reason).inc(number)
