"""Brings Kafka's topics to what schemas/topics.toml and the settings say: plan, then apply. Never deletes."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined] # its stubs forget to export them
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from schemas.topics import Topic, topics
from sentio import kafka
from sentio.config import Settings
from sentio.errors import Fatal, Retryable
from sentio.letters import dead_topic

DAY_MS = 86_400_000
DEAD_DAYS = 30
REDRIVE_DAYS = DEAD_DAYS + 1
"""What was redriven is known by its redrive topic, for as long as its letter is there."""
LEADERS_S = 30.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """One topic as it should be."""

    name: str
    partitions: int
    replication: int
    config: dict[str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """What to do about one topic; nothing when it is as wanted."""

    topic: Wanted
    create: bool = False
    partitions_now: int = 0
    config: dict[str, str] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        if self.create:
            return [f"create with {self.topic.partitions} partitions, {self.topic.config}"]
        grow = self.partitions_now < self.topic.partitions
        lines = [f"partitions {self.partitions_now} -> {self.topic.partitions}"] if grow else []
        return lines + [f"{name} -> {value}" for name, value in self.config.items()]


def wanted(settings: Settings) -> list[Wanted]:
    """Every topic of the house and its dead letters."""
    found = []
    for topic in topics().values():
        name = topic.full_name(settings.topic_prefix)
        found.append(Wanted(name, settings.partitions, settings.replication, _config(topic)))
        found.append(Wanted(dead_topic(name), 1, settings.replication, {"retention.ms": str(DEAD_DAYS * DAY_MS)}))
    return found


def _config(topic: Topic) -> dict[str, str]:
    return {
        "cleanup.policy": topic.cleanup,
        "retention.ms": str(topic.kafka_days * DAY_MS),
        "message.timestamp.type": "CreateTime",
    }


def plan(settings: Settings) -> list[Change]:
    """What `apply` would do, a `Change` for each topic.

    Raises `Fatal` for a topic with more partitions than wanted: they can only grow.
    """
    targets = wanted(settings)
    states = kafka.describe(settings.kafka, [target.name for target in targets])
    admin = AdminClient(kafka.client(settings.kafka))
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in states]
    configs = {}
    for resource, future in admin.describe_configs(resources).items() if resources else ():
        try:
            configs[resource.name] = {name: entry.value for name, entry in future.result(30).items()}
        except KafkaException as failure:
            raise Retryable(f"kafka at {settings.kafka}: {failure.args[0].str()}") from failure
    changes = []
    for target in targets:
        state = states.get(target.name)
        if state is None:
            changes.append(Change(target, create=True))
            continue
        if state.partitions > target.partitions:
            raise Fatal(
                f"topic {target.name} has {state.partitions} partitions, configuration says {target.partitions};"
                f" they can only grow: set SENTIO_PARTITIONS={state.partitions} or more"
            )
        has = configs[target.name]
        differs = {name: value for name, value in target.config.items() if not _same(has.get(name), value)}
        changes.append(Change(target, partitions_now=state.partitions, config=differs))
    return changes


def _same(now: str | None, then: str) -> bool:
    return now is not None and sorted(now.split(",")) == sorted(then.split(","))


def apply(settings: Settings, changes: Sequence[Change]) -> None:
    """Carry out a plan; raises `Fatal` with the broker's word when it refuses."""
    admin = AdminClient(kafka.client(settings.kafka))
    create = [change.topic for change in changes if change.create]
    grow = [c.topic for c in changes if not c.create and c.partitions_now < c.topic.partitions]
    alter = [change for change in changes if change.config]
    futures: dict[str, Any] = {}
    if create:
        futures |= admin.create_topics([NewTopic(t.name, t.partitions, t.replication, config=t.config) for t in create])
    if grow:
        futures |= admin.create_partitions([NewPartitions(t.name, t.partitions) for t in grow])
    if alter:
        resources = [
            ConfigResource(
                ResourceType.TOPIC,
                change.topic.name,
                incremental_configs=[
                    ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
                    for name, value in change.config.items()
                ],
            )
            for change in alter
        ]
        futures |= {r.name: future for r, future in admin.incremental_alter_configs(resources).items()}
    for name, future in futures.items():
        try:
            future.result(30)
        except KafkaException as failure:
            raise Fatal(f"topic {name}: {failure.args[0].str()}") from failure
    _await_leaders(settings, [change.topic for change in changes])


def make_redrive_topics(settings: Settings, names: Collection[str]) -> None:
    """Create those of these topics of redriven records that are not there; raises as `apply` does."""
    missing = set(names) - kafka.describe(settings.kafka, names).keys()
    # Whatever the topic of the letters has taken these have to take, and their headers besides.
    config = {"cleanup.policy": "delete", "retention.ms": str(REDRIVE_DAYS * DAY_MS), "max.message.bytes": "16777216"}
    wanted = [Wanted(name, 1, settings.replication, config) for name in sorted(missing)]
    apply(settings, [Change(topic, create=True) for topic in wanted])


def _await_leaders(settings: Settings, targets: Sequence[Wanted]) -> None:
    """Kafka says "created" before every partition has a leader; who reads at once would be refused."""
    places = [(target.name, partition) for target in targets for partition in range(target.partitions)]
    deadline_s = time.monotonic() + LEADERS_S
    while True:
        try:
            kafka.spans(settings.kafka, places)
        except Retryable:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.1)
        else:
            return
