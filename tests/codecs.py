"""Batches of any event, for the tests of both codecs."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from schemas.columns import arrow_schema
from schemas.registry import avro_files

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_US = 7_258_118_400_000_000 - 1


def values_of(field: pa.Field, limits: dict[str, Any]) -> st.SearchStrategy[Any]:
    low = 0 if "above" in limits or "from" in limits else None
    if pa.types.is_decimal(field.type):
        top = 10**field.type.precision - 1
        smallest = -top if low is None else int("above" in limits)
        values: st.SearchStrategy[Any] = st.integers(smallest, top).map(lambda n: Decimal(n).scaleb(-field.type.scale))
    elif pa.types.is_timestamp(field.type):
        values = st.integers(0, LAST_US).map(lambda us: EPOCH + timedelta(microseconds=us))
    elif pa.types.is_floating(field.type):
        values = st.floats(0, 1)
    elif pa.types.is_integer(field.type):
        top = 2 ** (field.type.bit_width - 1) - 1
        values = st.integers(-top - 1 if low is None else 0, top)
    elif pa.types.is_fixed_size_binary(field.type):
        values = st.binary(min_size=16, max_size=16)
    else:
        values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
    return st.one_of(st.none(), values) if field.nullable else values


@st.composite
def batches(draw: st.DrawFn) -> tuple[str, pa.RecordBatch]:
    event = draw(st.sampled_from(sorted(avro_files())))
    fields = {field["name"]: field for field in avro_files()[event]["fields"]}
    size = draw(st.integers(1, 4))
    arrays = []
    for column in arrow_schema(event):
        kind = fields[column.name]["type"]
        values = values_of(column, fields[column.name])
        if isinstance(kind, dict) and kind["type"] == "enum":
            values = st.sampled_from(kind["symbols"])
        arrays.append(pa.array(draw(st.lists(values, min_size=size, max_size=size)), column.type))
    return event, pa.record_batch(arrays, schema=arrow_schema(event))


def rows_of(event: str, count: int) -> pa.RecordBatch:
    """The same rows every time, no two alike and none with a null."""
    fields = {field["name"]: field for field in avro_files()[event]["fields"]}
    return pa.record_batch(
        [
            pa.array([_value(column.type, fields[column.name]["type"], row) for row in range(count)], column.type)
            for column in arrow_schema(event)
        ],
        schema=arrow_schema(event),
    )


def _value(kind: pa.DataType, avro: Any, row: int) -> Any:
    if isinstance(avro, dict) and avro["type"] == "enum":
        return avro["symbols"][row % len(avro["symbols"])]
    if pa.types.is_decimal(kind):
        return Decimal(12345 + row).scaleb(-kind.scale)
    if pa.types.is_timestamp(kind):
        return EPOCH + timedelta(microseconds=1_760_000_000_000_000 + row)
    if pa.types.is_floating(kind):
        return 1 / (row + 3)
    if pa.types.is_fixed_size_binary(kind):
        return bytes([row % 256]) * 16
    return row + 300 if pa.types.is_integer(kind) else f"text {row} é"
