"""Replays on a real broker and database, as an operator types them; killed at any moment, and nothing comes twice."""

import json
import signal
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr

from consumers.archive.archive import Archive
from consumers.archive.stores import open_store
from consumers.replay import seeding
from consumers.replay.job import Counts
from consumers.replay.jobs import Jobs
from consumers.store.store import Store
from gateway.database import pool
from gateway.watch.meters import group_lags
from gateway.watch.replays import newest
from sentio import lag
from sentio.config import ConsumerSettings, WatchSettings, load
from sentio.database import migrate
from tests.archives import archive_settings, ends
from tests.pipeline import count, rows, running, until
from tests.replays import Replays, sequences, whole


def test_a_plan_says_what_would_be_read_and_a_range_is_asked_by_time_or_offset(replay: Replays, tmp_path: Path) -> None:
    replay.publish(30)
    planned = json.loads(replay("plan", "trades.executed", "--speed", "60x", "--json"))
    assert planned["offsets"] == 30
    assert [each["end"] for each in planned["partitions"]] == [10, 10, 10]
    assert planned["bytes"] > 30 * 50
    assert planned["seconds"] == pytest.approx(29, abs=0.1)
    assert "30 records" in replay("run", "trades.executed", "--into", "count", "--dry-run")
    assert replay.jobs() == []

    times = [message.timestamp()[1] for message in replay.messages(replay.topic)]
    middle = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(sorted(times)[20] // 1000))}Z"
    after = json.loads(replay("plan", "trades.executed", "--from", middle, "--json"))
    before = json.loads(replay("plan", "trades.executed", "--to", middle, "--json"))
    assert (before["offsets"], after["offsets"]) == (20, 10)
    assert after["from"] == middle
    recent = json.loads(replay("plan", "trades.executed", "--last", "70m", "--json"))
    assert recent["offsets"] in {9, 10}

    out = tmp_path / "some"
    by_offset = ("--partition", "1", "--from-offset", "2", "--to-offset", "5")
    replay("run", "trades.executed", "--into", f"file:{out}", *by_offset, "--yes")
    assert sequences(out) == [7, 10, 13]


def test_what_the_log_has_no_more_is_refused_with_the_oldest_it_has(replay: Replays) -> None:
    replay.publish(30, partition=0)
    admin = AdminClient({"bootstrap.servers": replay.settings.kafka})
    for cut in admin.delete_records([TopicPartition(replay.topic, 0, 10)]).values():
        cut.result(20)
    oldest = min(message.timestamp()[1] for message in replay.messages(replay.topic))
    said = replay("plan", "trades.executed", "--last", "5h", status=2)
    assert "is older than the log" in said
    assert time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(oldest / 1000)) in said
    by_offset = ("--partition", "0", "--from-offset", "3")
    assert "holds offsets 10 to 30" in replay("plan", "trades.executed", *by_offset, status=2)
    assert json.loads(replay("plan", "trades.executed", "--json"))["offsets"] == 20


