"""One message to many WebSocket clients: `sentio run stream` beside `websockets.broadcast`, picows and Centrifugo."""

import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median
from typing import Any

from benchmarks import clocks, gateway_churn, gateway_load, gateway_servers
from benchmarks.gateway_load import Load
from benchmarks.gateway_servers import Running, Server
from benchmarks.goals import Goal
from benchmarks.harness import Unavailable, without_places
from benchmarks.memory import own_kb
from benchmarks.peers import centrifugo, installed
from benchmarks.stage import Stage

NAME = "gateway"
TITLE = "Gateway: one message to many WebSocket clients"
NOTES = """Microseconds of the server process for each message that a client received; not the broker's, the publisher's
or the clients'. `sentio` is the process `sentio run stream` on a real Kafka, one worker, with all it has: each client
shows a token, subscribes `trades` and gets a snapshot and cursors; its figures hold reading and decoding the log.
Only the limits that refuse a load test are off (connections of a user and an address, pace of handshakes). The limit
is one `send()` after the other from our native loop, with nothing around it. The others are sent our updates, the
same bytes but for the time, over a socket (`websockets.broadcast` and picows, without tokens and subscriptions) or by
its HTTP API (Centrifugo: token, subscription, history and recovery on, on as many cores as it likes). Rows without a
number are of 10,000 connections and single messages, 0.4 s apart; at 1,000 connections they are 50 ms apart, `10 a
second` and `100 a second` is what each client gets. `ten together` are published at once. Ours sends what comes
within a tick (`SENTIO_STREAM_WAIT_MS`, 20 ms or as said) together; Centrifugo joins what waits in a client's queue;
the other two send each by itself. `compressed`: the clients offer permessage-deflate; otherwise they do not. Clients
are one process in C (`benchmarks/load/`), which counts every message: a round in which one is missing does not count.
Times are from before the trade is encoded for Kafka, or is given to the peer, until the client has read it, server,
clients and broker sharing two cores. `memory_kb_per_connection` is the process's own (not the kernel's) once all are
connected; `kernel_kb_per_connection` is the machine's, for both ends; `handshakes_per_cpu_s` has token and
subscription in it where there are such; our heartbeats, every 15 seconds to all at once, are off but in the run with
churn, and pings of all fall where they fall: what both cost is in `idle_ms_per_s`, the processor's time for its
15,000 connections before anything is published; `bytes` is what a message takes on the wire without its frame's head.
With churn one client in a hundred leaves each second, half of them without a word, and comes back with its cursor
within five seconds; `lost` and `repeated` are counted by each client, by partition and offset, `failures` are cursors
that were refused, second snapshots, and connections that the server ended; one round, as long as `seconds` says."""
PROFILE = """In the kernel's `send`, as the limit's rows show, and in what each message costs whoever listens (measured
with one client): 2.2 ms of the process when it comes alone, four a second, of which librdkafka takes 0.8 (it asks the
broker again every 50 ms), the event loop's thread 0.8 and the feed's 0.6, each woken with cold caches: in a hot loop
decoding, JSON, cursor and frame together take 0.1 to 0.2. What comes within a tick is passed on together: at 100
messages a second each takes 1.1 ms with a tick of 20 ms, and 0.4 with one of 100 ms. A message that is late has mostly
waited for the clients before it: `send` to 1,000 takes some 10 ms. A full collection of garbage, which took 80 ms and
was the slowest 1 % of a run, no longer looks through what is loaded. A connection takes 6.2 KB of Python's objects, 1.1
of them uvloop's transport, 0.6 the timer that ends it with its token."""
WEBSOCKETS, CENTRIFUGO = "websockets.broadcast", "centrifugo"
AT_1000 = "1,000 connections"
GOALS = [
    Goal("0.65 of websockets.broadcast at 1,000 connections", times=0.65, than=f"{WEBSOCKETS}, {AT_1000}",
         who=f"sentio, {AT_1000}"),
    Goal("0.75 of websockets.broadcast at 10,000 connections", times=0.75, than=WEBSOCKETS),
    Goal("0.6 of Centrifugo at 1,000 connections", times=0.6, than=f"{CENTRIFUGO}, {AT_1000}",
         who=f"sentio, {AT_1000}"),
    Goal("0.6 of Centrifugo at 10,000 connections", times=0.6, than=CENTRIFUGO),
    Goal("100 messages a second a client: a third of Centrifugo at a 20 ms tick", times=1 / 3,
         than=f"{CENTRIFUGO}, {AT_1000}, 100 a second", who=f"sentio, {AT_1000}, 100 a second"),
    Goal("the same: an eighth at 100 ms", times=1 / 8, than=f"{CENTRIFUGO}, {AT_1000}, 100 a second",
         who=f"sentio, {AT_1000}, 100 a second, 100 ms tick"),
    Goal("under 8 KB of its own memory a connection", at_most_us=8.0, part="memory_kb_per_connection", unit="KB"),
    Goal("publish to client: 99 % under 50 ms at 10,000 deliveries a second", at_most_us=50.0, part="p99_ms", unit="ms",
         who=f"sentio, {AT_1000}, 10 a second"),
    Goal("15,000 connections with churn: nothing lost", at_most_us=0.0, part="lost", unit="lost",
         who=gateway_churn.WHO),
]  # fmt: skip

SETTLE_S = 1.0
LIMIT_S = 60.0


@dataclass(frozen=True)
class Pace:
    """What is published in one measurement: ``turns`` times ``together`` trades, ``every_s`` apart."""

    name: str
    every_s: float
    turns: int
    together: int = 1

    @property
    def messages(self) -> int:
        return self.turns * self.together


