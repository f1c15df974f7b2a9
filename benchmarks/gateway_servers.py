"""The contestants of the gateway's benchmark: each is started, says how its clients speak, and is published to."""

import json
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import jwt
from confluent_kafka import Producer
from websockets.sync.client import connect

from benchmarks import programs, trades
from benchmarks.peers import centrifugo, installed
from benchmarks.programs import Program
from benchmarks.stage import PARTITIONS, Log, Stage
from gateway.wire import time_text
from schemas.codec import encode
from schemas.columns import from_events
from sentio import kafka
from sentio.stack import processes

SECRET = "a secret of the benchmark, of thirty-two bytes or more"
COMPRESSED = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
POOL = 200
START_S = 30.0
HERE = Path(__file__).parent

Publish = Callable[[int], None]
"""Publishes so many trades of this moment, together."""


@dataclass(frozen=True)
class Running:
    """A server that listens."""

    program: Program
    port: int
    publish: Publish
    options: Sequence[str]
    """What the load client needs to know of it."""


@dataclass(frozen=True)
class Server:
    """A contestant."""

    who: str
    started: Callable[..., AbstractContextManager[Running]]
    """Given the stage, and ``tick_ms`` or ``compressed`` where it has such."""

    compresses: bool = False
    """Takes part where compression is measured."""


class Trading:
    """Publishes trades to our topic, as the platform's publisher encodes them, without its wait for a batch."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._events = list(trades.events(POOL))
        self._producer = Producer(kafka.client(log.kafka) | {"enable.idempotence": True, "linger.ms": 0})
        self.published = 0

    def publish(self, count: int) -> None:
        first = self.published
        self.published += count
        now = datetime.now(UTC)
        chosen = [self._events[number % POOL] for number in range(first, first + count)]
        numbers = range(first, first + count)
        records = from_events(
            [replace(event, executed_at=now) for event in chosen],
            event_id=[trades.event_id(number, now) for number in numbers],
            producer=[trades.PRODUCER] * count,
            sequence=numbers,
        )
        for event, value in zip(chosen, encode(trades.EVENT, records), strict=True):
            self._producer.produce(self._log.topic, value, event.symbol.encode())
        self._producer.poll(0)

    def ends(self) -> list[int]:
        """The next offset of each partition, all that was published being there."""
        assert not self._producer.flush(30), "not all trades were acknowledged"
        places = [(self._log.topic, partition) for partition in range(PARTITIONS)]
        found = kafka.spans(self._log.kafka, places)
        return [found[place][1] for place in places]


@dataclass(frozen=True)
class Ours(Running):
    trading: Trading


@contextmanager
def ours(stage: Stage, *, tick_ms: float = 20, compressed: bool = False, heartbeat_s: float = 3_600) -> Iterator[Ours]:
    """`sentio run stream`: with tokens, subscriptions and cursors; no limits that would refuse load."""
    keys = stage.root / "keys.json"
    key = {"kty": "oct", "k": jwt.utils.base64url_encode(SECRET.encode()).decode(), "alg": "HS256"}
    keys.write_text(json.dumps({"keys": [key]}))
    port = processes.free_port(None)
    with stage.fresh_database() as dsn, stage.fresh_log(house=True) as log:
        env = {
            "SENTIO_KAFKA": stage.kafka,
            "SENTIO_TOPIC_PREFIX": log.prefix,
            "SENTIO_DATABASE": dsn,
            "SENTIO_AUTH_KEYS": str(keys),
            "SENTIO_STREAM_PORT": str(port),
            "SENTIO_STREAM_WAIT_MS": str(tick_ms),
            "SENTIO_STREAM_HEARTBEAT_S": str(heartbeat_s),
            "SENTIO_STREAM_DRAIN_S": "0",
            "SENTIO_STREAM_USER_CONNECTIONS": "0",
            "SENTIO_STREAM_ADDRESS_CONNECTIONS": "0",
            "SENTIO_STREAM_HANDSHAKES": "0",
        }
        command = [sys.executable, "-m", "sentio", "run", "stream"]
        with programs.started(stage, "stream", command, env) as program:
            program.wait(partial(_answers, f"http://127.0.0.1:{port}/readyz"), what="ready", limit_s=START_S)
            trading = Trading(log)
            subscribe = {"id": 1, "op": "subscribe", "channels": ["trades"]}
            again = json.dumps(subscribe | {"cursor": {"trades": "%s"}})
            options = ["--header", f"Authorization: {_bearer()}", "--say", json.dumps(subscribe)]
            options += ["--live", '"type":"snapshot"', "--again", again]
            yield Ours(program, port, trading.publish, [*options, *_offer(compressed=compressed)], trading)


@contextmanager
def bare(stage: Stage, *, messages: "Frames") -> Iterator[Running]:
    """No server at all."""
    command = [sys.executable, str(HERE / "peers" / "bare_send.py")]
    with _broadcasting(stage, "bare", command, [], messages) as running:
        yield running


@contextmanager
def websockets(stage: Stage, *, messages: "Frames", compressed: bool = False) -> Iterator[Running]:
    """`websockets.broadcast` on asyncio."""
    command = [sys.executable, str(HERE / "peers" / "websockets_broadcast.py")]
    with _broadcasting(stage, "websockets", command, [str(int(compressed))], messages) as running:
        yield replace(running, options=_offer(compressed=compressed))


@contextmanager
def picows(stage: Stage, *, messages: "Frames") -> Iterator[Running]:
    """On uvloop; it has no compression."""
    command = [str(installed.python("requirements-picows.txt")), str(HERE / "peers" / "picows_broadcast.py")]
    with _broadcasting(stage, "picows", command, [], messages) as running:
        yield running


@contextmanager
def centrifuging(stage: Stage, *, messages: "Frames") -> Iterator[Running]:
    """Centrifugo. No tick can be set: what waits in a client's queue goes out together."""
    port = processes.free_port(None)
    command = [centrifugo.program(), "--config", str(centrifugo.configured(stage.root, port, SECRET))]
    with programs.started(stage, "centrifugo", command) as program:
        program.wait(partial(_answers, f"http://127.0.0.1:{port}/health"), what="ready", limit_s=START_S)
        api = centrifugo.Api(port)
        options = ["--path", centrifugo.PATH, "--live", centrifugo.LIVE]
        for words in centrifugo.first_words(_token()):
            options += ["--say", words]
        yield Running(program, port, lambda count: api.publish(messages.now(count)), options)


