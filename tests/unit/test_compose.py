"""docker-compose.yml and Dockerfile say what the code says: names of settings, defaults, ports, versions."""

import re
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import pytest
import yaml

from schemas.topics import KAFKA_DAYS
from sentio.cli.run import CONSUMERS, GATEWAYS, OBSERVERS
from sentio.config import (
    PREFIX,
    ArchiveSettings,
    ConsumerSettings,
    DatabaseSettings,
    ObservedSettings,
    PublisherSettings,
    RestSettings,
    Settings,
    StreamSettings,
    WatchSettings,
)

ROOT = Path(__file__).parents[2]
PROCESSES = {"store", "aggregates", "archive", "stream", "rest", "watcher", "lag"}
SERVERS = {"kafka", "timescaledb"}
KINDS = {
    "init": Settings,
    "store": ConsumerSettings,
    "aggregates": ConsumerSettings,
    "archive": ArchiveSettings,
    "stream": StreamSettings,
    "rest": RestSettings,
    "watcher": WatchSettings,
    "lag": ObservedSettings,
}


def compose() -> dict[str, Any]:
    return cast("dict[str, Any]", yaml.safe_load((ROOT / "docker-compose.yml").read_text()))


def services() -> dict[str, Any]:
    return cast("dict[str, Any]", compose()["services"])


def value(text: object) -> str:
    """What compose makes of ``${NAME:-default}`` where NAME is not set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(text))


def environment(service: str) -> dict[str, str]:
    return {name: value(text) for name, text in services()[service]["environment"].items()}


def dockerfile() -> list[tuple[str, str]]:
    """(instruction, rest of the line)."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


def default(kind: type[Settings], name: str) -> Any:
    return kind.model_fields[name].default


def test_services_are_the_servers_and_the_processes_of_the_platform() -> None:
    assert set(services()) == SERVERS | {"init"} | PROCESSES
    assert {*CONSUMERS, *GATEWAYS, *OBSERVERS} == PROCESSES


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_process_is_started_by_a_command_that_exists(name: str) -> None:
    assert services()[name]["command"] == ["run", name]
    assert ("ENTRYPOINT", '["sentio"]') in dockerfile()


@pytest.mark.parametrize("name", sorted(PROCESSES | SERVERS))
def test_service_has_a_health_check_and_is_started_again(name: str) -> None:
    service = services()[name]

    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}


def test_topics_are_made_once_and_waited_for() -> None:
    assert services()["init"]["command"] == ["topics", "apply"]
    assert services()["init"]["restart"] == "on-failure"
    for name in ("store", "aggregates", "archive", "stream"):
        assert services()[name]["depends_on"]["init"] == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_setting_is_one_that_the_process_reads(name: str) -> None:
    given = {key for key in environment(name) if key.startswith(PREFIX)}
    # The statistics are announced on a topic of their own, so they publish too.
    known = {*KINDS[name].model_fields, *PublisherSettings.model_fields, *DatabaseSettings.model_fields}

    assert given <= {f"{PREFIX}{field.upper()}" for field in known}


def test_settings_that_are_not_about_addresses_have_the_defaults_of_the_code() -> None:
    shown = environment("store")

    for field in ("topic_prefix", "partitions", "replication", "log_level"):
        assert shown[f"{PREFIX}{field.upper()}"] == str(default(Settings, field))


@pytest.mark.parametrize(("name", "field"), [("stream", "stream_port"), ("rest", "rest_port")])
def test_gateway_is_published_where_its_default_port_is(name: str, field: str) -> None:
    port = default(KINDS[name], field)

    assert environment(name)[f"{PREFIX}{field.upper()}"] == str(port)
    assert services()[name]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"http://127.0.0.1:{port}/readyz" in services()[name]["healthcheck"]["test"][-1]


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_prometheus_asks_each_process_at_its_metrics_port(name: str) -> None:
    jobs = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in jobs}

    assert targets[name] == [f"{name}:{environment(name)[f'{PREFIX}METRICS_PORT']}"]


