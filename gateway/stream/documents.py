"""Columns of events to the JSON text of each, column by column.

In Python rather than in Arrow's kernels: those cost a millisecond for a batch of one row, and most batches of a
live stream are a few rows; a row costs about 10 µs here.
"""

import json
import math
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from gateway.wire import decimal_text


def documents(records: pa.RecordBatch) -> list[str]:
    """A JSON object of each row."""
    schema = records.schema
    template = "{" + ",".join(f"{json.dumps(name)}:%s" for name in schema.names) + "}"
    columns = [_texts(column, field.type) for column, field in zip(records.columns, schema, strict=True)]
    return [template % row for row in zip(*columns, strict=True)]


def _texts(column: pa.Array, kind: pa.DataType) -> list[str]:
    """Each value as JSON. An equal value is written once: events name few accounts, symbols and reasons."""
    write = _writer(kind)
    values = column.to_pylist()
    if pa.types.is_floating(kind):  # 0.0 and -0.0 are equal
        return ["null" if value is None else write(value) for value in values]
    written = {value: "null" if value is None else write(value) for value in set(values)}
    return [written[value] for value in values]


def _writer(kind: pa.DataType) -> Callable[[Any], str]:
    if pa.types.is_decimal(kind):
        return lambda value: f'"{decimal_text(value)}"'
    if pa.types.is_timestamp(kind):
        # In UTC already, as `arrow_schema` says; `time_text` would convert it once more.
        return lambda value: f'"{value.replace(tzinfo=None).isoformat(timespec="microseconds")}Z"'
    if pa.types.is_fixed_size_binary(kind):
        return _uuid
    if pa.types.is_floating(kind):
        return lambda value: repr(value) if math.isfinite(value) else "null"
    return json.dumps


def _uuid(raw: bytes) -> str:
    digits = raw.hex()
    return f'"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"'