class Frames:
    """Our own updates, for the peers to send: the same bytes but for the time."""

    def __init__(self, updates: Sequence[bytes]) -> None:
        """``updates``: as our gateway sent them."""
        mark = b'"executed_at":"'
        self._parts = cycle([_around(each, mark) for each in updates])

    def now(self, count: int) -> list[bytes]:
        time_now = time_text(datetime.now(UTC)).encode()
        return [head + time_now + tail for head, tail in islice(self._parts, count)]


def recorded(stage: Stage, count: int = 24) -> Frames:
    """Updates of a gateway of ours with one client."""
    with ours(stage) as running:
        headers = {"Authorization": _bearer()}
        with connect(f"ws://127.0.0.1:{running.port}", additional_headers=headers) as client:
            client.send('{"id":1,"op":"subscribe","channels":["trades"]}')
            while '"snapshot"' not in str(client.recv(timeout=START_S)):
                pass
            running.publish(count)
            found: list[bytes] = []
            while len(found) < count:
                text = str(client.recv(timeout=START_S))
                found += [text.encode()] * text.startswith('{"type":"update"')
    return Frames(found)


def contestants(messages: Frames) -> list[Server]:
    return [
        Server("limit: send() alone", partial(bare, messages=messages)),
        Server("sentio", ours, compresses=True),
        Server("websockets.broadcast", partial(websockets, messages=messages), compresses=True),
        Server("picows", partial(picows, messages=messages)),
        Server("centrifugo", partial(centrifuging, messages=messages)),
    ]


@contextmanager
def _broadcasting(
    stage: Stage, name: str, command: Sequence[str], more: Sequence[str], messages: Frames
) -> Iterator[Running]:
    port, control = processes.free_port(None), processes.free_port(None)
    with programs.started(stage, name, [*command, str(port), str(control), *more]) as program:
        program.wait(partial(_listens, control), what="ready", limit_s=START_S)
        with socket.create_connection(("127.0.0.1", control), timeout=START_S) as driver:
            driver.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            driver.settimeout(60)

            def publish(count: int) -> None:
                driver.sendall(b"".join(message + b"\n" for message in messages.now(count)))

            yield Running(program, port, publish, [])


def _around(update: bytes, mark: bytes) -> tuple[bytes, bytes]:
    head, found, rest = update.partition(mark)
    return head + found, rest[rest.index(b'"') :]


def _offer(*, compressed: bool) -> list[str]:
    return ["--header", COMPRESSED] if compressed else []


def _bearer() -> str:
    return f"Bearer {_token(channels=['trades'])}"


def _token(**claims: object) -> str:
    return jwt.encode({"sub": "bench", "exp": int(time.time()) + 86_400, **claims}, SECRET, "HS256")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
