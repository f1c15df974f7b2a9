"""Reads messages past the client's own objects, from librdkafka's queues (`native/src/queues.rs`, decision 0023)."""

import time
from collections.abc import Iterable
from importlib.metadata import version

from confluent_kafka import Consumer, KafkaError, cimpl

from consumers.polled import ClientReader, Polled, Reader, of_client
from sentio import log
from sentio.kafka import Place

try:
    from sentio_native import Queues
except ModuleNotFoundError:
    Queues = None  # not built here

NATIVE = Queues is not None
"""Whether messages can be read so."""
PROVEN = "2.16.1"
"""The confluent-kafka whose structure the native code was proven with; any other is read by its objects."""

_SLICE_S = 0.1
"""Longest time that the client's callbacks wait while messages are waited for."""


def reader_of(client: Consumer) -> Reader:
    """The quickest reader there is for this client."""
    if not NATIVE or not isinstance(client, Consumer):
        return ClientReader(client)
    if (found := version("confluent-kafka")) != PROVEN:
        log.get().warning(
            "messages are read one object at a time, for three times the CPU",
            cause=f"confluent-kafka is {found}, and {PROVEN} was proven",
        )
        return ClientReader(client)
    return QueueReader(client)


class QueueReader:
    """Reads from a queue of its own, to which each partition is forwarded before it is assigned."""

    def __init__(self, client: Consumer) -> None:
        self._client = client
        self._queues = Queues(cimpl.__file__, client)

    def add(self, places: Iterable[Place]) -> None:
        for place in places:
            self._queues.add(*place)

    def remove(self, places: Iterable[Place]) -> None:
        for place in places:
            self._queues.remove(*place)

    def read(self, at_most: int, wait_s: float) -> Polled:
        until_s = time.monotonic() + wait_s
        said = [self._callbacks(0)]
        while not self._queues.fill(at_most, round(1_000 * min(wait_s, _SLICE_S))):
            if (wait_s := until_s - time.monotonic()) <= 0:
                break
            said.append(self._callbacks(0))
        messages, faults = self._queues.take()
        of_partitions = [((topic, partition), KafkaError(code, text)) for topic, partition, code, text in faults]
        return Polled(
            [*(found for polled in said for found in polled.messages), *messages],
            [*(error for polled in said for error in polled.errors), *of_partitions],
        )

    def rest(self, wait_s: float) -> Polled:
        return self._callbacks(wait_s)

    def close(self) -> None:
        self._queues.close()

    def _callbacks(self, wait_s: float) -> Polled:
        """Serve them; what else the client has to say."""
        message = self._client.poll(wait_s)
        return of_client([message] if message is not None else [])
