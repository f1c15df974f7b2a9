"""One-minute and one-day statistics per key (account|symbol) by Quix Streams, from a topic to a topic.

Runs in an environment of its own (quix.txt), told by the environment (see benchmarks/aggregates.py). Says "warm" after WARM_UP
records, and "done" after TOTAL, when all that can be closed is flushed.

Its state is JSON, which has no decimals: amounts are whole numbers of their last decimal, which is exact.
"""

import json
import os
import signal
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import fastavro
from quixstreams import Application
from quixstreams.models import Deserializer

FRAME_BYTES = 5  # byte 0 and the schema id
WARM_UP = int(os.environ["WARM_UP"])
TOTAL = int(os.environ["TOTAL"])
GRACE = timedelta(days=2)
NOTIONAL_UNIT = 10**12  # of scale 18, price times quantity, to scale 6

records = 0


def plain(schema):
    """Without logical types: decimals stay bytes, times stay microseconds."""
    if isinstance(schema, dict):
        return {name: plain(value) for name, value in schema.items() if name != "logicalType"}
    return [plain(each) for each in schema] if isinstance(schema, list) else schema


SCHEMA = fastavro.parse_schema(plain(json.loads(Path(os.environ["SCHEMA"]).read_text())))


def whole(amount):
    return int.from_bytes(amount, "big", signed=True)


class Fills(Deserializer):
    """(executed_at in µs, what the fill adds to a window)."""

    def __call__(self, value, ctx):  # noqa: ARG002
        body = BytesIO(value)
        body.seek(FRAME_BYTES)
        fill = fastavro.schemaless_reader(body, SCHEMA)
        quantity = whole(fill["quantity"])
        notional, rest = divmod(whole(fill["price"]) * quantity, NOTIONAL_UNIT)
        if rest * 2 > NOTIONAL_UNIT or (rest * 2 == NOTIONAL_UNIT and notional & 1):
            notional += 1
        pnl = fill["realized_pnl"]
        won = whole(pnl) if pnl is not None else 0
        sums = [1, int(pnl is not None), int(won > 0), int(won < 0), quantity, notional, whole(fill["fees"]), won]
        return fill["executed_at"], sums


def first(fill):
    return fill[1]


def add(window, fill):
    return [a + b for a, b in zip(window, fill[1], strict=True)]


def decimal(amount, scale):
    digits = f"{abs(amount):0{scale + 1}d}"
    return f"{'-' if amount < 0 else ''}{digits[:-scale]}.{digits[-scale:]}"


def text(kind):
    def written(window):
        counts, sums = window["value"][:4], window["value"][4:]
        amounts = (decimal(amount, scale) for amount, scale in zip(sums, (8, 6, 6, 6), strict=True))
        return ",".join([kind, str(window["start"]), *map(str, counts), *amounts])

    return written


def count(_):
    global records
    records += 1
    if records == WARM_UP:
        print("warm", flush=True)
    elif records == TOTAL:
        app.stop()


app = Application(
    broker_address=os.environ["KAFKA"],
    consumer_group=os.environ["GROUP"],
    auto_offset_reset="earliest",
    state_dir=os.environ["FOLDER"],
    producer_extra_config={"linger.ms": 100, "compression.type": "lz4"},
    loglevel="WARNING",
)
source = app.topic(
    os.environ["TOPIC"],
    key_deserializer="str",
    value_deserializer=Fills(),
    timestamp_extractor=lambda value, headers, timestamp, kind: value[0] // 1000,  # noqa: ARG005
)
output = app.topic(os.environ["OUTPUT"], key_serializer="str", value_serializer="str")
fills = app.dataframe(source)
for kind, length in (("MINUTE", timedelta(minutes=1)), ("DAY", timedelta(days=1))):
    windows = fills.tumbling_window(length, grace_ms=GRACE).reduce(add, first).final()
    windows.apply(text(kind)).to_topic(output)
fills.update(count)
app.run()
print("done", flush=True)
signal.pause()  # whoever takes the time ends this process
