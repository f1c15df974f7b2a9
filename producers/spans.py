"""The span in which events go to Kafka: the first of a trace, or linked to those that called for it."""

from collections.abc import Iterable
from dataclasses import replace

from producers.sender import KafkaSender, Parcel
from sentio.tracing import Traces


def send(sender: KafkaSender, parcel: Parcel, traces: Traces | None, callers: Iterable[str] = ()) -> None:
    """As `KafkaSender.send`, within a span where there are traces; ``callers`` are `traceparent`s."""
    if traces is None:
        sender.send(parcel)
        return
    counted = {"messaging__batch__message_count": len(parcel.values)}
    with traces.span(
        f"publish {parcel.topic}", callers, messaging__destination__name=parcel.topic, **counted
    ) as traceparent:
        sender.send(replace(parcel, traceparent=traceparent))
