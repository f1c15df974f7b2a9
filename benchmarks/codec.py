"""Kafka values to columns and back, in batches of 5,000: ours, the fastavro twin, and fastavro as its users call it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import fastavro
import pyarrow as pa

from benchmarks.goals import Goal
from benchmarks.harness import Contestant, Measured
from benchmarks.stage import Stage
from benchmarks.trades import EVENT
from schemas import codec, codec_fastavro
from schemas.columns import arrow_schema
from schemas.layout import FRAME, MAGIC
from schemas.registry import current

NAME = "codec"
TITLE = "Codec: Avro to columns and back"
NOTES = """In one process, batches of 5,000 trades; no broker, no database. `decode` is from Kafka values to an Arrow
batch, `encode` the way back; the total is both."""
PROFILE = """Decoding: two thirds are one walk over every message, which checks it and puts its values into columns; the
rest is memory for the columns and the list of messages. Encoding: arrow-avro, and a bytes object for each message."""
GOALS = [
    Goal("decode under 0.3 µs", at_most_us=0.3, part="decode"),
    Goal("encode under 0.5 µs", at_most_us=0.5, part="encode"),
]
BATCH = 5_000

Decode = Callable[[list[bytes]], Any]
Encode = Callable[[Any], list[bytes]]


@dataclass(frozen=True)
class Codec:
    """Decodes every batch, and encodes what came out; the bytes must be those of the start."""

    who: str
    decode: Decode
    encode: Encode

    def run(self, stage: Stage) -> Measured:
        batches = [stage.trades.values[i : i + BATCH] for i in range(stage.warm_up, len(stage.trades), BATCH)]
        self.encode(self.decode(stage.trades.values[: stage.warm_up]))
        cpu_s = {"decode": 0.0, "encode": 0.0}
        begin_s = time.perf_counter()
        same = True
        for batch in batches:
            first_s = time.process_time()
            decoded = self.decode(batch)
            then_s = time.process_time()
            encoded = self.encode(decoded)
            cpu_s["encode"] += time.process_time() - then_s
            cpu_s["decode"] += then_s - first_s
            same = same and encoded == batch
        return Measured(stage.events, cpu_s, time.perf_counter() - begin_s, output=same)


def contestants(_: Stage) -> list[Contestant]:
    python = codec_fastavro.Codec(current(EVENT), [current(EVENT)])
    found: list[Contestant] = [
        Codec("sentio", lambda values: codec.decode(EVENT, values).records, lambda rows: codec.encode(EVENT, rows)),
        Codec("sentio without native code", lambda values: python.decode(values)[0], python.encode),
        Codec("fastavro to columns and back", _decode_to_columns, _encode_columns),
        Codec("fastavro, a dict an event", _decode_to_dicts, _encode_dicts),
    ]
    return found


def _decode_to_dicts(values: Sequence[bytes]) -> list[Any]:
    schema = fastavro.parse_schema(current(EVENT).schema)
    rows = []
    for value in values:
        body = BytesIO(value)
        body.seek(FRAME.size)
        rows.append(fastavro.schemaless_reader(body, schema, None))
    return rows


def _encode_dicts(rows: Sequence[Any]) -> list[bytes]:
    version = current(EVENT)
    schema = fastavro.parse_schema(version.schema)
    frame = FRAME.pack(MAGIC, version.id)
    encoded = []
    for each in rows:
        body = BytesIO()
        body.write(frame)
        fastavro.schemaless_writer(body, schema, each)
        encoded.append(body.getvalue())
    return encoded


def _decode_to_columns(values: Sequence[bytes]) -> pa.RecordBatch:
    rows = _decode_to_dicts(values)
    schema = arrow_schema(EVENT)
    return pa.record_batch([pa.array([_plain(row[f.name]) for row in rows], f.type) for f in schema], schema=schema)


def _encode_columns(records: pa.RecordBatch) -> list[bytes]:
    return _encode_dicts(records.to_pylist())


def _plain(value: Any) -> Any:
    return value.bytes if hasattr(value, "bytes") else value
