"""Decoded events as people read them: plain texts and numbers that JSON holds."""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa

from sentio.asked import iso


def documents(records: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Each row as JSON holds it."""
    columns = [_plain_column(column) for column in records.columns]
    return (dict(zip(records.schema.names, values, strict=True)) for values in zip(*columns, strict=True))


def _plain_column(column: pa.Array) -> list[Any]:
    values: list[Any] = column.to_pylist()
    kind = column.type
    is_plain = not (pa.types.is_decimal(kind) or pa.types.is_timestamp(kind) or pa.types.is_fixed_size_binary(kind))
    return values if is_plain else list(map(plain, values))


def plain(value: object) -> object:
    """An id as UUID, an amount without trailing zeros, a time as ISO has it."""
    match value:
        case bytes():
            return str(UUID(bytes=value))
        case UUID():
            return str(value)
        case Decimal():
            text = f"{value:f}"
            return text.rstrip("0").rstrip(".") if "." in text else text
        case datetime():
            return iso(value)
    return value
