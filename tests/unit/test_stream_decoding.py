"""What the stream makes of messages is the same with columns and without."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from gateway.stream.channels import served
from gateway.stream.decoding import Decoded, Marks, decode
from gateway.stream.documents import documents
from gateway.stream.ring import Page
from schemas import codec
from schemas.codec import encode
from schemas.topics import Topic, topic_of_event
from tests.codecs import rows_of
from tests.stages import Record


def read(topic: Topic, values: list[Any]) -> Decoded:
    records: Any = [Record(10 + place, value) for place, value in enumerate(values)]
    return decode(topic, records, Marks())


def with_sequences(event: str, sequences: list[int]) -> list[bytes]:
    records = rows_of(event, len(sequences))
    for name, values in (("sequence", pa.array(sequences, pa.int64())), ("producer", pa.array(["engine"] * 4))):
        records = records.set_column(records.schema.get_field_index(name), records.schema.field(name), values)
    return encode(event, records)


@pytest.mark.parametrize("topic", served().values(), ids=lambda topic: topic.channel)
def test_repeats_and_what_cannot_be_decoded_are_left_out_and_accounted_for(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, repeat, last = with_sequences(topic.event, [5, 6, 6, 9])
    values = [first, b"noise", None, second, repeat, second[:-1], last]
    found = read(topic, values)
    assert [row.offset for row in found.rows.rows] == [10, 13, 16]
    assert [row.sent_as for row in found.rows.rows] == [("engine", 5), ("engine", 6), ("engine", 9)]
    assert [seq for seq, _ in found.skipped] == ["0:11", "0:12", "0:15"]
    assert (found.rows.ranges[0].first, found.rows.ranges[0].next) == (10, 17)
    monkeypatch.setattr(codec, "codec_native", None)
    by_columns = read(topic, values)
    assert (by_columns.rows.rows, by_columns.skipped) == (found.rows.rows, found.skipped)
    assert by_columns.rows.documents() == found.rows.documents()
    assert len(found.rows.documents()) == 3


@pytest.mark.parametrize("is_native", [True, False])
def test_only_rows_that_somebody_is_to_hear_are_written(monkeypatch: pytest.MonkeyPatch, *, is_native: bool) -> None:
    if not is_native:
        monkeypatch.setattr(codec, "codec_native", None)
    topic = topic_of_event("PriceUpdated")
    rows = read(topic, [b"noise", *encode("PriceUpdated", rows_of("PriceUpdated", 5))]).rows
    whole, asked = rows.documents(), []

    def written(places: Sequence[int] | None = None) -> list[str]:
        asked.append(places)
        return rows.documents(places)

    page = Page(replace(rows, documents=written))
    page.write([3, 1])
    assert [page.document(row) for row in (1, 3)] == [whole[1], whole[3]]
    assert asked == [[3, 1]]
    assert [page.document(row) for row in range(5)] == whole
    assert asked == [[3, 1], None]


def test_a_state_is_known_by_its_key_and_a_channel_narrowed_by_its_field() -> None:
    [position] = read(
        topic_of_event("PositionUpdated"), encode("PositionUpdated", rows_of("PositionUpdated", 1))
    ).rows.rows
    [trade] = read(topic_of_event("TradeExecuted"), encode("TradeExecuted", rows_of("TradeExecuted", 1))).rows.rows
    assert (position.value, position.key) == ("text 0 é", ("text 0 é", "text 0 é"))
    assert (trade.value, trade.key) == ("text 0 é", None)


def test_a_zero_keeps_its_sign_beside_the_other() -> None:
    schema = pa.schema([pa.field("probability", pa.float64())])
    records = pa.record_batch([pa.array([0.0, -0.0, None], pa.float64())], schema)
    assert documents(records) == ['{"probability":0.0}', '{"probability":-0.0}', '{"probability":null}']
