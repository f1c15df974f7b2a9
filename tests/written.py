"""What a ring or another source gave, as columns."""

import pyarrow as pa

from producers.sidecar.records import Records
from producers.sidecar.source import Portion
from schemas.codec import decode


def columns(found: Records | Portion) -> dict[str, pa.RecordBatch]:
    """Of each event among the messages, all of which are sound."""
    decoded = {messages.event: decode(messages.event, messages.values) for messages in found.messages}
    assert not any(each.poison for each in decoded.values())
    return {event: each.records for event, each in decoded.items()}
