"""Prices from a webhook to a WebSocket: a receiver, Kafka, a gateway and a client, at a set rate."""

import json
import random
import re
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from benchmarks import clocks, programs
from benchmarks.goals import Goal
from benchmarks.harness import Unavailable, without_places
from benchmarks.programs import Program
from benchmarks.stage import Stage
from producers.webhooks.helius import WRAPPED_SOL
from producers.webhooks.prices import event_id
from producers.webhooks.sending import Sender, Sent
from producers.webhooks.simulator import BASE58, Delivery, Simulation
from producers.webhooks.tokens import Token

NAME = "webhooks"
TITLE = "Webhooks: prices from HTTP to a WebSocket"
NOTES = """The simulator's payloads (enhanced and raw, 4 KB an event; repeats, late slots, unknown mints and bad
events among them) are posted over 8 connections, so many events a second, of which 91 % are prices, of 20 symbols. A
client listens to `prices` as it comes by default: the newest of each symbol, twenty times a second. `p50_ms` to
`max_ms` are from the moment at which the request that held a price was due, whether or not it could be sent then, to
the frame in the client's hands. `receiver` and `gateway` are their processors' time for each price that was accepted,
`answer_ms` is the 99th percentile from due to answered, and `each_us` what a price took: at 100 there are 10,000 a
second. A first run, that warms the broker, is not counted. The client's last price of each symbol is compared with
the simulator's newest."""
PROFILE = """Each of the receiver's two threads takes half. That of HTTP: 12 µs a price until its body is there
(uvicorn, a request of 400 KB in three parts), 9 to read and price it in native code, the rest is what
each request costs. That of the journal: SQLite 9, signatures and columns 7, then Kafka. What requests
bring within 10 ms is one transaction and one batch; without that, requests of twenty prices cost the
receiver and the broker more by half.

Of the time from webhook to client up to 50 ms are the wait for the next of twenty frames a second, up to
10 the wait for the next transaction, and some 10 the 500 prices of a frame, of which it shows 20. Receiver,
broker, gateway, sender and client share two cores, which are busy to two thirds at the full rate: the
slowest 1 % waited for a processor. It was 144 ms while the gateway looked for garbage every three seconds
(60 ms) and Java's second compiler took half a core."""
FULL = "sentio: 11,000 events a second, 100 a request"
GOALS = [
    Goal(
        "webhook to WebSocket: 99 % under 100 ms",
        at_most_us=100.0,
        part="p99_ms",
        unit="ms",
        who=FULL,
    ),
    Goal("10,000 prices a second", at_most_us=100.0, part="each_us", who=FULL),
]
CASES = ((11_000, 100), (5_000, 100), (5_000, 20))
"""Events a second, and in a request."""

SECONDS = 10
WARM_UP_S = 2
EVENTS = CASES[0][0] * SECONDS
CONNECTIONS = 8
SYMBOLS = 20
BAD = 0.0002
SECRET = "a secret of the benchmark"
LAST_S = 10.0

Figures = dict[str, float]


@dataclass
class Heard:
    """What a client heard, as it came: when, and the frame."""

    frames: list[tuple[float, str]] = field(default_factory=list)


def rows(stage: Stage, rounds: int) -> list[dict[str, Any]]:
    """A row for each rate and size of requests."""
    found = []
    with suppress(Unavailable):  # a broker that was just started compiles itself for as long as a run takes
        measured(stage, *CASES[0], seed=rounds)
    for rate, batch in CASES:
        who = f"sentio: {rate:,} events a second, {batch} a request"
        try:
            done = [measured(stage, rate, batch, seed) for seed in range(rounds)]
        except Unavailable as failure:
            found.append({"who": who, "why": without_places(str(failure))})
        else:
            found.append(row(who, done))
        stage.say(f"  {who}: {found[-1].get('why') or found[-1]['parts']}")
    return found


