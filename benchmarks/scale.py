"""docs/scale.md: what one million users take, worked out from benchmarks/results/gateway.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks import gateway_churn, trades

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
TEXT = Path(__file__).with_name("scale.md")
"""The page with names of `text` for its figures."""

USERS = 1_000_000
BUSY = 0.6
"""Of a core, at most: the rest is for what comes all at once."""

CLIENTS = 10_000
"""Of a process, at most: a message is at its last client after that many sends."""

CORES = 8
"""Of an instance."""

LEAVE = 1 / 600
"""Of all users, in a second: a phone stays for ten minutes."""

HEADERS_BYTES = 70
"""4 of WebSocket, 66 of Ethernet, IP and TCP; counted once for what is sent together."""

SINGLE, AT_20_MS, AT_100_MS = (
    "sentio",
    "sentio, 1,000 connections, 100 a second",
    "sentio, 1,000 connections, 100 a second, 100 ms tick",
)
COMPRESSED_SINGLE = "sentio, 1,000 connections, compressed"
COMPRESSED_TOGETHER = "sentio, 1,000 connections, 100 a second, compressed"


@dataclass(frozen=True)
class Load:
    """What each user hears, and the rows with the figures for it."""

    name: str
    messages_s: float
    cost: str
    plain: str
    compressed: str
    sent_together: float


LOADS = [
    Load("1 a second", 1, SINGLE, SINGLE, COMPRESSED_SINGLE, 1),
    Load("10 a second", 10, SINGLE, SINGLE, COMPRESSED_SINGLE, 1),
    Load("100 a second, 20 ms tick", 100, AT_20_MS, AT_20_MS, COMPRESSED_TOGETHER, 2),
    Load("100 a second, 100 ms tick", 100, AT_100_MS, AT_100_MS, COMPRESSED_TOGETHER, 10),
]

NEEDED = {SINGLE, AT_20_MS, AT_100_MS, COMPRESSED_SINGLE, COMPRESSED_TOGETHER, gateway_churn.WHO}


@dataclass(frozen=True)
class Need:
    """What a load takes for all users."""

    cores: float
    processes: int
    instances: int
    kafka_mb_s: float
    plain_gbit_s: float
    compressed_gbit_s: float


def write(result: Mapping[str, Any], page: Path = PAGE) -> bool:
    """Write the page; False, and nothing is written, where figures are missing."""
    rows = {row["who"]: row for row in result["rows"] if "why" not in row}
    if not rows.keys() >= NEEDED:
        return False
    page.write_text(text(rows, result["machine"]))
    return True


def need(load: Load, rows: Mapping[str, Mapping[str, Any]]) -> Need:
    deliveries_s = USERS * load.messages_s
    cores = deliveries_s * rows[load.cost]["cpu_us_per_event"] / 1e6 + _standing_cores(rows)
    processes = ceil(max(USERS / CLIENTS, cores / BUSY))

    def gbit_s(who: str) -> float:
        size = rows[who]["parts"]["bytes"] + HEADERS_BYTES / load.sent_together
        return float(deliveries_s * size * 8 / 1e9)

    return Need(
        cores=cores,
        processes=processes,
        instances=ceil(processes / CORES),
        kafka_mb_s=processes * load.messages_s * _record_bytes() / 1e6,
        plain_gbit_s=gbit_s(load.plain),
        compressed_gbit_s=gbit_s(load.compressed),
    )


def text(rows: Mapping[str, Mapping[str, Any]], machine: Mapping[str, Any]) -> str:
    single, churn = rows[SINGLE], rows[gateway_churn.WHO]
    parts, long = single["parts"], churn["parts"]
    handshakes_s = parts["handshakes_per_cpu_s"]
    processes = USERS // CLIENTS
    return TEXT.read_text().format(
        machine=f"{machine['processor']}, {machine['cores']} cores, Linux {machine['kernel']}",
        single=single["cpu_us_per_event"],
        at_20=rows[AT_20_MS]["cpu_us_per_event"],
        at_100=rows[AT_100_MS]["cpu_us_per_event"],
        compressed=rows[COMPRESSED_SINGLE]["cpu_us_per_event"],
        plain_bytes=parts["bytes"],
        compressed_bytes=rows[COMPRESSED_SINGLE]["parts"]["bytes"],
        together_bytes=rows[COMPRESSED_TOGETHER]["parts"]["bytes"],
        memory_kb=parts["memory_kb_per_connection"],
        memory_gb=parts["memory_kb_per_connection"] * USERS / 1e6,
        churned_kb=long["memory_kb_per_connection"],
        kernel_kb=long["kernel_kb_per_connection"],
        instance_gb=CORES * (long["base_mb"] / 1e3 + CLIENTS * long["memory_kb_per_connection"] / 1e6),
        base_mb=long["base_mb"],
        handshakes_s=handshakes_s,
        idle_ms=long["idle_ms_per_s"],
        idle_cores=_idle_cores(rows),
        coming_s=USERS * LEAVE,
        coming_cores=USERS * LEAVE / handshakes_s,
        standing_cores=_standing_cores(rows),
        table="\n".join(_line(load, rows) for load in LOADS),
        record_bytes=_record_bytes(),
        last_ms=CLIENTS * single["cpu_us_per_event"] / 1000,
        back_s=CLIENTS / handshakes_s,
        ready_s=CLIENTS / min(handshakes_s, 1_000),
        minutes=long["seconds"] / 60,
        delivered=long["delivered_millions"],
        reconnects=long["reconnects"],
        lost=long["lost"],
        repeated=long["repeated"],
        processes=processes,
        first=need(LOADS[0], rows),
    )


def _line(load: Load, rows: Mapping[str, Mapping[str, Any]]) -> str:
    found = need(load, rows)
    figures = [
        f"{found.cores:,.0f}",
        f"{found.processes:,}",
        f"{found.instances:,}",
        f"{found.kafka_mb_s:,.2f} MB/s",
        f"{found.plain_gbit_s:,.1f} Gbit/s",
        f"{found.compressed_gbit_s:,.1f} Gbit/s",
    ]
    return f"| {load.name} | {' | '.join(figures)} |"


def _standing_cores(rows: Mapping[str, Mapping[str, Any]]) -> float:
    """For connections that hear nothing, and those that come anew."""
    return _idle_cores(rows) + USERS * LEAVE / float(rows[SINGLE]["parts"]["handshakes_per_cpu_s"])


def _idle_cores(rows: Mapping[str, Mapping[str, Any]]) -> float:
    idle_ms_per_s = float(rows[gateway_churn.WHO]["parts"]["idle_ms_per_s"])
    return idle_ms_per_s / 1000 * USERS / gateway_churn.CLIENTS


def _record_bytes() -> float:
    """Of a trade in Kafka, without what its batch takes."""
    made = trades.make(200)
    return mean(len(key) + len(value) for key, value in zip(made.keys, made.values, strict=True))
