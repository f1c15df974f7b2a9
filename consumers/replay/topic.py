"""A topic as the target: each record once, since what is written and how far it is are one transaction."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # it is theirs to give
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from consumers.replay.job import Counts, Job
from consumers.replay.selection import Chosen
from consumers.replay.source import Gone
from sentio import kafka, topics
from sentio.config import Settings
from sentio.errors import Fatal, Retryable, SettingError
from sentio.kafka import Place

HEADER = "x-replay-id"
MOST = 50_000
"""Records of one transaction."""

LARGEST = 16 << 20
"""Bytes that a record may have, though its source takes less: compressed there by another way it may have been less."""

ROOM = 1024
"""For the job's id, where the source takes more."""

LIMIT = 1_000_000_000
"""More the client does not take."""

CALL_S = 10.0
ABORT_S = 2.0
SLICE_S = 1.0
"""How long nobody looks whether the replay is to end while a transaction is committed."""

TRANSACTION_S = 60.0
"""A transaction that is open for longer the broker ends itself, as another process would that takes over."""

END_S = 20.0
"""How long the end of one may take. Where it takes longer, it is begun anew."""

_FENCED = {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}  # noqa: SLF001 - its public name

_AWAY = {KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError.REQUEST_TIMED_OUT}  # noqa: SLF001 - its public name

T = TypeVar("T")


def check_name(settings: Settings, name: str, job_topics: tuple[str, ...]) -> None:
    """Raises `SettingError` for a topic that the platform itself lives on, and for more topics than one into one."""
    own = {target.name for target in topics.wanted(settings)}
    if name in own or ".redrive." in name:
        raise SettingError(f"--into topic:{name}: the platform lives on it; consumers of it would count events twice")
    if len(job_topics) > 1:
        raise SettingError(f"--into topic:{name}: one topic can be replayed into another, not {len(job_topics)}")


