"""The fixtures every team uses: a fresh corner for each test, and no surprise for who does not use them."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from confluent_kafka.admin import AdminClient

from sentio.stack.kafka import KafkaServer
from sentio.testing import servers
from sentio.testing.servers import Kafka

USES_NO_FIXTURE = """
import sys

def test_nothing():
    costly = {"confluent_kafka", "docker", "psycopg", "sentio.stack", "sentio.testing.servers", "testcontainers"}
    assert not costly & set(sys.modules)
"""


def test_kafka_answers_and_its_names_are_nobody_elses(kafka: Kafka, kafka_server: str) -> None:
    other = Kafka(kafka_server, servers.fresh_prefix())

    assert AdminClient({"bootstrap.servers": kafka.bootstrap}).list_topics(timeout=10).brokers
    assert kafka.topic("a") != other.topic("a")
    assert kafka.group("g") != kafka.group("g")


def test_database_is_empty_and_dropped_under_open_connections(database_server: str) -> None:
    with servers.fresh_database(database_server) as dsn:
        connection = psycopg.connect(dsn)
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()

    assert tables == (0,)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(dsn)
    connection.close()


def test_killed_broker_comes_back_at_its_address(own_kafka: KafkaServer) -> None:
    address = own_kafka.address
    own_kafka.kill()
    assert own_kafka.pid is None

    assert own_kafka.start() == address


def test_address_in_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(servers.KAFKA_SETTING, "broker:9092")
    with servers.kafka_server(tmp_path) as address:
        assert address == "broker:9092"


def test_required_containers_are_not_replaced_by_local_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(servers.KAFKA_SETTING, raising=False)
    monkeypatch.setenv(servers.CONTAINERS_SETTING, "required")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody")

    with (
        pytest.raises(pytest.fail.Exception, match="required, but no Docker engine answers"),
        servers.kafka_server(tmp_path),
    ):
        pass


def test_plugin_costs_nothing_where_no_fixture_is_used(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text(USES_NO_FIXTURE)

    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-W",
            "error",
            str(tmp_path),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
