"""The long run of the gateway's benchmark: 15,000 clients, of whom one in a hundred leaves each second and comes back.

Each client follows the offsets of what it hears over all its connections, so that what is lost or repeated is counted
exactly: the topic is empty when it begins, and in the end each client must have had all of it.
"""

import os
import time
from collections.abc import Mapping
from typing import Any

from benchmarks import clocks, gateway_load, gateway_servers
from benchmarks.gateway_load import Load
from benchmarks.gateway_servers import Ours
from benchmarks.harness import Differs, Unavailable
from benchmarks.memory import kernel_kb, own_kb
from benchmarks.stage import Stage

CLIENTS = 15_000
CHURN = 0.01
"""Of all clients, in a second."""

EVERY_S = 0.5
"""Between two trades."""

LONGEST_AWAY_S = 5.0
"""So long, at most, is one away: what it misses comes from memory."""

LAST_S = float(os.environ.get("CHURN_S", "600"))
SETTLED_S = 60.0
HEARTBEAT_S = 15.0
IDLE_S = 2 * HEARTBEAT_S
WHO = f"sentio, {CLIENTS:,} connections with churn"


def row(stage: Stage, clients: int = CLIENTS, last_s: float = LAST_S, idle_s: float = IDLE_S) -> dict[str, Any]:
    """The row, in JSON's form: one round of ``last_s`` seconds."""
    try:
        with gateway_servers.ours(stage, heartbeat_s=HEARTBEAT_S) as running:
            base_kb, kernel_before_kb = own_kb(running.program.pid), kernel_kb()
            with gateway_load.started(stage, running.port, clients, [*running.options, "--check"]) as load:
                load.wait("live", clients, limit_s=120)
                time.sleep(1)
                sockets_kb = kernel_kb() - kernel_before_kb
                watch = clocks.Watch({"server": clocks.exact(running.program.pid)}).start()
                time.sleep(idle_s)
                idle_s_per_s = watch.stop()[0]["server"] / idle_s
                watch.start()
                _publish(running, load, clients, last_s)
                found = _settled(load, running.trading.ends(), clients)
                cpu_s, wall_s = watch.stop()
                memory = {
                    "memory_kb_per_connection": round((own_kb(running.program.pid) - base_kb) / clients, 2),
                    "kernel_kb_per_connection": round(sockets_kb / clients, 2),
                    "base_mb": round(base_kb / 1e3, 1),
                }
                return as_row(
                    found,
                    expected=running.trading.published * clients,
                    cpu_s=cpu_s["server"],
                    wall_s=wall_s,
                    parts=memory | {"idle_ms_per_s": round(idle_s_per_s * 1000, 2), "seconds": last_s},
                )
    except Unavailable as failure:
        return {"who": WHO, "why": str(failure)}


def _publish(running: Ours, load: Load, clients: int, last_s: float) -> None:
    load.ask(f"churn {clients * CHURN:g} {LONGEST_AWAY_S:g}")
    began_s = time.monotonic()
    for turn in range(int(last_s / EVERY_S)):
        time.sleep(max(0.0, began_s + turn * EVERY_S - time.monotonic()))
        running.publish(1)
    load.ask("churn 0 0")


def _settled(load: Load, ends: list[int], clients: int) -> dict[str, Any]:
    """What the clients found once all are back and nothing more comes, or the time is over."""
    command = f"ends {' '.join(map(str, ends))}"
    deadline_s = time.monotonic() + SETTLED_S
    load.wait("live", clients, limit_s=SETTLED_S)
    while (found := load.ask(command))["lost"] and time.monotonic() < deadline_s:
        time.sleep(0.2)
    return found


def as_row(
    found: Mapping[str, Any], *, expected: int, cpu_s: float, wall_s: float, parts: Mapping[str, float]
) -> dict[str, Any]:
    """Raises `Differs` when the clients' own account does not add up to what was published for them."""
    total, lost, repeated = found["total"], found["lost"], found["repeated"]
    if total - repeated + lost != expected:
        raise Differs(f"{total:,} updates, {lost:,} lost and {repeated:,} repeated are not {expected:,} deliveries")
    if found["errors"]:
        raise Differs(f"{found['errors']:,} errors, or updates whose prev is not the one before")
    counted = {name: found[name] for name in ("lost", "repeated")}
    counted["failures"] = sum(found[name] for name in ("resume_failed", "resets", "dropped"))
    return {
        "who": WHO,
        "cpu_us_per_event": round(cpu_s / max(total, 1) * 1e6, 3),
        "wall_us_per_event": round(wall_s / max(total, 1) * 1e6, 3),
        "parts": {**parts, "reconnects": found["left"], "delivered_millions": round(total / 1e6, 3), **counted},
    }
