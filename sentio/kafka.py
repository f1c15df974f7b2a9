"""How every process speaks to Kafka: client settings, topic identity, and bounded reads without a group."""

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined] # its stubs forget to export them

from sentio import log
from sentio.errors import Retryable

Place = tuple[str, int]
"""(full topic name, partition)"""

REQUEST_TIMEOUT_S = 10.0
CONNECT_S = 2.0


def client(bootstrap: str, *, name: str = "sentio") -> dict[str, Any]:
    """Settings of any librdkafka client. Outages are said once a minute, not once a retry."""
    once = log.OncePer()

    def say(error: KafkaError) -> None:
        if once.due(error.code()):
            log.get().warning("kafka is not answering as it should", broker=bootstrap, cause=error.str())

    return {
        "bootstrap.servers": bootstrap,
        "client.id": name,
        "error_cb": say,
        "log_level": 2,
        "log.connection.close": False,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 2_000,
        "topic.metadata.refresh.interval.ms": 60_000,
        "allow.auto.create.topics": False,
    }


def reader(bootstrap: str, *, name: str = "sentio-reader") -> dict[str, Any]:
    """Settings of a consumer that assigns its partitions itself and commits nothing."""
    return client(bootstrap, name=name) | {
        "group.id": f"{name}-unused",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        # librdkafka waits this long before it fetches again once its queue was full; its default of a second costs
        # two thirds of the throughput.
        "fetch.queue.backoff.ms": 5,
        "fetch.wait.max.ms": 50,
        # What librdkafka reads ahead, in all: enough for batches of 20,000 to come together, and the bound on its
        # memory while a sink is down (plus one answer of each broker under way).
        "queued.min.messages": 100_000,
        "queued.max.messages.kbytes": 64 * 1024,
        "fetch.max.bytes": 16 * 1024 * 1024,
    }


LINGER_MS = 5.0
"""How long a record waits for others to be sent with."""


def writer(bootstrap: str, *, name: str, linger_ms: float = LINGER_MS) -> dict[str, Any]:
    """Settings of a producer of events, each once and in order, that is told only what fails."""
    return client(bootstrap, name=name) | {
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "lz4",
        "linger.ms": linger_ms,
        # Never give up on a record: an outage is waited out.
        "message.timeout.ms": 0,
        # One call into Python for every record would cost as much as sending it.
        "delivery.report.only.error": True,
    }


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as the cluster has it."""

    id: str
    """Kafka's own id: it changes when a topic is deleted and made again, so it is the log's epoch."""

    partitions: int


def silent(bootstrap: str, failure: KafkaException | TimeoutError) -> Retryable:
    """What to say of a broker that did not answer: librdkafka's word alone is that something failed in transport."""
    said = failure.args[0].str() if isinstance(failure, KafkaException) else "Timed out"
    return Retryable(f"kafka at {bootstrap} (SENTIO_KAFKA) does not answer: {_unreachable(bootstrap) or said}")


def _unreachable(bootstrap: str) -> str | None:
    """Why none of the addresses takes a connection; None if one does."""
    causes = []
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
        except (OSError, ValueError) as cause:
            causes.append(f"{address.strip()}: {getattr(cause, 'strerror', None) or cause}")
        else:
            return None
    return "; ".join(causes)


def describe(bootstrap: str, names: Iterable[str]) -> dict[str, TopicState]:
    """State of each of these topics that exists; raises `Retryable` when the broker does not answer."""
    wanted = list(names)
    admin = AdminClient(client(bootstrap))  # has to outlive its futures
    futures = admin.describe_topics(TopicCollection(wanted), request_timeout=REQUEST_TIMEOUT_S)
    found = {}
    for name, future in futures.items():
        try:
            topic = future.result(REQUEST_TIMEOUT_S + 1)
        except KafkaException as failure:
            if failure.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                continue
            raise Retryable(f"kafka at {bootstrap} (SENTIO_KAFKA): {failure.args[0].str()}") from failure
        except TimeoutError as failure:
            raise silent(bootstrap, failure) from failure
        found[name] = TopicState(str(topic.topic_id), len(topic.partitions))
    return found


def forget_group(bootstrap: str, group: str) -> bool:
    """Delete what Kafka knows of a group; False where it has members still. Raises `Retryable`."""
    admin = AdminClient(client(bootstrap))
    try:
        admin.delete_consumer_groups([group], request_timeout=REQUEST_TIMEOUT_S)[group].result(REQUEST_TIMEOUT_S + 1)
    except KafkaException as failure:
        error = failure.args[0]
        if error.code() == KafkaError.NON_EMPTY_GROUP:
            return False
        if error.code() != KafkaError.GROUP_ID_NOT_FOUND:
            raise Retryable(f"kafka at {bootstrap} (SENTIO_KAFKA): group {group}: {error.str()}") from failure
    except TimeoutError as failure:
        raise silent(bootstrap, failure) from failure
    return True