def row(who: str, done: Sequence[Figures]) -> dict[str, Any]:
    """Medians of the rounds; the largest is the largest of all."""
    figures = {name: (max if name == "max_ms" else statistics.median)(each[name] for each in done) for name in done[0]}
    return {
        "who": who,
        "cpu_us_per_event": round(figures["receiver"] + figures["gateway"], 2),
        "wall_us_per_event": round(figures["each_us"], 2),
        "parts": {name: round(value, 2) for name, value in figures.items()},
    }


def measured(stage: Stage, rate: int, batch: int, seed: int) -> Figures:
    """One run on topics of its own. Raises `Unavailable` when something did not come as it should."""
    with stage.fresh_log(house=True) as log, stage.fresh_database() as database, ExitStack() as stack:
        tokens = stage.root / f"tokens-{log.prefix}.toml"
        tokens.write_text("".join(map(_written, _tokens())))
        given = {"SENTIO_KAFKA": stage.kafka, "SENTIO_TOPIC_PREFIX": log.prefix, "SENTIO_DATABASE": database}
        receiving = given | {
            "SENTIO_SPOOL": str(stage.root / f"spool-{log.prefix}"),
            "SENTIO_WEBHOOK_SECRET": SECRET,
            "SENTIO_WEBHOOK_TOKENS": str(tokens),
            "SENTIO_WEBHOOK_PORT": "0",
        }
        command = [sys.executable, "-m", "sentio", "run"]
        receiver = stack.enter_context(programs.started(stage, "webhooks", [*command, "webhooks"], receiving))
        gateway = stack.enter_context(
            programs.started(stage, "stream", [*command, "stream"], given | {"SENTIO_STREAM_PORT": "0"})
        )
        url = address(receiver)
        simulation = Simulation(
            {token.mint: token for token in _tokens()}, seed=seed, start_s=time.time(), rate=rate, batch=batch, bad=BAD
        )
        deliveries = list(simulation.deliveries(rate * (WARM_UP_S + SECONDS)))
        bodies = [json.dumps(delivery.events).encode() for delivery in deliveries]
        first = rate * WARM_UP_S // batch
        heard = stack.enter_context(listening(address(gateway).replace("http:", "ws:")))
        post(url, bodies[:first], batch / rate)
        busy = {"receiver": clocks.tree(receiver.pid), "gateway": clocks.tree(gateway.pid)}
        watch = clocks.Watch(busy).start()
        due_s, answered_s, sent = post(url, bodies[first:], batch / rate)
        if sent.statuses.keys() != {"200"}:
            raise Unavailable(f"the receiver answered {dict(sent.statuses)}")
        wait_for_last(deliveries, heard)
        cpu_s, _ = watch.stop()
        prices = sum(len(delivery.prices) for delivery in deliveries[first:])
        latencies = latencies_ms(deliveries[first:], due_s, heard)
        return {
            "p50_ms": percentile(latencies, 0.5),
            "p99_ms": percentile(latencies, 0.99),
            "max_ms": latencies[-1],
            "answer_ms": percentile(sorted((at - due) * 1e3 for due, at in zip(due_s, answered_s, strict=True)), 0.99),
            "receiver": cpu_s["receiver"] / prices * 1e6,
            "gateway": cpu_s["gateway"] / prices * 1e6,
            "each_us": (max(answered_s) - due_s[0]) / prices * 1e6,
        }


def post(url: str, bodies: Sequence[bytes], every_s: float) -> tuple[list[float], list[float], Sent]:
    """When each body was due, and when it was answered, in monotonic seconds."""
    sender = Sender(url, SECRET, connections=CONNECTIONS)
    sent = sender.run(bodies, every_s=every_s, stop=threading.Event())
    due_s = [sender.began_s + number * every_s for number in range(len(bodies))]
    return due_s, [sender.answered_s.get(number, float("inf")) for number in range(len(bodies))], sent