@pytest.mark.parametrize("name", sorted(CONSUMERS))
def test_consumer_is_asked_for_its_health_at_its_metrics_port(name: str) -> None:
    port = environment(name)[f"{PREFIX}METRICS_PORT"]

    assert f"http://127.0.0.1:{port}/readyz" in services()[name]["healthcheck"]["test"][-1]


def test_clients_on_the_machine_need_no_settings() -> None:
    bootstrap = default(Settings, "kafka")
    assert f"OUTSIDE://{bootstrap}" in environment("kafka")["KAFKA_ADVERTISED_LISTENERS"].split(",")
    assert services()["kafka"]["ports"] == [f"{bootstrap}:9092"]

    url = urlsplit(default(DatabaseSettings, "database").get_secret_value())
    given = environment("timescaledb")
    assert (url.username, url.password) == (given["POSTGRES_USER"], given["POSTGRES_PASSWORD"])
    assert url.path == f"/{given['POSTGRES_DB']}"
    assert services()["timescaledb"]["ports"] == [f"{url.hostname}:{url.port}:5432"]


@pytest.mark.parametrize("name", sorted(KINDS))
def test_services_find_each_other_by_name(name: str) -> None:
    given = environment(name)
    inside = urlsplit(given[f"{PREFIX}DATABASE"])
    server = environment("timescaledb")

    assert f"INSIDE://{given[f'{PREFIX}KAFKA']}" in environment("kafka")["KAFKA_ADVERTISED_LISTENERS"].split(",")
    assert (inside.hostname, inside.port) == ("timescaledb", 5432)
    assert (inside.username, inside.password) == (server["POSTGRES_USER"], server["POSTGRES_PASSWORD"])


def test_kafka_is_the_version_that_the_local_stack_runs() -> None:
    pom = ET.parse(ROOT / "sentio/stack/pom.xml")
    space = {"m": "http://maven.apache.org/POM/4.0.0"}
    versions = {
        dependency.findtext("m:artifactId", namespaces=space): dependency.findtext("m:version", namespaces=space)
        for dependency in pom.iterfind("m:dependencies/m:dependency", space)
    }

    assert services()["kafka"]["image"] == f"apache/kafka:{versions['kafka_2.13']}"


def test_kafka_keeps_what_the_topics_say_and_makes_none_by_itself() -> None:
    shared = (ROOT / "sentio/stack/kafka.properties").read_text().splitlines()

    assert environment("kafka")["KAFKA_LOG_RETENTION_HOURS"] == str(KAFKA_DAYS * 24)
    assert environment("kafka")["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert {f"log.retention.hours={KAFKA_DAYS * 24}", "auto.create.topics.enable=false"} <= set(shared)


def test_images_are_pinned() -> None:
    for name in SERVERS:
        assert re.search(r":\d+\.\d+\.\d+(-pg17)?$", services()[name]["image"]), name
    images = [rest for word, rest in dockerfile() if word == "FROM"]
    assert images == [
        "rust:1.95.0-slim-trixie AS native",
        "node:22.21.1-trixie-slim AS page",
        "python:3.11-slim-trixie",
    ]


def test_image_installs_with_hashes_and_runs_as_nobody_special() -> None:
    lines = dockerfile()
    installs = [rest for word, rest in lines if word == "RUN" and "pip install" in rest]

    assert "--require-hashes" in installs[0]
    assert "requirements.lock" in installs[0]
    assert all("--require-hashes" in rest or "--no-deps" in rest for rest in installs)
    # The last one counts, and nothing is installed after it.
    words = [word for word, _ in lines]
    assert int(dict(lines)["USER"]) > 0
    assert "RUN" not in words[words.index("USER") :]


def test_image_is_made_of_the_packages_and_nothing_else() -> None:
    packages = {"schemas", "producers", "consumers", "gateway", "sentio", "clients/python/sentio_client"}
    copies = [rest.split() for word, rest in dockerfile() if word == "COPY"]
    copied = {name for names in copies if not names[0].startswith("--from") for name in names[:-1]}
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    native = {"native/Cargo.toml", "native/pyproject.toml", "native/src"}
    page = {"clients/js", "gateway/dashboard"}
    assert copied == packages | native | page | {"requirements.lock", "pyproject.toml", "README.md"}
    assert let_in == copied - {"gateway/dashboard"}