def test_what_the_log_has_no_more_is_replayed_from_the_archive_as_it_was(
    replay: Replays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay.publish(30, headers=[("traceparent", b"00-ab"), ("empty", None)])
    written = replay.messages(replay.topic)
    settings = archive_settings(
        replay.settings.kafka, replay.settings.topic_prefix, archive=str(tmp_path / "archive"), partitions=3
    )
    store = open_store(settings)
    with running(Archive(settings), settings):
        until(lambda: sum(ends(store, settings).values()) == 30)
    admin = AdminClient({"bootstrap.servers": settings.kafka})
    for cut in admin.delete_records([TopicPartition(replay.topic, each, 5) for each in range(3)]).values():
        cut.result(20)

    assert "--from-archive reaches further" in replay("plan", "trades.executed", "--last", "5h", status=2)
    monkeypatch.setenv("SENTIO_ARCHIVE", str(tmp_path / "archive"))
    archived = ("trades.executed", "--from-archive", "--yes")
    copy = f"{settings.topic_prefix}.copy"
    replay("run", *archived, "--into", f"topic:{copy}")
    assert sorted(map(whole, replay.messages(copy)), key=repr) == sorted(map(whole, written), key=repr)

    times = sorted(message.timestamp()[1] for message in written)
    middle = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(times[20] // 1000))}Z"
    replay("run", *archived, "--to", middle, "--into", f"file:{tmp_path / 'before'}", "--speed", "60000x")
    assert sequences(tmp_path / "before") == list(range(20))
    group = replay("run", *archived, "--into", "group:new", status=2)
    assert "a group reads the log" in group


def test_only_what_is_asked_for_is_written(replay: Replays, tmp_path: Path) -> None:
    replay.publish(9)
    replay.publish(9, headers=[("run", b"second")])
    replay.produce(b"nonsense")
    asked: Mapping[str, tuple[str, ...]] = {
        "symbol": ("--symbol", "TQQQ", "--where", "quantity>=103", "--where", "executed_at<2025-10-10T13:36:00Z"),
        "header": ("--header", "run=second", "--account", "paper"),
        "all": (),
    }
    for name, options in asked.items():
        done = json.loads(
            replay("run", "trades.executed", f"--into=file:{tmp_path / name}", *options, "--yes", "--json")
        )
        assert done["counts"]["read"] == 19
        assert done["state"] == "complete"
    assert sequences(tmp_path / "symbol") == [3, 3]
    assert sequences(tmp_path / "header") == list(range(9))
    lines = [json.loads(line) for line in (tmp_path / "all").read_text().splitlines()]
    [unusable] = [line for line in lines if "undecodable" in line]
    assert len(lines) == 19
    assert unusable["offset"] == 6
    assert lines[0]["price"] == "109.02"
    assert "is there already" in replay("run", "trades.executed", f"--into=file:{tmp_path / 'all'}", "--yes", status=2)
    printed = [json.loads(line) for line in replay("run", "trades.executed", "--into", "stdout", "--yes").splitlines()]
    assert sorted(map(str, printed)) == sorted(map(str, lines))


def test_another_topic_gets_records_as_they_were_and_the_jobs_id(replay: Replays) -> None:
    replay.publish(9, headers=[("traceparent", b"00-ab"), ("empty", None)])
    replay.produce(b"nonsense")
    copy = f"{replay.settings.topic_prefix}.copy"
    done = json.loads(replay("run", "trades.executed", "--into", f"topic:{copy}", "--yes", "--json"))
    copied = replay.messages(copy)
    assert sorted(map(whole, copied), key=repr) == sorted(map(whole, replay.messages(replay.topic)), key=repr)
    assert {dict(message.headers() or ())["x-replay-id"] for message in copied} == {done["id"].encode()}
    assert replay.groups() == set()
    live = replay("run", "trades.executed", "--into", f"topic:{replay.topic}", "--yes", status=2)
    assert "the platform lives on it" in live


def test_a_replay_into_a_topic_that_is_killed_goes_on_and_writes_everything_once(replay: Replays) -> None:
    replay.publish(1_500)
    copy = f"{replay.settings.topic_prefix}.copy"
    killed = replay.killed_when_it_has_written(200, "--into", f"topic:{copy}", "--rate", "300")
    [shown] = json.loads(replay("status", killed, "--json"))
    assert shown["state"] == "interrupted"
    assert {one.group for one in lag.lags(replay.settings)} == {f"{replay.settings.topic_prefix}.replay.{killed}"}
    assert group_lags(load(WatchSettings)) == []  # it is no consumer that is behind
    # As of a kill after the transaction and before its job's file: the transaction is what counts.
    jobs = Jobs(replay.folder / "state")
    job = jobs.get(killed)
    job.next, job.counts = {}, Counts()
    jobs.save(job)
    done = json.loads(replay("run", "--resume", killed, "--json"))
    assert sorted(map(whole, replay.messages(copy)), key=repr) == sorted(
        map(whole, replay.messages(replay.topic)), key=repr
    )
    assert done["counts"] == asdict(Counts(read=1_500, written=1_500))
    assert "there is nothing to go on with" in replay("run", "--resume", killed, status=1)
    assert "complete" in replay("status")


def test_a_replay_into_a_file_that_is_killed_goes_on_and_writes_everything_once(
    replay: Replays, tmp_path: Path
) -> None:
    replay.publish(1_500)
    out = tmp_path / "out.jsonl"
    killed = replay.killed_when_it_has_written(200, f"--into=file:{out}", "--rate", "300")
    [part] = tmp_path.glob("out.jsonl.*.part")
    with part.open("a") as file:
        file.write('{"half": "a li')  # as of a kill in the middle of a write
    assert not out.exists()
    done = json.loads(replay("run", "--resume", killed, "--json"))
    assert sequences(out) == list(range(1_500))
    assert done["counts"]["written"] == 1_500
    assert not part.exists()


def test_a_job_that_runs_is_cancelled_and_says_so(replay: Replays, tmp_path: Path) -> None:
    replay.publish(300)
    with replay.begun(f"--into=file:{tmp_path / 'out'}", "--speed", "1x") as process:
        until(lambda: any(job["counts"]["written"] for job in replay.jobs()))
        [job] = replay.jobs()
        assert "running in another process" in replay("run", "--resume", job["id"], status=1)
        assert "told to stop" in replay("cancel", job["id"])
        assert process.wait(20) == 1
    assert f"replay {job['id']} was cancelled" in (tmp_path / "said").read_text()
    assert [job["state"] for job in replay.jobs()] == ["cancelled"]
    assert list(tmp_path.glob("out*")) == []


def test_a_job_that_is_asked_to_end_says_how_to_go_on(replay: Replays, tmp_path: Path) -> None:
    replay.publish(300)
    with replay.begun(f"--into=file:{tmp_path / 'out'}", "--rate", "100") as process:
        until(lambda: any(job["counts"]["written"] for job in replay.jobs()))
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 1
    [job] = replay.jobs()
    assert f"to go on: sentio replay run --resume {job['id']}" in (tmp_path / "said").read_text()
    assert "is cancelled" in replay("cancel", job["id"])
    assert list(tmp_path.glob("out*")) == []


def test_whoever_watches_knows_of_each_job_wherever_it_runs(
    replay: Replays, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENTIO_DATABASE", database)
    migrate(SecretStr(database))
    replay.publish(300)
    with closing(pool(SecretStr(database), name="watching", size=1)) as watching:

        def known() -> dict[str, Any]:
            return next(iter(newest(watching)), {})

        into = f"file:{tmp_path / 'out'}"
        with replay.begun("--into", into, "--rate", "20", "--symbol", "TQQQ"):
            until(lambda: known().get("records_written"))
            found = known()
            assert [found[name] for name in ("what", "target", "state", "offsets")] == [
                "trades.executed symbol=TQQQ",
                into,
                "running",
                300,
            ]
            assert 0 < found["offsets_done"] < 300
        until(lambda: known()["state"] == "interrupted")  # it was killed, and could not say so
        [part] = tmp_path.glob("out.*.part")
        written = part.read_text()
        part.write_text("")
        replay("run", "--resume", found["id"], status=1)
        assert known()["state"] == "failed"
        assert "is shorter than" in known()["cause"]
        part.write_text(written)
        replay("run", "--resume", found["id"])
        done = known()
        assert [done[name] for name in ("id", "state", "cause", "offsets_done", "records_written")] == [
            found["id"],
            "complete",
            None,
            300,
            100,
        ]


def test_speed_keeps_the_order_and_the_distance_of_event_times(replay: Replays, tmp_path: Path) -> None:
    replay.publish(60)
    begin_s = time.monotonic()
    replay(
        "run", "trades.executed", f"--into=file:{tmp_path / 'out'}", "--speed", "1770x", "--yes"
    )  # 59 minutes in 2 s
    assert time.monotonic() - begin_s > 2
    written = [json.loads(line)["sequence"] for line in (tmp_path / "out").read_text().splitlines()]
    assert written == list(range(60))


@pytest.fixture
def settings(replay: Replays, database: str, monkeypatch: pytest.MonkeyPatch) -> ConsumerSettings:
    """Of a consumer on the log of the replay, and a database with its tables."""
    monkeypatch.setenv("SENTIO_DATABASE", database)
    settings = load(ConsumerSettings, kafka=replay.settings.kafka, topic_prefix=replay.settings.topic_prefix)
    migrate(settings.database)
    return settings


class Copy(Store):
    """A new group that reads what the store reads."""

    name = "copy"
    topics = ("trades.executed",)


def test_a_new_group_begins_where_it_is_told_to(replay: Replays, database: str, settings: ConsumerSettings) -> None:
    replay.publish(30)
    begin = ("--last", "70m", "--yes")
    replay("run", "trades.executed", "--into", "group:copy", "--owns-offsets", *begin)
    [[begins]] = rows(database, "select sum(next_offset) from consumer_offsets where group_name = 'copy'")
    wanted = 30 - int(begins)
    assert wanted in {9, 10}
    assert replay.groups() == {f"{replay.settings.topic_prefix}.copy"}
    with running(Copy(settings), settings):
        until(lambda: count(database, "trades") == wanted)
    again = replay("run", "trades.executed", "--into", "group:copy", "--owns-offsets", *begin, status=2)
    assert "only a new group" in again
    live = replay("run", "trades.executed", "--into", "group:other", "--to", "2025-10-10", "--yes", status=2)
    assert "leave --to" in live


class Killed(BaseException):
    """As SIGKILL would: nobody notes anything."""


class KilledInBetween(AdminClient):
    def alter_consumer_group_offsets(self, *_: Any, **__: Any) -> Any:
        raise Killed


def killed_in_between(replay: Replays, *options: str) -> str:
    """The id of a job that has told the database where a new group begins, and not Kafka."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seeding, "AdminClient", KilledInBetween)
        with pytest.raises(Killed):
            replay("run", "trades.executed", "--into", "group:copy", "--yes", *options)
    return str(replay.jobs()[-1]["id"])


def test_a_group_whose_job_was_killed_between_database_and_kafka_begins_where_it_was_told_to(
    replay: Replays, database: str, settings: ConsumerSettings
) -> None:
    replay.publish(30)
    killed = killed_in_between(replay, "--owns-offsets", "--last", "70m")
    stood = rows(database, "select * from consumer_offsets order by partition")
    assert len(stood) == 3
    assert replay.groups() == set()
    another = replay("run", "trades.executed", "--into", "group:copy", "--owns-offsets", "--yes", status=2)
    assert "it has offsets in the database already" in another

    assert "copy begins where the plan says" in replay("run", "--resume", killed)
    assert rows(database, "select * from consumer_offsets order by partition") == stood
    assert replay.groups() == {f"{replay.settings.topic_prefix}.copy"}
    wanted = 30 - sum(row[4] for row in stood)
    with running(Copy(settings), settings):
        until(lambda: count(database, "trades") == wanted)


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize(
    "change", ["next_offset = next_offset + 1", "generation = 1", "topic_id = 'another'", "topic = topic || '.other'"]
)
def test_a_group_that_stands_elsewhere_or_was_claimed_since_is_not_ours(
    replay: Replays, database: str, change: str
) -> None:
    replay.publish(9)
    killed = killed_in_between(replay, "--owns-offsets")
    rows(database, f"update consumer_offsets set {change} where partition = 1 returning 1")
    assert "it has offsets in the database already" in replay("run", "--resume", killed, status=2)
    assert replay.groups() == set()
    assert replay.jobs()[-1]["state"] == "failed"
