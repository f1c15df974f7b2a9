"""An event that gained a field, in a copy of the project that is a version ahead of this one."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import schemas
from consumers.store.store import Store
from producers.publisher import EventPublisher
from sentio.config import ConsumerSettings
from sentio.database import next_migration
from sentio.testing.servers import Kafka
from tests.pipeline import consumer_settings, count, publisher_settings, rows, running, until
from tests.samples import trade

PROJECT = Path(schemas.__file__).parents[1]
FIELD = {"name": "venue", "type": "string", "doc": "Where it was filled.", "default": "unknown"}
MIGRATION = "alter table trades add column venue text not null default 'unknown'"
SENTIO = "from sentio.cli.main import main; main()"


class Ahead:
    """The copy; ``settings`` say where its processes find Kafka and the database."""

    def __init__(self, folder: Path, settings: ConsumerSettings) -> None:
        self.folder = folder
        for package in ("schemas", "sentio", "producers", "consumers"):
            shutil.copytree(PROJECT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        avro = folder / "schemas" / "avro" / "trade_executed.avsc"
        schema = json.loads(avro.read_text())
        avro.write_text(json.dumps(schema | {"fields": [*schema["fields"], FIELD]}))
        self._environment = os.environ | {
            "PYTHONPATH": str(folder),
            "SENTIO_KAFKA": settings.kafka,
            "SENTIO_TOPIC_PREFIX": settings.topic_prefix,
            "SENTIO_DATABASE": settings.database.get_secret_value(),
        }
        assert self.run("schemas", "lock").stdout == "1 versions added\n"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of it, to its end."""
        return subprocess.run(
            [sys.executable, "-c", SENTIO, *arguments],
            env=self._environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def migrate(self) -> None:
        (self.folder / "sentio" / "migrations" / f"{next_migration():04}_venue.sql").write_text(MIGRATION)

    @contextmanager
    def store(self) -> Iterator[None]:
        process = subprocess.Popen(
            [sys.executable, "-c", SENTIO, "run", "store"], env=self._environment, cwd=self.folder
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture
def settings(kafka: Kafka, database: str) -> ConsumerSettings:
    return consumer_settings(kafka.bootstrap, kafka.prefix, database)


def publish(settings: ConsumerSettings, amount: int) -> None:
    """By this version, which does not know the field."""
    with EventPublisher(publisher_settings(settings), name="engine") as publisher:
        for number in range(amount):
            publisher.publish(trade(number))


def test_a_store_without_the_column_of_a_new_field_says_which_migration_is_missing(
    settings: ConsumerSettings, tmp_path: Path
) -> None:
    publish(settings, 5)
    refused = Ahead(tmp_path, settings).run("run", "store")
    assert refused.returncode == 1
    last = refused.stderr.splitlines()[-1]
    assert last.startswith("sentio: the tables do not fit the events: trades has no column venue")
    assert f"{next_migration():04}_NAME.sql" in last
    assert "alter table trades add column venue text not null default" in last
    assert count(settings.database.get_secret_value(), "trades") == 0


def test_publishers_and_stores_of_before_go_on_beside_the_new_ones(settings: ConsumerSettings, tmp_path: Path) -> None:
    database = settings.database.get_secret_value()
    ahead = Ahead(tmp_path, settings)
    ahead.migrate()
    publish(settings, 5)
    with ahead.store():
        until(lambda: count(database, "trades") == 5)
    publish(settings, 5)
    with running(Store(settings), settings):
        until(lambda: count(database, "trades") == 10)
    assert rows(database, "select venue, count(*) from trades group by 1") == [("unknown", 10)]
