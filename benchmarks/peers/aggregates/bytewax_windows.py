"""One-minute and one-day statistics per key (account|symbol) by Bytewax, from a topic to a topic.

Runs in an environment of its own (bytewax.txt), told by the environment (see benchmarks/aggregates.py). Says "warm" after WARM_UP
records, and "done" at the end of the log, when all windows are flushed.
"""

import json
import os
import signal
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from io import BytesIO
from pathlib import Path

import bytewax.operators as op
import fastavro
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSource
from bytewax.connectors.kafka.operators import output
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, TumblingWindower, fold_window
from bytewax.run import cli_main

FRAME_BYTES = 5  # byte 0 and the schema id
WARM_UP = int(os.environ["WARM_UP"])
BROKERS = [os.environ["KAFKA"]]
ENDS = [int(end) for end in os.environ["ENDS"].split(",")]  # next offset of each partition when all is written
SCHEMA = fastavro.parse_schema(json.loads(Path(os.environ["SCHEMA"]).read_text()))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
GRACE = timedelta(days=2)
EXACT = Context(prec=76, rounding=ROUND_HALF_EVEN)
CENT_PARTS = Decimal("0.000001")

records = 0


class BoundedSource(KafkaSource):
    """Ends with the last record; Bytewax' own `tail=False` would end where the log happens to end at the moment."""

    def build_part(self, step_id, for_part, resume_state):
        part = super().build_part(step_id, for_part, resume_state)
        end = ENDS[int(for_part.partition("-")[0])]
        inner = part.next_batch

        def next_batch():
            if part.snapshot() >= end:
                raise StopIteration
            return inner()

        part.next_batch = next_batch
        return part


def decode(messages):
    global records
    fills = []
    for message in messages:
        body = BytesIO(message.value)
        body.seek(FRAME_BYTES)
        fills.append((message.key.decode(), fastavro.schemaless_reader(body, SCHEMA)))
    before = records
    records += len(fills)
    if before < WARM_UP <= records:
        print("warm", flush=True)
    return fills


def nothing():
    return [0, 0, 0, 0, Decimal(0), Decimal(0), Decimal(0), Decimal(0)]


def add(window, fill):
    window[0] += 1
    window[4] += fill["quantity"]
    window[5] += EXACT.quantize(EXACT.multiply(fill["price"], fill["quantity"]), CENT_PARTS)
    window[6] += fill["fees"]
    pnl = fill["realized_pnl"]
    if pnl is not None:
        window[1] += 1
        window[2] += pnl > 0
        window[3] += pnl < 0
        window[7] += pnl
    return window


def merged(left, right):
    return [a + b for a, b in zip(left, right, strict=True)]


def written(kind, length):
    length_ms = length // timedelta(milliseconds=1)

    def message(keyed):
        key, (number, window) = keyed
        text = f"{kind},{number * length_ms}," + ",".join(map(str, window))
        return KafkaSinkMessage(key.encode(), text.encode())

    return message


flow = Dataflow("windows")
messages = op.input("log", flow, BoundedSource(BROKERS, [os.environ["TOPIC"]], batch_size=5_000))
fills = op.flat_map_batch("decode", messages, decode)
clock = EventClock(lambda fill: fill["executed_at"], wait_for_system_duration=GRACE)
results = []
for kind, length in (("MINUTE", timedelta(minutes=1)), ("DAY", timedelta(days=1))):
    windower = TumblingWindower(length=length, align_to=EPOCH)
    # Sums know no order: ordered=True would hold each fill back until the watermark passes it.
    windows = fold_window(kind, fills, clock, windower, nothing, add, merged, ordered=False)
    results.append(op.map(f"{kind}-text", windows.down, written(kind, length)))
output(
    "results",
    op.merge("both", *results),
    brokers=BROKERS,
    topic=os.environ["OUTPUT"],
    add_config={"linger.ms": "100", "compression.type": "lz4"},
)
cli_main(flow)
print("done", flush=True)
signal.pause()  # whoever takes the time ends this process
