"""The file of one benchmark's result: benchmarks/results/NAME.json, without a path or a name of the machine."""

import json
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.stage import Stage

FOLDER = Path(__file__).with_name("results")

PACKAGES = ("confluent-kafka", "fastavro", "pgpq", "polars", "psycopg", "pyarrow")


def document(
    rows: Sequence[Mapping[str, Any]], *, events: int, rounds: int, versions: Mapping[str, str]
) -> dict[str, Any]:
    """The result as JSON has it."""
    return {
        "machine": machine(),
        "versions": dict(versions),
        "events": events,
        "rounds": rounds,
        "rows": list(rows),
    }


def write(name: str, result: Mapping[str, Any], folder: Path = FOLDER) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return path


def read_all(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """Every result there is, by name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def machine() -> dict[str, Any]:
    """What the figures depend on: processor, cores, memory, kernel."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", info, re.MULTILINE)
    memory_kb = int(re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)[1])  # type: ignore[index] # always there
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": info.count("\nprocessor") + info.startswith("processor"),
        "memory_gb": round(memory_kb / 1e6, 1),
        "kernel": platform.release().partition("-")[0],
    }


def versions(stage: Stage) -> dict[str, str]:
    """Of what every benchmark runs on; a benchmark may add its peers'."""
    with psycopg.connect(stage.database) as connection:
        postgres = connection.info.parameter_status("server_version") or "?"
    found = {"python": platform.python_version(), "postgresql": postgres.split()[0], "kafka": _kafka(), "java": _java()}
    return found | {package: version(package) for package in PACKAGES}


def _kafka() -> str:
    pom = Path(__file__).parents[1] / "sentio" / "stack" / "pom.xml"
    found = re.search(r"<artifactId>kafka_[^<]*</artifactId>\s*<version>([^<]+)<", pom.read_text())
    return found[1] if found else "?"


def _java() -> str:
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "([^"]+)"', said)
    return found[1] if found else "?"
