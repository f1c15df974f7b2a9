"""How a channel comes to a client: how long a message waits for company, if only the newest counts, in which words."""

from dataclasses import dataclass
from typing import Literal

from gateway.stream.channels import Channel
from gateway.stream.deflate import Codec
from gateway.stream.dialect import Dialect
from sentio.config import StreamSettings


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a client asks for; None is what is usual on the channel."""

    latency: Literal["lowest"] | None = None
    conflate: bool | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """Clients of a channel with the same delivery are sent the same bytes."""

    wait_s: float
    """Longest wait for company."""

    conflate: bool
    """Only the newest message of each key is sent."""

    codec: Codec
    dialect: Dialect


def delivery(channel: Channel, wishes: Wishes, codec: Codec, dialect: Dialect, settings: StreamSettings) -> Delivery:
    """What a client gets; only a topic with a key of its state can be conflated."""
    usual = channel.topic.channel in settings.stream_conflated.split(",")
    wait_ms = settings.stream_conflated_ms if usual else settings.stream_wait_ms
    return Delivery(
        wait_s=0.0 if wishes.latency == "lowest" else wait_ms / 1000,
        conflate=usual and wishes.conflate is not False,
        codec=codec,
        dialect=dialect,
    )