class Topic:
    """Key, headers, time and, where it has as many partitions as the source, partition of a record are kept."""

    def __init__(self, settings: Settings, name: str, *, is_over: Callable[[], bool] = lambda: False) -> None:
        self._settings = settings
        self._name = name
        self._is_over = is_over
        self._group = ""
        self._consumer: Consumer | None = None
        self._producer: Producer | None = None
        self._mark: list[tuple[str, bytes]] = []
        self._same_partitions = False
        self._largest = LARGEST
        self._open = 0
        """Records of the transaction that is open."""

        self._began_s = 0.0
        self._sent: dict[Place, int] = {}

    def open(self, job: Job) -> None:
        """Puts out whoever runs this job still, ends what transaction was open, and reads how far it came."""
        self._group = _group(self._settings, job)
        self._mark = [(HEADER, job.id.encode())]
        self._same_partitions = self._is_like_its_source(job)
        config = kafka.writer(self._settings.kafka, name="sentio-replay") | {
            "message.max.bytes": self._largest,
            "transactional.id": self._group,
            "transaction.timeout.ms": int(TRANSACTION_S * 1000),
        }
        del config["message.timeout.ms"]  # bounded by the transaction's
        self._producer = Producer(config)
        self._consumer = Consumer(kafka.reader(self._settings.kafka, name="sentio-replay") | {"group.id": self._group})
        producer, consumer = self._producer, self._consumer
        self._call(lambda: producer.init_transactions(CALL_S))
        wanted = [TopicPartition(*place) for place in job.spans]
        found = self._call(lambda: consumer.committed(wanted, timeout=CALL_S))
        if committed := [each for each in found if each.offset >= 0]:
            job.next = {(each.topic, each.partition): each.offset for each in committed}
            job.counts = max(map(_counts, committed), key=lambda counts: counts.read)
        elif job.left() and job.counts.read:
            # Nobody has gone on with it for longer than Kafka keeps that; from the file it might lose or double some.
            raise Gone(f"kafka does not know any more how far replay {job.id} was; begin another, into another topic")
        self._sent = dict(job.next)

    def write(self, chosen: Chosen) -> int:
        assert self._producer is not None
        produce, name, mark, whole = self._producer.produce, self._name, self._mark, self._same_partitions
        letter = chosen.messages.letter
        times_ms = chosen.messages.columns()[2].to_pylist()
        for index in chosen.indexes:
            self._begin()
            self._open += 1
            partition, _, key, value, headers = letter(index)
            more: dict[str, Any] = {"partition": partition} if whole else {}
            if (time_ms := times_ms[index]) > 0:  # 0 would be now
                more["timestamp"] = time_ms
            carried: Any = [*headers, *mark] if headers else mark
            while True:
                try:
                    produce(name, value, key, headers=carried, **more)
                except BufferError:
                    self._producer.poll(0.1)
                    if self._is_over():
                        raise self._silent() from None
                except KafkaException as failure:
                    raise self._meaning(failure) from failure
                else:
                    break
        self._producer.poll(0)
        return len(chosen.indexes)

    @property
    def is_full(self) -> bool:
        return self._open >= MOST

    def checkpoint(self, job: Job) -> None:
        """Commit what was written and how far it is, in all partitions: one that Kafka does not know was not begun."""
        assert self._producer is not None
        assert self._consumer is not None
        if self._sent == job.next:
            return
        counts = f"{job.counts.read} {job.counts.written} {job.counts.undecodable}"
        stands = [TopicPartition(*place, job.passed(place), counts) for place in job.spans]
        producer, metadata = self._producer, self._consumer.consumer_group_metadata()
        self._begin()
        self._call(lambda: producer.send_offsets_to_transaction(stands, metadata, CALL_S))
        self._commit(producer)
        self._open = 0
        self._sent = dict(job.next)

    def finish(self, job: Job) -> None:
        """The group has done its work: nobody is to see it as one that lags."""
        self.drop(job)

    def drop(self, job: Job) -> None:
        """What was committed stays in the topic; only the group goes."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
        kafka.forget_group(self._settings.kafka, _group(self._settings, job))

    def close(self) -> None:
        if self._producer is not None and self._open:
            self._producer.purge()
            with suppress(KafkaException):  # else the broker ends it in a minute, or the next run does
                self._producer.abort_transaction(ABORT_S)
        self._producer, self._open = None, 0
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _is_like_its_source(self, job: Job) -> bool:
        """In the number of partitions. A target that is not there yet is made so."""
        source = next(iter(job.topic_ids))
        states = kafka.describe(self._settings.kafka, [self._name, source])
        if source not in states:
            raise Gone(f"{source} was deleted since replay {job.id} was planned")
        self._largest = min(max(LARGEST, self._taken_by(source) + ROOM), LIMIT)
        if (there := states.get(self._name)) is not None:
            return there.partitions == states[source].partitions
        limit = {"max.message.bytes": str(self._largest)}
        made = NewTopic(self._name, states[source].partitions, self._settings.replication, config=limit)
        admin = AdminClient(kafka.client(self._settings.kafka))  # has to outlive its futures
        try:
            admin.create_topics([made])[self._name].result(CALL_S)
        except TimeoutError as failure:
            raise self._silent() from failure
        except KafkaException as failure:
            if failure.args[0].code() in _AWAY:
                raise self._meaning(failure) from failure
            raise Fatal(f"--into topic:{self._name}: it cannot be made: {failure}") from failure
        return True

    def _taken_by(self, source: str) -> int:
        """How large records may be there, in bytes."""
        resource = ConfigResource(ResourceType.TOPIC, source)
        admin = AdminClient(kafka.client(self._settings.kafka))  # has to outlive its futures
        try:
            return int(admin.describe_configs([resource])[resource].result(CALL_S)["max.message.bytes"].value)
        except TimeoutError as failure:
            raise self._silent() from failure
        except KafkaException as failure:
            raise self._meaning(failure) from failure

    def _begin(self) -> None:
        if not self._open:
            assert self._producer is not None
            self._call(self._producer.begin_transaction)
            self._began_s = time.monotonic()

    def _commit(self, producer: Producer) -> None:
        """In short calls: whoever wants this process to end does not wait for a broker that is away."""
        until_s = time.monotonic() + END_S
        while True:
            try:
                producer.commit_transaction(SLICE_S)
            except KafkaException as failure:
                if not failure.args[0].retriable() or time.monotonic() > until_s or self._is_over():
                    raise self._meaning(failure) from failure
            else:
                return

    def _silent(self) -> Retryable:
        return Retryable(f"kafka at {self._settings.kafka} (SENTIO_KAFKA) does not answer")

    def _call(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except KafkaException as failure:
            raise self._meaning(failure) from failure

    def _meaning(self, failure: KafkaException) -> Fatal | Retryable:
        error: KafkaError = failure.args[0]
        if error.code() in _FENCED and time.monotonic() - self._began_s < TRANSACTION_S:
            return Fatal(f"{self._group} was taken over by another process; this one ends")
        if error.code() in {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.TOPIC_AUTHORIZATION_FAILED}:
            return Fatal(f"--into topic:{self._name}: {error.str()}")
        return Retryable(f"kafka at {self._settings.kafka} (SENTIO_KAFKA): {error.str()}")


def _counts(committed: TopicPartition) -> Counts:
    return Counts(*map(int, (committed.metadata or "0 0 0").split()))


def _group(settings: Settings, job: Job) -> str:
    return f"{settings.topic_prefix}.replay.{job.id}"
