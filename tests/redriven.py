"""Redriven records as the loop of a group gives them to its consumer."""

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from consumers.polled import ORIGINALS
from sentio import letters
from sentio.batch import Batch


def redriven(batch: Batch, topic: str, group: str, of: Sequence[tuple[int, int]]) -> Batch:
    """The batch as one of the group's redrive topic, each row with the (partition, offset) in ``topic`` it was at."""
    headers = [
        [
            {"name": name, "value": str(part).encode()}
            for name, part in zip(letters.ORIGIN, (topic, *place), strict=True)
        ]
        for place in of
    ]
    rest = pa.nulls(len(headers), pa.binary())
    originals = pa.record_batch([rest, rest, pa.array(headers, ORIGINALS.types[2])], ORIGINALS)
    return replace(batch, redrive_topic=letters.redrive_topic(topic, group), originals=originals)