@contextmanager
def listening(url: str) -> Iterator[Heard]:
    """A client that is subscribed, in a thread, until the block is left."""
    heard = Heard()
    with connect(url, max_size=None) as socket:
        socket.send(json.dumps({"op": "subscribe", "channels": ["prices"]}))
        while '"snapshot"' not in str(socket.recv(LAST_S))[:100]:
            pass

        def listen() -> None:
            with suppress(ConnectionClosed):
                while True:
                    frame = str(socket.recv())
                    heard.frames.append((time.monotonic(), frame))

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield heard
        socket.close()
        thread.join()


def wait_for_last(deliveries: Sequence[Delivery], heard: Heard) -> None:
    """Until the client has the newest price of every symbol, and of none anything older behind it."""
    newest: dict[str, bytes] = {}
    for symbol, identity in _prices(deliveries):
        newest[symbol] = max(newest.get(symbol, b""), identity)
    deadline_s = time.monotonic() + LAST_S
    while (last := _last(heard)) != newest:
        if time.monotonic() > deadline_s:
            wrong = sum(last.get(symbol) != identity for symbol, identity in newest.items())
            raise Unavailable(f"of {wrong} of {len(newest)} symbols the client's last price is not the newest")
        time.sleep(0.05)


def latencies_ms(deliveries: Sequence[Delivery], due_s: Sequence[float], heard: Heard) -> list[float]:
    """Of every price that the client was shown, in rising order."""
    due = {identity: at for delivery, at in zip(deliveries, due_s, strict=True) for _, identity in _prices([delivery])}
    found = [
        (at - due[identity]) * 1e3
        for at, frame in heard.frames
        if '"update"' in frame and (identity := _identity(json.loads(frame)["data"])) in due
    ]
    if not found:
        raise Unavailable("the client was shown no price")
    return sorted(found)


def percentile(values: Sequence[float], part: float) -> float:
    """Of values in rising order."""
    return values[min(len(values) - 1, int(len(values) * part))]


def address(program: Program) -> str:
    """Where it says that it listens."""
    found: list[str] = []

    def said() -> bool:
        found[:] = re.findall(r'"address": "([^"]+)"', program.log.read_text())
        return bool(found)

    program.wait(said, what="listening")
    return found[-1]


def _prices(deliveries: Sequence[Delivery]) -> Iterator[tuple[str, bytes]]:
    for delivery in deliveries:
        for price in delivery.prices:
            yield price.symbol, event_id(price.signature, price.slot, price.at_s)


def _last(heard: Heard) -> dict[str, bytes]:
    """Raises `Unavailable` where an older price came behind a newer one."""
    last: dict[str, bytes] = {}
    for _, frame in heard.frames:
        if '"update"' not in frame:
            continue
        data = json.loads(frame)["data"]
        if _identity(data) < last.get(data["symbol"], b""):
            raise Unavailable(f"{data['symbol']} went back to an older price")
        last[data["symbol"]] = _identity(data)
    return last


def _identity(data: Mapping[str, Any]) -> bytes:
    return UUID(data["event_id"]).bytes


def _tokens() -> list[Token]:
    chance = random.Random("tokens")
    mints = ["".join(chance.choices(BASE58, k=44)) for _ in range(SYMBOLS + 1)]
    others = [Token(symbol=f"T{place}", mint=mint, decimals=6) for place, mint in enumerate(mints[2:])]
    money = [
        Token.model_validate({"symbol": f"USD{mint[0]}", "mint": mint, "decimals": 6, "usd": 1}) for mint in mints[:2]
    ]
    return [Token(symbol="SOL", mint=WRAPPED_SOL, decimals=9, quote=True), *others, *money]


def _written(token: Token) -> str:
    """As the file of tokens has it."""
    text = f'[[tokens]]\nsymbol = "{token.symbol}"\nmint = "{token.mint}"\ndecimals = {token.decimals}\n'
    return text + (f'usd = "{token.usd}"\n' if token.usd else "") + ("quote = true\n" if token.quote else "")
