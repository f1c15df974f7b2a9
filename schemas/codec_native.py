"""The codec in native code (`native/`): what decodes and encodes where it is built."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sentio_native

from schemas.columns import columns_of
from schemas.events import Event
from schemas.layout import layout, symbols
from schemas.registry import Schema, Version

Disagreement = sentio_native.Disagreement
"""The native check finds a message sound and its decoder does not, or the reverse."""


class Codec:
    """Decodes and encodes the messages of one event. Releases the GIL while it does."""

    def __init__(self, newest: Version, versions: Iterable[Version]) -> None:
        self._columns = columns_of(newest.schema)
        self._words = [pa.array(words) if (words := symbols(field)) else None for field in newest.schema["fields"]]
        dictionary = pa.dictionary(pa.int32(), pa.string())
        # Avro's enums are Arrow's dictionaries.
        self._written = pa.schema(
            field if words is None else field.with_type(dictionary)
            for field, words in zip(self._columns, self._words, strict=True)
        )
        writers = [(each.id, json.dumps(each.schema), layout(each.schema, newest.schema)) for each in versions]
        fields = [_written_field(field) for field in newest.schema["fields"]]
        self._native = sentio_native.Codec(
            newest.id, json.dumps(newest.schema), self._columns, self._written, writers, fields
        )

    def decode(self, messages: Sequence[bytes | None]) -> tuple[pa.RecordBatch, Sequence[int], list[tuple[int, str]]]:
        """Columns, the index of each of their rows, and (index, kind) of what is unusable.

        The messages are a list, or those of native code (`consumers.queues`).

        Raises `Disagreement`, and OverflowError for more than a GiB of messages.
        """
        parts, poison = self._native.decode(messages)
        batches = [self._plain(batch) for batch, _ in parts]
        match batches:
            case []:
                return pa.record_batch([pa.array([], kind) for kind in self._columns.types], self._columns), (), poison
            case [records]:
                return records, parts[0][1] if poison else range(len(messages)), poison
        # Writers of several versions: back to the order of the messages.
        indexes = pa.array([index for _, rows in parts for index in rows], pa.int64())
        order = pc.sort_indices(indexes)
        [records] = pa.Table.from_batches(batches).take(order).combine_chunks().to_batches()
        return records, indexes.take(order).to_pylist(), poison

    def fields(
        self, messages: Sequence[bytes | None], places: Sequence[int]
    ) -> tuple[list[tuple[Any, ...]], Sequence[int], list[tuple[int, str]]] | None:
        """Values in the columns at ``places``, which are texts or whole numbers, of each sound message; their indexes;
        and (index, kind) of what is unusable. None when not all are of the newest version.
        """
        found: tuple[list[tuple[Any, ...]], Sequence[int], list[tuple[int, str]]] | None
        found = self._native.fields(messages, places)
        return found

    def documents(self, messages: Sequence[bytes | None]) -> list[str] | None:
        """The JSON text of each sound message. None when not all are of the newest version."""
        written: list[str] | None = self._native.documents(messages)
        return written

    def encode(self, records: pa.RecordBatch) -> list[bytes]:
        """Framed Avro of each row, in the newest schema. Raises ValueError for a word that is none of an enum's."""
        columns = (records.column(name) for name in self._columns.names)
        arrays = [
            column if words is None else _dictionary(column, words)
            for column, words in zip(columns, self._words, strict=True)
        ]
        encoded: list[bytes] = self._native.encode(pa.record_batch(arrays, self._written))
        return encoded

    def write(
        self, events: list[Event], first_id: bytes, producer: str, sequences: Sequence[int]
    ) -> list[bytes] | None:
        """Framed Avro of typed events, numbered; None where one is not plainly what the schema says."""
        written: list[bytes] | None = self._native.write(events, first_id, producer, sequences)
        return written

    def _plain(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Enums as strings, times in the zone "UTC" by that name, no metadata."""
        arrays = [
            column if column.type == field.type else column.cast(field.type)
            for column, field in zip(batch.columns, self._columns, strict=True)
        ]
        return pa.record_batch(arrays, self._columns)


def _dictionary(column: pa.Array, words: pa.Array) -> pa.DictionaryArray:
    indexes = pc.index_in(column, words)
    if indexes.null_count != column.null_count:
        stranger = column.filter(pc.and_(pc.is_null(indexes), pc.is_valid(column)))[0]
        raise ValueError(f"{stranger} is none of {', '.join(words.to_pylist())}")
    return pa.DictionaryArray.from_arrays(indexes, words)


def _written_field(field: Schema) -> tuple[str, str, int, int, list[str], bool | None]:
    """Name, shape, size of a fixed or scale of a decimal, a decimal's digits, an enum's words, whether null is the
    first of two branches.
    """
    branches = field["type"] if isinstance(field["type"], list) else [field["type"]]
    [kind] = [branch for branch in branches if branch != "null"]
    null_first = branches[0] == "null" if len(branches) > 1 else None
    match kind:
        case {"logicalType": "decimal"}:
            return field["name"], "decimal", kind["scale"], kind["precision"], [], null_first
        case {"logicalType": "timestamp-micros"}:
            return field["name"], "micros", 0, 0, [], null_first
        case dict():
            return field["name"], kind["type"], kind.get("size", 0), 0, kind.get("symbols", []), null_first
    return field["name"], kind, 0, 0, [], null_first
