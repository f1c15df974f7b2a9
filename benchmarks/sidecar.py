"""`sentio sidecar` behind the engine of the ring's benchmark: how it is run, when events arrive, what it costs idle."""

import gc
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from subprocess import DEVNULL
from typing import NamedTuple

from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # it is theirs to give
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from benchmarks import clocks, engine_program
from benchmarks.harness import Unavailable
from benchmarks.publish_latency import DELAY_MS, quantiles
from benchmarks.stage import PARTITIONS, Stage
from schemas.codec import decode
from sentio import kafka
from sentio.stack.kafka import KafkaServer
from sentio.testing.proxy import slowed

WARM_UP = 1_000
CAPACITY = 1 << 20
LIMIT_S = 60.0
BEFORE_S, LATENCY_S = 8.0, 10.0
"""How long events are published at a rate before those that count, and how long those.

Before them is the sidecar's first heartbeat, after five seconds: the broker takes some 20 ms for the first record of a
topic that is new, and all behind it waits.
"""

LEAST_EVENTS = 30

JAVA = ("-Xms4g", "-Xmx4g", "-XX:+UseZGC", "-XX:-ZProactive")
"""Of a broker that runs for months: it has both compilers, a collector that does not stop it, and room that lets it
collect seldom.
"""

COMPILED_S = 45.0
"""After so long of a thousand requests a second its compilers have little left to do."""

SETTLE_S, IDLE_S = 2.0, 20.0
"""After so long without an event a sidecar looks as seldom as it will; then it is watched."""

Figures = dict[str, float]


class Drain(NamedTuple):
    """A running sidecar."""

    pid: int
    prefix: str
    """Of the topics that it publishes to."""


@contextmanager
def ring_in_memory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield Path(folder) / "ring"


@contextmanager
def draining(stage: Stage, path: Path, kind: str, broker: str = "up") -> Iterator[Drain]:
    """A sidecar that has sent a first thousand events of the ring.

    Its broker is ``up``, ``slow`` (50 ms each way) or ``gone`` since.
    """
    with ExitStack() as opened:
        log = opened.enter_context(stage.fresh_log(house=True))
        address = stage.kafka
        if broker != "up":
            proxy = opened.enter_context(ExitStack())
            address = proxy.enter_context(slowed(address, delay_ms=DELAY_MS if broker == "slow" else 0))
        engine = engine_program.command(path, CAPACITY, WARM_UP, 0, kind, cores()[1])
        subprocess.run(engine, stdout=DEVNULL, check=True, timeout=LIMIT_S)
        environment = os.environ | {"SENTIO_KAFKA": address, "SENTIO_TOPIC_PREFIX": log.prefix}
        process = subprocess.Popen(
            [sys.executable, "-m", "sentio", "sidecar", str(path)], env=environment, stderr=DEVNULL
        )
        opened.callback(process.wait)
        opened.callback(process.kill)
        wait(lambda: unread(path) == 0)
        if broker == "gone":
            proxy.close()
        yield Drain(process.pid, log.prefix)


@cache
def cores() -> tuple[int, int]:
    """The one that all share, and the engine's."""
    found = sorted(os.sched_getaffinity(0))
    return found[0], found[-1]


@contextmanager
def kept_to(core: int, *pids: int) -> Iterator[None]:
    """All threads of these processes, and what they start meanwhile, on one core."""
    before = os.sched_getaffinity(0)
    _pin(pids, {core})
    try:
        yield
    finally:
        _pin(pids, before)


@contextmanager
def long_running(stage: Stage) -> Iterator[Stage]:
    """The stage with another broker, as one is that has run for long."""
    server = KafkaServer(stage.root / "long-running-kafka", dies_with_parent=True, java=JAVA)
    try:
        address = server.start()
        assert server.pid is not None
        running = replace(stage, kafka=address, broker_pid=server.pid)
        latency(running, 1_000, before_s=COMPILED_S)
        yield running
    finally:
        server.remove()


