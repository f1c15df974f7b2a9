"""One-minute and one-day statistics per key (account|strategy|symbol) by Quix Streams, from a topic to a topic.

Runs in the environment of requirements-quix.txt, told by environment variables (see benchmarks/aggregates.py). Says
"warm" after WARM_UP records, and "done" after TOTAL, when all windows that can be closed are flushed.

Its state is JSON, which has no decimals: amounts are whole numbers of their last decimal place, which is exact.
"""

import json
import os
import signal
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
from quixstreams import Application
from quixstreams.models import Deserializer

FRAME_BYTES = 5  # byte 0 and the schema id
GRACE = timedelta(days=2)
NOTIONAL_UNIT = 10**12  # price times quantity has 18 decimals, money has 6

Fill = tuple[int, list[int]]
"""(executed_at in µs, what the fill adds to a window)"""


class Fills(Deserializer):  # type: ignore[misc] # not installed where types are checked
    """Framed Avro to a `Fill`."""

    def __init__(self, schema_file: str) -> None:
        super().__init__()
        self._schema = fastavro.parse_schema(_plain(json.loads(Path(schema_file).read_text())))

    def __call__(self, value: bytes, ctx: Any) -> Fill:  # noqa: ARG002 - given by name
        body = BytesIO(value)
        body.seek(FRAME_BYTES)
        fill: Any = fastavro.schemaless_reader(body, self._schema)
        quantity = _whole(fill["quantity"])
        notional, rest = divmod(_whole(fill["price"]) * quantity, NOTIONAL_UNIT)
        if rest * 2 > NOTIONAL_UNIT or (rest * 2 == NOTIONAL_UNIT and notional & 1):
            notional += 1
        closed = fill["realized_pnl"] is not None
        pnl = _whole(fill["realized_pnl"]) if closed else 0
        fees = _whole(fill["fees"])
        return fill["executed_at"], [1, int(closed), int(pnl > 0), int(pnl < 0), quantity, notional, fees, pnl]


def _plain(schema: Any) -> Any:
    """Without logical types: decimals stay bytes, times stay microseconds."""
    if isinstance(schema, dict):
        return {name: _plain(value) for name, value in schema.items() if name != "logicalType"}
    return [_plain(each) for each in schema] if isinstance(schema, list) else schema


def _whole(amount: bytes) -> int:
    return int.from_bytes(amount, "big", signed=True)


def first(fill: Fill) -> list[int]:
    return fill[1]


def add(window: list[int], fill: Fill) -> list[int]:
    return [a + b for a, b in zip(window, fill[1], strict=True)]


def text(kind: str) -> Callable[[dict[str, Any]], str]:
    def written(window: dict[str, Any]) -> str:
        counts, sums = window["value"][:4], window["value"][4:]
        amounts = (_decimal(amount, scale) for amount, scale in zip(sums, (8, 6, 6, 6), strict=True))
        return ",".join([kind, str(window["start"]), *map(str, counts), *amounts])

    return written


def _decimal(amount: int, scale: int) -> str:
    digits = f"{abs(amount):0{scale + 1}d}"
    return f"{'-' if amount < 0 else ''}{digits[:-scale]}.{digits[-scale:]}"


def main() -> None:
    warm_up, total = int(os.environ["WARM_UP"]), int(os.environ["TOTAL"])
    records = 0
    app = Application(
        broker_address=os.environ["KAFKA"],
        consumer_group=os.environ["GROUP"],
        auto_offset_reset="earliest",
        state_dir=os.environ["FOLDER"],
        consumer_extra_config={"fetch.queue.backoff.ms": 5},
        producer_extra_config={"linger.ms": 100, "compression.type": "lz4"},
        loglevel="WARNING",
    )
    source = app.topic(
        os.environ["TOPIC"],
        key_deserializer="str",
        value_deserializer=Fills(os.environ["SCHEMA"]),
        timestamp_extractor=lambda fill, *_: fill[0] // 1000,
    )
    output = app.topic(os.environ["OUTPUT"], key_serializer="str", value_serializer="str")

    def count(_: Fill) -> None:
        nonlocal records
        records += 1
        if records == warm_up:
            print("warm", flush=True)
        elif records == total:
            app.stop()

    fills = app.dataframe(source)
    for kind, length in (("MINUTE", timedelta(minutes=1)), ("DAY", timedelta(days=1))):
        windows = fills.tumbling_window(length, grace_ms=GRACE).reduce(add, first).final()
        windows.apply(text(kind)).to_topic(output)
    fills.update(count)
    app.run()


if __name__ == "__main__":
    main()
    print("done", flush=True)
    signal.pause()  # whoever takes the time ends this process
