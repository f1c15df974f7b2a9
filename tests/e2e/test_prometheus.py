"""A real Prometheus, configured as deploy/prometheus has it, asks a running platform all that dashboard and alerts ask.

Opt-in as promtool is: it runs where Prometheus is (Debian: prometheus), and SENTIO_TEST_PROMTOOL=required makes its absence an error.
"""

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from sentio.config import ConsumerSettings
from sentio.stack.processes import free_port
from sentio.testing.servers import Kafka
from tests.pipeline import consumer_settings, until
from tests.ways import SENTIO, sentio_process
from tests.webhooks import receiver

ROOT = Path(__file__).parents[2]
BOARD = ROOT / "deploy/grafana/dashboards/sentio.json"

NOBODY_HERE = {"node"}
"""Jobs of prometheus.yml that are others' programs."""

EMPTY = {
    "sum by (code) (increase(sentio_stream_closed_total[5m]))": "no client was closed",
    "sum by (status) (increase(sentio_stream_refused_handshakes_total[5m]))": "no handshake was refused",
    'sentio_sidecar_source{figure="unread"}': "the engine speaks through a socket, not through a ring",
}
"""Expressions of the dashboard that find nothing on a healthy platform, and why."""

GREETING = {"engine": "rotation", "source": "0198c7b2-6d1a-7000-8000-000000000001", "line": 1, "mode": "paper"}
FILL = {
    "type": "TradeExecuted",
    "account": "paper-1",
    "strategy": "rotation",
    "symbol": "TQQQ",
    "action": "ENTRY",
    "side": "BUY",
    "quantity": 100,
    "price": "101.25",
    "fees": "0.35",
    "reason": "test",
    "executed_at": "2025-10-10T13:30:00Z",
}


def prometheus_program() -> str:
    found = shutil.which("prometheus")
    if found is None and os.environ.get("SENTIO_TEST_PROMTOOL") == "required":
        pytest.fail("SENTIO_TEST_PROMTOOL=required, and there is no prometheus", pytrace=False)
    if found is None:
        pytest.skip("no prometheus (Debian: prometheus)")
    return found


@contextmanager
def platform(settings: ConsumerSettings, folder: Path, ports: dict[str, int]) -> Iterator[Callable[[], None]]:
    """Each job of prometheus.yml with its metrics at its port, a simulated engine, one at a socket, and a client.

    What it gives has a fill come and a request be answered.
    """
    stream, rest = free_port(None), free_port(None)
    common = {
        "SENTIO_DATABASE": settings.database.get_secret_value(),
        "SENTIO_STREAM_PORT": str(stream),
        "SENTIO_REST_PORT": str(rest),
        "SENTIO_WATCH_STREAMS": f"ws://127.0.0.1:{stream}",
        "SENTIO_ARCHIVE": str(folder / "archive"),
    }

    def metrics(name: str) -> dict[str, str]:
        return {"SENTIO_METRICS_PORT": str(ports[name])}

    with ExitStack() as running:

        def start(name: str, *arguments: object) -> None:
            process = sentio_process(settings, folder / f"{name}.log", *arguments, **common, **metrics(name))
            running.enter_context(process)

        for name in ("store", "aggregates", "archive", "watcher", "stream", "rest", "lag"):
            start(name, "run", name)
        start("sidecar", "sidecar", "listen", folder / "engine.sock")
        running.enter_context(receiver(settings.kafka, settings.topic_prefix, folder, **metrics("webhooks")))
        until(lambda: all(_ready(port) for name, port in ports.items() if name != "simulate"))
        start("simulate", "simulate", "--speed", "60")
        listener = [str(SENTIO), "watch", "trades", "signals", "--url", f"ws://127.0.0.1:{stream}"]
        client = subprocess.Popen(listener, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        running.callback(client.wait)
        running.callback(client.kill)
        engine = running.enter_context(socket.socket(socket.AF_UNIX))
        engine.connect(str(folder / "engine.sock"))
        engine.sendall(json.dumps(GREETING).encode() + b"\n")
        asked = running.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{rest}", timeout=10))

        def goes_on() -> None:
            engine.sendall(json.dumps(FILL).encode() + b"\n")
            asked.get("/api/v1/portfolio", params={"account": "paper-1"})

        yield goes_on


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).is_success
    except httpx.HTTPError:
        return False


@contextmanager
def prometheus(program: str, folder: Path, ports: dict[str, int]) -> Iterator[httpx.Client]:
    """Its API. Targets are those in use, and it asks every second; all else is as deploy/prometheus says."""
    given = ROOT / "deploy/prometheus"
    configuration = yaml.safe_load((given / "prometheus.yml").read_text())
    configuration["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    configuration["rule_files"] = [str(given / name) for name in configuration["rule_files"]]
    for job in configuration["scrape_configs"]:
        job.pop("scrape_timeout", None)
        name = job["job_name"]
        wanted = [] if name in NOBODY_HERE else [ports[name]]
        wanted += [ports["simulate"]] if name == "sidecar" else []  # whoever publishes
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in wanted]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    port = free_port(None)
    command = [program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with (folder / "prometheus.log").open("wb") as said:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=said, stderr=said)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=10) as client:
                until(lambda: httpx.get(f"http://127.0.0.1:{port}/-/ready").is_success if _listens(port) else False)
                yield client
        finally:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def found(client: httpx.Client, expression: str) -> list[Any]:
    """What Prometheus answers, without what is no number; an expression that it does not take fails."""
    asked = re.sub(r"\$__rate_interval", "30s", expression)
    assert "$" not in asked
    answer = client.get("/query", params={"query": asked}).json()
    assert answer["status"] == "success", (expression, answer)
    return [one for one in answer["data"]["result"] if one["value"][1] != "NaN"]


def test_prometheus_finds_what_dashboard_and_alerts_ask_for(kafka: Kafka, database: str, tmp_path: Path) -> None:
    program = prometheus_program()
    settings = consumer_settings(kafka.bootstrap, kafka.prefix, database)
    jobs = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    ports = {job["job_name"]: free_port(None) for job in jobs if job["job_name"] not in NOBODY_HERE}
    ports["simulate"] = free_port(None)
    panels = json.loads(BOARD.read_text())["panels"]
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", ())]

    with platform(settings, tmp_path, ports) as goes_on, prometheus(program, tmp_path, ports) as client:

        def empty() -> set[str]:
            goes_on()
            return {expression for expression in expressions if not found(client, expression)}

        missing: set[str] = set()

        def all_there() -> bool:
            missing.clear()
            missing.update(empty() - EMPTY.keys())
            return not missing

        try:
            until(all_there)
        except AssertionError:
            pytest.fail(f"nothing is found by {sorted(missing)}")
        assert empty() >= EMPTY.keys()
        targets = client.get("/targets").json()["data"]["activeTargets"]
        assert {one["labels"]["job"]: one["health"] for one in targets} == dict.fromkeys(
            ports.keys() - {"simulate"}, "up"
        )
        rules = [rule for group in client.get("/rules").json()["data"]["groups"] for rule in group["rules"]]
        assert len(rules) > 10
        assert [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] != "ok"] == []
        assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
