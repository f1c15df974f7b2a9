"""The work of `sentio skip`: moves a stopped group's offset forward, in its ledger or in Kafka."""

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from psycopg import Connection

from sentio import database, kafka
from sentio.config import DatabaseSettings
from sentio.errors import Fatal, Retryable, SettingError
from sentio.kafka import Place

TIMEOUT_S = 10.0

_MINE = "group_name = %s and topic = %s and partition = %s"


def skip_to(settings: DatabaseSettings, group: str, place: Place, offset: int) -> None:
    """Have the group go on at ``offset``; raises `SettingError` when that is not forward, or not in the log."""
    [(oldest, end)] = kafka.spans(settings.kafka, [place]).values()
    if not oldest <= offset <= end:
        raise SettingError(f"skip --to {offset}: {_name(place)} holds offsets {oldest} to {end}")
    with database.connect(settings.database, name="sentio-skip") as connection:
        if _in_ledger(connection, group, place) is None:
            _skip_in_kafka(settings, group, place, offset)
            return
        done = connection.execute(
            "update consumer_offsets set next_offset = %s, generation = generation + 1"
            f" where {_MINE} and next_offset < %s",
            [offset, group, *place, offset],
        )
    if done.rowcount != 1:
        raise SettingError(f"skip --to {offset}: group {group} is there already in {_name(place)}")


def accept_new_topic(settings: DatabaseSettings, group: str, place: Place) -> None:
    """Forget where the group stood in a topic that was deleted and made again; `SettingError` if it was not."""
    state = kafka.describe(settings.kafka, [place[0]]).get(place[0])
    with database.connect(settings.database, name="sentio-skip") as connection:
        known_id = _in_ledger(connection, group, place)
        if state is None or known_id is None or known_id == state.id:
            raise SettingError(f"skip --new-topic: {_name(place)} is the topic that group {group} knows")
        for table in ("consumer_offsets", "consumer_marks"):
            connection.execute(f"delete from {table} where {_MINE}", [group, *place])


def _in_ledger(connection: Connection, group: str, place: Place) -> str | None:
    """The Kafka topic id that the group's ledger knows; None when its offsets are in Kafka alone."""
    row = connection.execute(f"select topic_id from consumer_offsets where {_MINE}", [group, *place]).fetchone()
    return row[0] if row else None


def _skip_in_kafka(settings: DatabaseSettings, group: str, place: Place, offset: int) -> None:
    group_id = f"{settings.topic_prefix}.{group}"
    admin = AdminClient(kafka.client(settings.kafka))
    try:
        asked = ConsumerGroupTopicPartitions(group_id, [TopicPartition(*place)])
        [now] = admin.list_consumer_group_offsets([asked])[group_id].result(TIMEOUT_S).topic_partitions
        if not 0 <= now.offset < offset:
            raise SettingError(f"skip --to {offset}: group {group_id} has no earlier offset in {_name(place)}")
        moved = ConsumerGroupTopicPartitions(group_id, [TopicPartition(*place, offset)])
        [done] = admin.alter_consumer_group_offsets([moved])[group_id].result(TIMEOUT_S).topic_partitions
    except (KafkaException, TimeoutError) as failure:
        raise Retryable(f"kafka at {settings.kafka} (SENTIO_KAFKA): {failure}") from failure
    if done.error:
        raise Fatal(f"skip: {done.error.str()}; stop every member of {group_id} first")


def _name(place: Place) -> str:
    return f"{place[0]}[{place[1]}]"
