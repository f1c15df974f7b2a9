"""Alerts and dashboard: what they ask for is there, and each alert fires when it should, and only then (promtool)."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.test_documents import ROOT, rows

FOLDER = ROOT / "deploy/prometheus"
ELSEWHERE = {"up", "node_filesystem_avail_bytes", "node_filesystem_size_bytes", "sentio_reconcile_differences"}
"""Of Prometheus itself, of its node exporter, and of the reconciliation."""


def promtool(*arguments: str) -> str:
    found = shutil.which("promtool")
    if found is None and os.environ.get("SENTIO_TEST_PROMTOOL") == "required":
        pytest.fail("SENTIO_TEST_PROMTOOL=required, and there is no promtool", pytrace=False)
    if found is None:
        pytest.skip("no promtool (Debian: prometheus)")
    done = subprocess.run([found, *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def asked_for(expression: str) -> set[str]:
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bsentio_\w+", expression)}
    return names - ELSEWHERE


def test_rules_and_configuration_are_what_prometheus_takes() -> None:
    assert f"{len(alerts())} rules found" in promtool("check", "rules", "alerts.yml")
    promtool("check", "config", "prometheus.yml")


def test_each_alert_fires_when_it_should_and_only_then() -> None:
    promtool("test", "rules", "alerts_test.yml")
    tested = (FOLDER / "alerts_test.yml").read_text()
    for rule in alerts():
        assert re.search(rf"alertname: {rule['alert']}\n +exp_alerts", tested), rule["alert"]


def test_alerts_and_dashboard_ask_for_metrics_that_there_are() -> None:
    listed = rows((ROOT / "docs/metrics.md").read_text()).keys()
    board = json.loads((ROOT / "deploy/grafana/dashboards/sentio.json").read_text())
    expressions = [rule["expr"] for rule in alerts()]
    expressions += [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]

    for expression in expressions:
        assert asked_for(expression) <= set(listed), expression


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_each_alert_names_a_page_that_says_what_to_do(rule: dict[str, Any]) -> None:
    page = Path(rule["annotations"]["runbook"])

    assert page.parent == Path("docs/runbooks")
    assert rule["annotations"]["summary"]
    assert (ROOT / page).is_file()


def test_panels_do_not_overlap() -> None:
    board = json.loads((ROOT / "deploy/grafana/dashboards/sentio.json").read_text())
    places = [panel["gridPos"] for panel in board["panels"]]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]

    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
