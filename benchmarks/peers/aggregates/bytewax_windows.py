"""One-minute and one-day statistics per key (account|strategy|symbol) by Bytewax, from a topic to a topic; those of
each strategy and each account from the closed windows below them.

Runs in the environment of requirements-bytewax.txt, told by environment variables (see benchmarks/aggregates.py). Says
"warm" after WARM_UP records, and "done" at the end of the log, when all windows are flushed.
"""

import json
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import bytewax.operators as op
import fastavro
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSource
from bytewax.connectors.kafka.operators import output
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, TumblingWindower, fold_window
from bytewax.run import cli_main

FRAME_BYTES = 5  # byte 0 and the schema id
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
GRACE = timedelta(days=2)
ROLL_UP_GRACE = timedelta(days=30)  # a window below closes when its own key goes on, which may be days after others'
EXACT = Context(prec=76, rounding=ROUND_HALF_EVEN)
MONEY = Decimal("0.000001")

Window = list[Any]
"""fills, trades, wins, losses, volume, notional, fees, realized P&L"""


class BoundedSource(KafkaSource):  # type: ignore[misc] # not installed where types are checked
    """Ends with the last record; Bytewax' own ``tail=False`` would end where the log happens to end at the moment."""

    ends: tuple[int, ...] = ()
    """Next offset of each partition when all is written."""

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> Any:
        part = super().build_part(step_id, for_part, resume_state)
        end = self.ends[int(for_part.partition("-")[0])]
        read = part.next_batch

        def next_batch() -> Any:
            if part.snapshot() >= end:
                raise StopIteration
            return read()

        part.next_batch = next_batch
        return part


def decoder(schema_file: str, warm_up: int) -> Callable[[list[Any]], list[tuple[str, dict[str, Any]]]]:
    schema = fastavro.parse_schema(json.loads(Path(schema_file).read_text()))
    records = 0

    def decode(messages: list[Any]) -> list[tuple[str, dict[str, Any]]]:
        nonlocal records
        fills = []
        for message in messages:
            body = BytesIO(message.value)
            body.seek(FRAME_BYTES)
            fill: Any = fastavro.schemaless_reader(body, schema)
            fills.append((message.key.decode(), fill))
        if records < warm_up <= records + len(fills):
            print("warm", flush=True)
        records += len(fills)
        return fills

    return decode


def nothing() -> Window:
    return [0, 0, 0, 0, Decimal(0), Decimal(0), Decimal(0), Decimal(0)]


def add(window: Window, fill: dict[str, Any]) -> Window:
    window[0] += 1
    window[4] += fill["quantity"]
    window[5] += EXACT.quantize(EXACT.multiply(fill["price"], fill["quantity"]), MONEY)
    window[6] += fill["fees"]
    pnl = fill["realized_pnl"]
    if pnl is not None:
        window[1] += 1
        window[2] += pnl > 0
        window[3] += pnl < 0
        window[7] += pnl
    return window


def merged(left: Window, right: Window) -> Window:
    return [a + b for a, b in zip(left, right, strict=True)]


def rolled_up(names: int) -> Callable[[tuple[str, tuple[int, Window]]], tuple[str, tuple[int, Window]]]:
    """A closed window for the level with the first so many names of its key."""

    def up(keyed: tuple[str, tuple[int, Window]]) -> tuple[str, tuple[int, Window]]:
        key, window = keyed
        parts = key.split("|")
        return "|".join(parts[:names] + ["*"] * (len(parts) - names)), window

    return up


def take_in(window: Window, part: tuple[int, Window]) -> Window:
    return merged(window, part[1])


def began(length: timedelta) -> Callable[[tuple[int, Window]], datetime]:
    return lambda part: EPOCH + part[0] * length


def written(kind: str, length: timedelta) -> Callable[[tuple[str, tuple[int, Window]]], Any]:
    length_ms = length // timedelta(milliseconds=1)

    def message(keyed: tuple[str, tuple[int, Window]]) -> Any:
        key, (number, window) = keyed
        text = ",".join([kind, str(number * length_ms), *map(str, window)])
        return KafkaSinkMessage(key.encode(), text.encode())

    return message


def dataflow() -> Any:
    flow = Dataflow("windows")
    brokers = [os.environ["KAFKA"]]
    source = BoundedSource(brokers, [os.environ["TOPIC"]], add_config={"fetch.queue.backoff.ms": "5"}, batch_size=5_000)
    source.ends = tuple(map(int, os.environ["ENDS"].split(",")))
    messages = op.input("log", flow, source)
    fills = op.flat_map_batch("decode", messages, decoder(os.environ["SCHEMA"], int(os.environ["WARM_UP"])))
    clock = EventClock(lambda fill: fill["executed_at"], wait_for_system_duration=GRACE)
    texts = []
    for kind, length in (("MINUTE", timedelta(minutes=1)), ("DAY", timedelta(days=1))):
        windower = TumblingWindower(length=length, align_to=EPOCH)
        # Sums know no order: ordered=True would hold each fill back until the watermark passes it.
        windows = fold_window(kind, fills, clock, windower, nothing, add, merged, ordered=False)
        levels = [windows.down]
        for names in (2, 1):
            parts = op.map(f"{kind}-{names}-up", levels[-1], rolled_up(names))
            name, begin = f"{kind}-{names}", EventClock(began(length), wait_for_system_duration=ROLL_UP_GRACE)
            levels.append(fold_window(name, parts, begin, windower, nothing, take_in, merged, ordered=False).down)
        texts += [op.map(f"{kind}-{n}-text", level, written(kind, length)) for n, level in enumerate(levels)]
    fast = {"linger.ms": "100", "compression.type": "lz4"}
    output("results", op.merge("both", *texts), brokers=brokers, topic=os.environ["OUTPUT"], add_config=fast)
    return flow


if __name__ == "__main__":
    cli_main(dataflow())
    print("done", flush=True)
    signal.pause()  # whoever takes the time ends this process
