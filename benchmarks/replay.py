"""A replay at full speed, beside the client library that reads and writes the same records and does nothing else."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks import clocks
from benchmarks.goals import Goal
from benchmarks.harness import Contestant, Measured
from benchmarks.stage import PARTITIONS, Log, Stage
from consumers.replay import topic
from consumers.replay.job import Spans, Wish, make
from consumers.replay.jobs import Jobs
from consumers.replay.run import Replay
from consumers.replay.selection import Selection
from consumers.replay.source import KafkaLog
from consumers.replay.targets import Count, File, Target
from schemas.topics import topics
from sentio import kafka
from sentio.config import Settings

NAME = "replay"
TITLE = "Replay: the log once more"
NOTES = """`sentio replay` at `--speed max` without filters: counting, into another topic (in transactions, with
`x-replay-id`) and into a file of decoded JSON lines. The limits read with confluent-kafka and count, or give each
record to a producer, without a transaction. All in one process; what begins and ends a job is in it."""
PROFILE = """Counting reads past the client's objects (decision 0023), and so is below what reads with them. Into a
topic each record is one call of the producer with its headers, and the transaction comes on top. Into a file all is
making Python's values of decoded columns, and JSON text of those."""
GOALS = [
    Goal("counting at 80 % of librdkafka's read rate", times=1.25, than="limit: reading"),
    Goal(
        "into a topic at 80 % of librdkafka's rate",
        times=1.25,
        than="limit: reading and writing",
        who="sentio into a topic",
    ),
]
AT_MOST = 10_000

Work = Callable[[Log, Spans, Path], int]


@dataclass(frozen=True)
class Reading:
    """Reads all trades of a fresh log; what comes of them it counts."""

    who: str
    work: Work

    def run(self, stage: Stage) -> Measured:
        with stage.fresh_log() as log, tempfile.TemporaryDirectory(dir=stage.root) as folder:
            log.append(0, stage.events)
            spans = kafka.spans(log.kafka, [(log.topic, partition) for partition in range(PARTITIONS)])
            watch = stage.watch(clocks.own).start()
            count = self.work(log, spans, Path(folder))
            cpu_s, wall_s = watch.stop()
        del cpu_s["database"]
        return Measured(stage.events, cpu_s, wall_s, output=count)


def contestants(_: Stage) -> list[Contestant]:
    return [
        Reading("sentio", lambda log, spans, folder: _replay(log, spans, folder, "count", Count())),
        Reading("limit: reading", _read),
        Reading("sentio into a topic", _into_topic),
        Reading("limit: reading and writing", _read_and_write),
        Reading("sentio into a file", _into_file),
    ]


def _into_topic(log: Log, spans: Spans, folder: Path) -> int:
    target = topic.Topic(_settings(log), f"{log.prefix}.copy")
    return _replay(log, spans, folder, "topic:copy", target)


def _into_file(log: Log, spans: Spans, folder: Path) -> int:
    return _replay(log, spans, folder, "file:out", File(folder / "out", "bench"))


def _replay(log: Log, spans: Spans, folder: Path, into: str, target: Target) -> int:
    trades = topics()["trades.executed"]
    job = make(Wish((trades.name,), into), spans, {log.topic: ""})
    selection = Selection([trades], log.prefix, where=(), headers=(), decodes=into.startswith("file"))
    Replay(job, Jobs(folder / "state"), target).run(lambda: KafkaLog(log.kafka), selection)
    return job.counts.written


def _read(log: Log, spans: Spans, _: Path) -> int:
    return sum(map(len, _messages(log, spans)))


def _read_and_write(log: Log, spans: Spans, _: Path) -> int:
    copy = f"{log.prefix}.copy"
    admin = AdminClient(kafka.client(log.kafka))
    admin.create_topics([NewTopic(copy, PARTITIONS, 1)])[copy].result(30)
    producer = Producer(kafka.writer(log.kafka, name="bench"))
    count = 0
    for messages in _messages(log, spans):
        count += len(messages)
        for each in messages:
            while True:
                try:
                    producer.produce(
                        copy, each.value(), each.key(), each.partition() or 0, timestamp=each.timestamp()[1]
                    )
                except BufferError:
                    producer.poll(0.1)
                else:
                    break
    assert producer.flush(60) == 0
    return count


def _messages(log: Log, spans: Spans) -> Iterator[list[Message]]:
    consumer = Consumer(kafka.reader(log.kafka, name="bench") | {"enable.partition.eof": False})
    consumer.assign([TopicPartition(*place, first) for place, (first, _) in spans.items()])
    left = sum(end - first for first, end in spans.values())
    while left:
        messages = consumer.consume(AT_MOST, 0.1)
        left -= len(messages)
        yield messages
    consumer.close()


def _settings(log: Log) -> Settings:
    return Settings(kafka=log.kafka, topic_prefix=log.prefix)
