"""The archive on a real broker: what it holds is the log, byte for byte, in a folder and in a bucket, whatever is killed."""

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import polars as pl
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from consumers.archive import manifests
from consumers.archive.archive import Archive
from consumers.archive.compaction import Compaction
from consumers.archive.stores import open_store
from consumers.group import Group
from sentio.config import ArchiveSettings, load
from sentio.errors import Fatal, SettingError
from sentio.kafka import client, describe, writer
from sentio.testing.servers import Kafka
from tests.archives import (
    Bucket,
    archive_settings,
    bucket,
    command,
    ends,
    full_name,
    in_archive,
    in_log,
    places,
    process,
    produce,
    s3_server,
)
from tests.pipeline import running, until

DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture
def place_in_bucket(s3: str) -> Bucket:
    return bucket(s3)


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_archive_is_the_log_over_a_rebalance_poison_and_compaction(
    kafka: Kafka, tmp_path: Path, where: str, request: pytest.FixtureRequest
) -> None:
    in_bucket = where == "bucket"
    given = request.getfixturevalue("place_in_bucket").settings if in_bucket else {"archive": str(tmp_path)}
    settings = archive_settings(kafka.bootstrap, kafka.prefix, **given)
    store = open_store(settings)
    poison = Producer(writer(settings.kafka, name="test"))

    def archived() -> int:
        return sum(ends(store, settings).values())

    produce(settings, 30)
    with running(Archive(settings), settings):
        until(lambda: archived() == 30)
        poison.produce(full_name(settings), b"no Avro", b"key", partition=0)
        assert poison.flush(30) == 0
        with running(Archive(settings), settings) as second:
            until(lambda: second.ready and second._next)
            produce(settings, 30, first=30)
            until(lambda: archived() == 61)
        produce(settings, 30, first=60)
        until(lambda: archived() == 91)
    for place in places(settings):
        before, after = Compaction(store, file_bytes=1 << 20).run(place, now_ms=time.time_ns() // 10**6 + DAY_MS)
        assert before > after > 0

    whole = [record for record in in_log(settings) if record.value != b"no Avro"]
    assert len(whole) == 90
    assert in_archive(store, settings) == whole
    checked = command(settings, "archive", "verify")
    assert (checked.returncode, checked.stderr) == (0, "")
    if not in_bucket:
        pattern = f"{store.root}/{full_name(settings)}/**/*.parquet"
        fills = f"read_parquet('{pattern}', hive_partitioning = true)"
        asked = duckdb.sql(f"select count(*), count(distinct event_id), sum(quantity) from {fills}")
        assert asked
        [counted] = asked.fetchall()
        assert (counted[0], counted[1]) == (90, 90)
        assert pl.read_parquet(pattern).select(pl.col("quantity").sum()).item() == counted[2]


def test_kills_at_random_moments_neither_lose_nor_double_a_record(kafka: Kafka, tmp_path: Path) -> None:
    settings = archive_settings(kafka.bootstrap, kafka.prefix, archive=str(tmp_path), archive_file_s=0.05)
    store = open_store(settings)
    chance = random.Random(7)
    sent = 0
    for _ in range(3):
        before = sum(ends(store, settings).values())
        with process(settings) as member:
            # It writes many files a second from the first on; the kill comes in the middle of that.
            while sum(ends(store, settings).values()) == before:
                produce(settings, 20, first=sent)
                sent += 20
                assert member.poll() is None
            until_s = time.monotonic() + chance.random() * 0.3
            while time.monotonic() < until_s:
                produce(settings, 5, first=sent)
                sent += 5
    with running(Archive(settings), settings):
        until(lambda: sum(ends(store, settings).values()) == sent)

    assert in_archive(store, settings) == in_log(settings)
    paths = [str(path) for path in (tmp_path / full_name(settings)).rglob("*.parquet")]
    offsets = pl.read_parquet(paths).select("kafka_partition", "kafka_offset")
    assert offsets.height == offsets.n_unique() == sent
    checked = command(settings, "archive", "verify")
    assert (checked.returncode, checked.stderr) == (0, "")


def test_loss_and_a_topic_made_anew_are_named_and_accepted_by_hand(kafka: Kafka, tmp_path: Path) -> None:
    settings = archive_settings(kafka.bootstrap, kafka.prefix, archive=str(tmp_path), partitions=1)
    store = open_store(settings)
    produce(settings, 3)
    with running(Archive(settings), settings):
        until(lambda: ends(store, settings) == {0: 3})
    produce(settings, 3, first=3)

    skipped = command(settings, "skip", "archive", "trades.executed", "0", "--to", "5")
    assert skipped.returncode == 0, skipped.stderr
    with running(Archive(settings), settings):
        until(lambda: ends(store, settings) == {0: 6})
    [first, *_, last] = in_archive(store, settings)
    assert (first.offset, last.offset) == (0, 5)
    found = manifests.view(store, places(settings)[0])
    assert found is not None
    assert [(gap.first, gap.next) for gap in found.head.absent] == [(3, 5)]
    assert command(settings, "archive", "verify").returncode == 0

    admin = AdminClient(client(settings.kafka))
    [gone] = admin.delete_topics([full_name(settings)]).values()
    gone.result(30)
    until(lambda: full_name(settings) not in describe(settings.kafka, [full_name(settings)]))
    archive_settings(kafka.bootstrap, kafka.prefix, archive=str(tmp_path), partitions=1)
    produce(settings, 4)
    with pytest.raises(Fatal, match=r"is another topic .* sentio skip archive .* 0 --new-topic"):
        Group(Archive(settings), settings, stop=threading.Event()).run()
    accepted = command(settings, "skip", "archive", "trades.executed", "0", "--new-topic")
    assert accepted.returncode == 0, accepted.stderr
    with running(Archive(settings), settings):
        until(lambda: ends(store, settings) == {0: 4})
    assert in_archive(store, settings) == in_log(settings)
    assert command(settings, "archive", "verify").returncode == 0


def test_where_no_archive_can_be_is_said_with_the_setting(place_in_bucket: Bucket) -> None:
    wrong = load(ArchiveSettings, **place_in_bucket.settings | {"archive": "s3://nowhere/x"})
    with pytest.raises(SettingError, match="SENTIO_ARCHIVE=s3://nowhere/x: there is no bucket nowhere"):
        open_store(wrong)
    with pytest.raises(SettingError, match="a folder, or s3://bucket/prefix"):
        open_store(wrong.model_copy(update={"archive": "ftp://somewhere"}))


@pytest.mark.parametrize("size", [10, 10_000], ids=["small", "large"])
def test_object_deleted_while_it_is_read_from_a_bucket_is_not_there(place_in_bucket: Bucket, size: int) -> None:
    store = open_store(load(ArchiveSettings, **place_in_bucket.settings))
    store.put("topic/file", bytes(size))

    def deleted_in_the_middle() -> None:
        with store.open("topic/file") as opened:
            store.delete("topic/file")
            opened.read()

    with pytest.raises(FileNotFoundError, match="topic/file"):
        deleted_in_the_middle()
