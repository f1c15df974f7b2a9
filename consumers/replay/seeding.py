"""A new consumer group as the target: it is told where to begin, and reads by itself. Groups that live are refused."""

from collections.abc import Mapping

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from sentio import database, kafka
from sentio.config import DatabaseSettings
from sentio.errors import Fatal, Retryable, SettingError
from sentio.kafka import Place

TIMEOUT_S = 10.0


def check_new(settings: DatabaseSettings, name: str, *, owns_offsets: bool) -> None:
    """Raises `SettingError` for a group that has members or offsets, in Kafka or the database."""
    _check(settings, name, owns_offsets=owns_offsets, ours={}, topic_ids={})


def seed(
    settings: DatabaseSettings,
    name: str,
    offsets: Mapping[Place, int],
    topic_ids: Mapping[str, str],
    *,
    owns_offsets: bool,
) -> None:
    """Have the group begin at these offsets; in the database first, which counts for who keeps them there.

    Killed in between, it may come again: a group that stands just there, and that nobody has claimed, is ours.
    """
    in_database = _check(settings, name, owns_offsets=owns_offsets, ours=offsets, topic_ids=topic_ids)
    if owns_offsets and not in_database:
        # Generation 0, as of nobody: the first claim of `consumers.ledger` raises it.
        rows = [(name, *place, offset, topic_ids[place[0]]) for place, offset in sorted(offsets.items())]
        with database.outages_are_retryable(), database.connect(settings.database, name="sentio-replay") as connection:
            connection.cursor().executemany(
                "insert into consumer_offsets (group_name, topic, partition, generation, next_offset, topic_id)"
                " values (%s, %s, %s, 0, %s, %s)",
                rows,
            )
    group_id = f"{settings.topic_prefix}.{name}"
    admin = AdminClient(kafka.client(settings.kafka))
    wanted = ConsumerGroupTopicPartitions(group_id, [TopicPartition(*place, at) for place, at in offsets.items()])
    try:
        done = admin.alter_consumer_group_offsets([wanted])[group_id].result(TIMEOUT_S).topic_partitions
    except (KafkaException, TimeoutError) as failure:
        raise Retryable(f"kafka at {settings.kafka} (SENTIO_KAFKA): {failure}") from failure
    if failed := [each for each in done if each.error]:
        raise Fatal(f"--into group:{name}: {failed[0].error.str()}")


def _check(
    settings: DatabaseSettings,
    name: str,
    *,
    owns_offsets: bool,
    ours: Mapping[Place, int],
    topic_ids: Mapping[str, str],
) -> bool:
    """Whether the database has the offsets that are to be ours; raises `SettingError` for a group that has others."""
    admin = AdminClient(kafka.client(settings.kafka))
    group_id = f"{settings.topic_prefix}.{name}"
    try:
        members = _members(admin, group_id)
        asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group_id)])[group_id]
        found = asked.result(TIMEOUT_S).topic_partitions
    except (KafkaException, TimeoutError) as failure:
        raise Retryable(f"kafka at {settings.kafka} (SENTIO_KAFKA): {failure}") from failure
    others = [each for each in found if each.offset >= 0 and ours.get((each.topic, each.partition)) != each.offset]
    if members or others:
        has = f"{members} members" if members else "offsets"
        raise SettingError(
            f"--into group:{name}: {group_id} has {has} already; only a new group can be told where to begin"
        )
    if not owns_offsets:
        return False
    with database.outages_are_retryable(), database.connect(settings.database, name="sentio-replay") as connection:
        row = connection.execute("select to_regclass('consumer_offsets')").fetchone()
        if row is None or row[0] is None:
            raise Fatal("the database has no tables yet; 'sentio run store' makes them")
        rows = connection.execute(
            "select topic, partition, next_offset, topic_id, generation from consumer_offsets where group_name = %s",
            [name],
        ).fetchall()
    wanted = {(*place, offset, topic_ids[place[0]], 0) for place, offset in ours.items()}
    if rows and set(rows) != wanted:
        raise SettingError(f"--into group:{name}: it has offsets in the database already; take another name")
    return bool(rows)


def _members(admin: AdminClient, group_id: str) -> int:
    described = admin.describe_consumer_groups([group_id], request_timeout=TIMEOUT_S)[group_id]
    try:
        return len(described.result(TIMEOUT_S + 1).members)
    except KafkaException as failure:
        if failure.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            return 0
        raise