def ends(consumer: Consumer, places: Iterable[Place]) -> dict[Place, tuple[int, int]]:
    """(oldest, next) offset of each partition; raises `Retryable` when the broker does not answer."""
    wanted = list(places)
    oldest = _found_by_time(consumer, wanted, OFFSET_BEGINNING)
    following = _found_by_time(consumer, wanted, OFFSET_END)
    return {place: (oldest[place], following[place]) for place in wanted}


def _found_by_time(consumer: Consumer, places: Sequence[Place], time_ms: int) -> dict[Place, int]:
    """First offset of each partition whose record is not older; -1 where there is none. One question to each leader.

    `OFFSET_BEGINNING` and `OFFSET_END` are times to which Kafka answers with the oldest and next offset (KIP-79).
    """
    if not places:
        return {}
    asked = [TopicPartition(*place, time_ms) for place in places]
    try:
        answers = consumer.offsets_for_times(asked, timeout=REQUEST_TIMEOUT_S)
    except KafkaException as failure:
        raise Retryable(f"kafka: offsets of {places[0][0]}: {failure.args[0].str()}") from failure
    for each in answers:
        if each.error is not None:
            raise Retryable(f"kafka: offsets of {each.topic}[{each.partition}]: {each.error.str()}")
    return {(each.topic, each.partition): each.offset for each in answers}


def listed(
    admin: AdminClient,
    places: Iterable[Place],
    spec: OffsetSpec,
    *,
    isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    timeout_s: float = REQUEST_TIMEOUT_S,
) -> dict[Place, int]:
    """The earliest or latest offset of each partition, in one request however many there are.

    Raises KafkaException or TimeoutError when the broker does not answer.
    """
    asked = {TopicPartition(*place): spec for place in places}
    if not asked:
        return {}
    futures = admin.list_offsets(asked, isolation_level=isolation, request_timeout=timeout_s)
    return {(p.topic, p.partition): future.result(timeout_s + 1).offset for p, future in futures.items()}


def spans(bootstrap: str, places: Iterable[Place]) -> dict[Place, tuple[int, int]]:
    """(oldest, next) offset of each partition, asked with a client of its own."""
    consumer = Consumer(reader(bootstrap))
    try:
        return ends(consumer, places)
    finally:
        consumer.close()


def offsets_at(consumer: Consumer, places: Iterable[Place], time_ms: int) -> dict[Place, int]:
    """First offset of each partition whose record is not older than ``time_ms``; its end where there is none.

    Raises `Retryable` when the broker does not answer.
    """
    wanted = list(places)
    # The end is asked for first: what is published between the two questions lies behind it.
    last = _found_by_time(consumer, wanted, OFFSET_END)
    found = _found_by_time(consumer, wanted, time_ms)
    return {place: found[place] if found[place] >= 0 else last[place] for place in wanted}


def read(
    bootstrap: str,
    spans: Mapping[Place, tuple[int, int]],
    *,
    at_most: int = 1_000,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[list[Message]]:
    """Messages of each span [first, end) of the log, in lists of up to ``at_most``, without a group.

    Order is per partition. Ends when every span is read (a compacted or aborted last record is no hang: the end of the
    partition counts) or ``stop`` says so. Raises `Retryable` when the log cannot be read at such an offset.
    """
    left = {place: end for place, (first, end) in spans.items() if first < end}
    consumer = Consumer(reader(bootstrap))
    try:
        consumer.assign([TopicPartition(*place, spans[place][0]) for place in left])
        while left and not stop():
            messages: list[Message] = []
            for message in consumer.consume(at_most, 0.2):
                place = (message.topic() or "", message.partition() or 0)
                if place not in left:
                    continue
                error = message.error()
                offset = message.offset() or 0
                if error is None and offset < left[place]:
                    messages.append(message)
                elif error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    raise Retryable(f"kafka: {place[0]}[{place[1]}]: {error.str()}")
                # On an end-of-partition event the offset is the partition's end.
                if offset >= left[place] - (error is None):
                    del left[place]
                    consumer.incremental_unassign([TopicPartition(*place)])
            if messages:
                yield messages
    finally:
        consumer.close()
