"""What one client's catching up says of what came before: only what it told itself, or what is known to be told."""

import pytest

from gateway.stream.channels import Channel, parse
from gateway.stream.decoding import Row, Rows
from gateway.stream.ring import Entry, Log, Numbering
from gateway.stream.stretches import Reader, Stretch

TRADES, NARROW = parse("trades"), parse("trades.TQQQ")


def rows(*told: tuple[int, int]) -> Rows:
    """(offset, sequence) of messages in partition 0."""
    made = [Row(0, offset, 0, ("engine@1", sequence), "TQQQ", None, None) for offset, sequence in told]
    return Rows(TRADES.topic, made, {}, lambda _=None: [])


def stretch(first: int, end: int, *told: tuple[int, int]) -> Stretch:
    return Stretch(first, end, Numbering().entries(rows(*told)))


def places(channel: Channel, entries: list[Entry]) -> list[tuple[int, int | None]]:
    """Offset, and the one that is said to be before it."""
    return [(entry.offset, entry.previous_in(channel)) for entry in entries]


@pytest.mark.parametrize("channel", [TRADES, NARROW])
class TestOneChannel:
    def test_what_the_client_had_before_its_cursor_is_not_said_to_be_before_what_follows(
        self, channel: Channel
    ) -> None:
        """It may be a repeat that was left out live: this reader has not seen the first of the two."""
        reader = Reader(channel)
        assert places(channel, reader.take(stretch(500, 520, (510, 7), (512, 8), (513, 9)), 512)) == [
            (512, None),
            (513, 512),
        ]
        assert places(channel, reader.take(stretch(520, 530, (520, 10)), 520)) == [(520, 513)]

    def test_nor_what_another_read_had_before_the_stretch(self, channel: Channel) -> None:
        reader = Reader(channel)
        both = Numbering().entries(rows((499, 6), (500, 7)))
        assert places(channel, reader.take(Stretch(500, 501, both[1:]), 500)) == [(500, None)]

    def test_what_is_in_memory_follows_what_was_read(self, channel: Channel) -> None:
        log = Log(TRADES.topic, "id", {0: 600}, ring=100)
        log.append(rows((600, 7), (601, 8)))
        reader = Reader(channel)
        reader.take(stretch(500, 600, (510, 6), (511, 7)), 500)
        assert places(channel, list(reader.follow(log._entries))) == [(601, 511)]

    def test_who_was_told_of_all_has_the_chain_whole_for_everyone(self, channel: Channel) -> None:
        log = Log(TRADES.topic, "id", {0: 600}, ring=100)
        log.append(rows((600, 7), (601, 8)))
        reader = Reader(channel)
        list(reader.follow(log._entries))
        log.join(channel, reader.last)
        assert places(channel, log.append(rows((602, 9)))) == [(602, 601)]

    def test_what_somebody_was_not_told_of_is_not_said_to_be_before_the_next(self, channel: Channel) -> None:
        log = Log(TRADES.topic, "id", {0: 600}, ring=100)
        log.append(rows((600, 7)))
        reader = Reader(channel)
        reader.take(stretch(500, 600, (510, 7)), 500)
        assert list(reader.follow(log._entries)) == []
        log.join(channel, reader.last)
        assert places(channel, log.append(rows((601, 8), (602, 9)))) == [(601, None), (602, 601)]
