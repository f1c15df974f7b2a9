"""Cursors of the stream: what a gateway wrote it reads, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.stream.cursor import EPOCH_BYTES, MAX_OFFSET, BadCursor, Cursor, Positions, decode, encode, epoch_of

offsets = st.lists(st.integers(0, MAX_OFFSET), min_size=1, max_size=60)
epochs = st.binary(min_size=EPOCH_BYTES, max_size=EPOCH_BYTES)


@given(epochs, offsets)
def test_cursor_survives_its_token(epoch: bytes, at: list[int]) -> None:
    cursor = Cursor(epoch, tuple(at))
    token = encode(cursor)
    assert decode(token) == cursor
    assert token.replace("-", "").replace("_", "").isalnum()


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_no_text_crashes(text: str) -> None:
    try:
        cursor = decode(text)
    except BadCursor:
        return
    assert encode(cursor) == text


@given(epochs, offsets, st.data())
def test_changed_token_is_refused(epoch: bytes, at: list[int], data: st.DataObject) -> None:
    token = encode(Cursor(epoch, tuple(at)))
    index = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("ABCDEFabcdef0123456789-_+/= "))
    changed = token[:index] + other + token[index + 1 :]
    if changed != token:
        with pytest.raises(BadCursor):
            decode(changed)


@given(epochs, offsets, st.lists(st.tuples(st.integers(0, 70), st.integers(0, MAX_OFFSET))))
def test_positions_only_move_forward_and_their_token_says_where(
    epoch: bytes, at: list[int], moves: list[tuple[int, int]]
) -> None:
    positions = Positions(epoch, at)
    expected = dict(enumerate(at))
    for partition, offset in moves:
        positions.advance(partition, offset)
        expected[partition] = max(expected.get(partition, 0), offset)
        assert decode(positions.token) == Cursor(epoch, tuple(positions.offsets))
    assert all(positions.next(partition) == offset for partition, offset in expected.items())


def test_copy_goes_its_own_way() -> None:
    positions = Positions(b"12345678", [1, 2])
    copy = positions.copy()
    copy.advance(0, 5)
    assert positions.offsets == [1, 2]
    assert decode(positions.token).offsets == (1, 2)


def test_another_topic_id_is_another_epoch() -> None:
    assert epoch_of("one") != epoch_of("another")
    assert len(epoch_of("one")) == EPOCH_BYTES
