"""Events as Kafka is given them."""

from typing import NamedTuple

import pyarrow as pa

from schemas.codec import encode
from schemas.topics import topic_of_event


class Messages(NamedTuple):
    """Of one event, in the order of their producers' sequences; the lists are of one length, and not empty."""

    event: str
    keys: list[bytes]
    values: list[bytes]
    """Framed Avro."""


def of_columns(event: str, records: pa.RecordBatch) -> Messages:
    """A message for each row. Raises ValueError for a value that the schema does not allow."""
    [name] = topic_of_event(event).key
    # Those of an engine are one text, which is not empty.
    return Messages(event, [key.encode() for key in records.column(name).to_pylist()], encode(event, records))