def latency(stage: Stage, rate: int, before_s: float = BEFORE_S) -> Figures:
    """From the engine's clock at publish to the log (``log_``) and to a consumer, at so many events a second."""
    before = int(rate * before_s)
    events = before + max(int(rate * LATENCY_S), LEAST_EVENTS)
    with ring_in_memory() as path, draining(stage, path, "trades") as sidecar, consuming(stage, sidecar) as consumer:
        clock = clocks.exact(sidecar.pid)
        cpu_s = clock()
        command = engine_program.command(path, CAPACITY, events, rate, "trades", cores()[1])
        with subprocess.Popen(command, stdout=DEVNULL) as engine:
            try:
                late = _late_ns(consumer, events)
            finally:
                engine.kill()
        cpu_s = clock() - cpu_s
    figures = {
        f"{where}{name.replace('_us', '_ms')}": round(value / 1_000, 3)
        for where, late_ns in late.items()
        for name, value in quantiles(late_ns[before:]).items()
    }
    return figures | {"cpu_us": cpu_s / events * 1e6, "wall_us": 1e6 / rate}


@contextmanager
def consuming(stage: Stage, sidecar: Drain) -> Iterator[Consumer]:
    """Of the trades that come from now on."""
    topic = f"{sidecar.prefix}.trades.executed"
    _let_the_broker_stamp(stage, topic)
    spans = kafka.spans(stage.kafka, [(topic, partition) for partition in range(PARTITIONS)])
    consumer = Consumer(kafka.reader(stage.kafka, name="bench") | {"enable.partition.eof": False})
    consumer.assign([TopicPartition(*place, end) for place, (_, end) in spans.items()])
    try:
        yield consumer
    finally:
        consumer.close()


def idle(stage: Stage) -> Figures:
    """What a sidecar takes of a core while its ring stays empty."""
    with ring_in_memory() as path, draining(stage, path, "trades") as sidecar:
        time.sleep(SETTLE_S)
        clock = clocks.exact(sidecar.pid)
        cpu_s, began_s = clock(), time.monotonic()
        time.sleep(IDLE_S)
        return {"percent": (clock() - cpu_s) / (time.monotonic() - began_s) * 100}


def _let_the_broker_stamp(stage: Stage, topic: str) -> None:
    """Records bear the time at which they were in its log, instead of when they were published."""
    entry = ConfigEntry("message.timestamp.type", "LogAppendTime", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient(kafka.client(stage.kafka))
    admin.incremental_alter_configs([resource])[resource].result(30)


def _late_ns(consumer: Consumer, events: int) -> dict[str, list[int]]:
    """Of each event, in the order in which they came: when it was there, less when it was published.

    That is with the consumer, and in the broker's log (``log_``), whose clock has milliseconds: the end of it counts.
    """
    came: list[tuple[int, list[Message]]] = []
    left = events
    gc.disable()  # it would look through all that came, again and again
    try:
        while left > 0:
            first = consumer.poll(LIMIT_S)
            if first is None:
                raise Unavailable(f"{left:,} of {events:,} events have not come")
            messages = [first, *consumer.consume(1_000, 0)]
            came.append((time.time_ns(), messages))
            left -= len(messages)
    finally:
        gc.enable()
    late: dict[str, list[int]] = {"": [], "log_": []}
    for now_ns, messages in came:
        decoded = decode("TradeExecuted", [message.value() for message in messages])
        assert not decoded.poison
        published_us = decoded.records["executed_at"].cast("int64").to_pylist()
        for message, at_us in zip(messages, published_us, strict=True):
            late[""].append(now_ns - at_us * 1_000)
            late["log_"].append((message.timestamp()[1] + 1) * 1_000_000 - at_us * 1_000)
    return late


def unread(path: Path) -> int:
    """Records that the ring's mark has not passed."""
    with path.open("rb") as file:
        head = file.read(512)
    (written,), (read,) = struct.unpack_from("<Q", head, 256), struct.unpack_from("<Q", head, 384)
    return int(written - read)


def wait(condition: Callable[[], bool]) -> None:
    """Raises `Unavailable` when it does not come to be true."""
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise Unavailable(f"the sidecar has not sent what is in the ring after {LIMIT_S:.0f} s")
        time.sleep(0.01)


def _pin(pids: tuple[int, ...], cores: set[int]) -> None:
    for task in [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]:
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), cores)