@dataclass(frozen=True)
class Setting:
    """Clients of one server, and the paces at which it is measured with them."""

    clients: int
    paces: Sequence[Pace]
    tick_ms: float | None = None
    """Another than ours has anyway: for ours alone."""

    compressed: bool = False

    def suits(self, server: Server) -> bool:
        return (server.compresses or not self.compressed) and (server.who == "sentio" or self.tick_ms is None)

    def name(self, pace: Pace) -> str:
        """Of a row, without whose it is."""
        said = ["" if self.clients == 10_000 else f"{self.clients:,} connections", pace.name]
        said.append("" if self.tick_ms is None else f"{self.tick_ms:g} ms tick")
        said.append("compressed" if self.compressed else "")
        return ", ".join(each for each in said if each)


SINGLE, TEN, HUNDRED = Pace("", 0.05, 60), Pace("10 a second", 0.1, 25), Pace("100 a second", 0.01, 300)
SETTINGS = [
    Setting(1_000, [SINGLE, TEN, HUNDRED]),
    Setting(1_000, [HUNDRED], tick_ms=100),
    Setting(1_000, [SINGLE, Pace("100 a second", 0.01, 100)], compressed=True),
    Setting(10_000, [Pace("", 0.4, 10), Pace("ten together", 0.5, 4, together=10)]),
]
EVENTS = sum(setting.clients * pace.messages for setting in SETTINGS for pace in setting.paces)
"""Deliveries of ours in a round."""

Figures = dict[str, float]


def rows(stage: Stage, rounds: int) -> list[dict[str, Any]]:
    """A row for every contestant and setting, and one of the run with churn, in JSON's form."""
    done: defaultdict[str, list[Figures]] = defaultdict(list)
    out: dict[str, str] = {}
    stage.say(f"  {gateway_churn.WHO}, for {gateway_churn.LAST_S:g} s")
    churned = gateway_churn.row(stage)
    servers = gateway_servers.contestants(gateway_servers.recorded(stage))
    for _ in range(rounds):
        for setting in SETTINGS:
            for server in servers:
                if setting.suits(server) and server.who not in out:
                    try:
                        found = measured(stage, server, setting)
                    except Unavailable as failure:
                        out[server.who] = without_places(str(failure))
                        stage.say(f"  {server.who}: {out[server.who]}")
                        continue
                    for name, figures in found.items():
                        who = f"{server.who}, {name}" if name else server.who
                        stage.say(f"  {who}: {figures['cpu_us']:.2f} µs")
                        done[who].append(figures)
    made = [row(who, figures) for who, figures in _in_order(done) if who not in out]
    made += [{"who": who, "why": why} for who, why in out.items()]
    return [*made, churned]


def row(who: str, rounds: Sequence[Figures]) -> dict[str, Any]:
    """Median of each figure by itself."""
    middle = {name: round(median(each[name] for each in rounds), 3) for name in rounds[0]}
    total, wall = middle.pop("cpu_us"), middle.pop("wall_us")
    return {"who": who, "cpu_us_per_event": total, "wall_us_per_event": wall, "parts": middle}


def measured(stage: Stage, server: Server, setting: Setting) -> dict[str, Figures]:
    """Figures of a round, by the setting's name for each pace; raises `Unavailable`."""
    wishes: dict[str, Any] = {"compressed": True} if setting.compressed else {}
    if setting.tick_ms is not None:
        wishes["tick_ms"] = setting.tick_ms
    with ExitStack() as stack:
        running = stack.enter_context(server.started(stage, **wishes))
        clock, empty_kb = clocks.exact(running.program.pid), own_kb(running.program.pid)
        before_s = clock()
        load = stack.enter_context(gateway_load.started(stage, running.port, setting.clients, running.options))
        load.wait("live", setting.clients, limit_s=LIMIT_S)
        once: Figures = {"handshakes_per_cpu_s": setting.clients / max(clock() - before_s, 0.01)}
        time.sleep(SETTLE_S)
        once["memory_kb_per_connection"] = (own_kb(running.program.pid) - empty_kb) / setting.clients
        found = {}
        for pace in setting.paces:
            found[setting.name(pace)] = once | timed(running, load, setting.clients, pace)
            once = {}
        return found


def timed(running: Running, load: Load, clients: int, pace: Pace) -> Figures:
    """Publish at a pace, until everyone has everything."""
    load.ask("report")
    watch = clocks.Watch({"server": clocks.exact(running.program.pid)}).start()
    began_s = time.monotonic()
    for turn in range(pace.turns):
        time.sleep(max(0.0, began_s + turn * pace.every_s - time.monotonic()))
        running.publish(pace.together)
    expected = pace.messages * clients
    load.wait("updates", expected, limit_s=LIMIT_S)
    cpu_s, wall_s = watch.stop()
    told = load.ask("report")
    if told["updates"] != expected or told["live"] != clients:
        raise Unavailable(f"{told['updates']:,} updates for {expected:,}, {told['live']:,} clients: {load.said()}")
    found = {
        "cpu_us": cpu_s["server"] / expected * 1e6,
        "wall_us": wall_s / expected * 1e6,
        "bytes": told["bytes"] / expected,
    }
    # What is compressed is not read by these clients.
    return found | ({"p50_ms": told["p50_ms"], "p99_ms": told["p99_ms"]} if told["p50_ms"] else {})


def versions() -> dict[str, str]:
    """Of the peers."""
    found = {name: version(name) for name in ("websockets", "uvloop")}
    found["picows"] = installed.pinned("requirements-picows.txt")["picows"]
    with suppress(Unavailable):
        found["centrifugo"] = centrifugo.version()
    return found


def _in_order(done: dict[str, list[Figures]]) -> list[tuple[str, list[Figures]]]:
    """The rows of 10,000 connections and single messages first."""
    return sorted(done.items(), key=lambda item: "," in item[0])
