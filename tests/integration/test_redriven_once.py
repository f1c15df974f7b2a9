"""Letters and swaps, with groups fed by hand: no event counts twice, and none is lost without a word."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import pytest

from consumers import refusals
from consumers.sink import DatabaseConsumer
from sentio import letters
from sentio.batch import Batch
from sentio.cli import differing
from sentio.errors import Fatal, Poison
from sentio.testing.servers import fresh_database
from tests.histories import PREFIX, TRADES, batch_of
from tests.integration.test_swap import LOG, WEEK, Platform, numbered
from tests.naive import Numbered
from tests.pipeline import rows
from tests.redriven import redriven
from tests.samples import trade
from tests.shadows import dsn, sentio

TOPIC = TRADES.full_name(PREFIX)
RECORDS = LOG["TradeExecuted", 0]
WHOLE = batch_of(TRADES, {0: (0, RECORDS)})


@pytest.fixture(scope="module")
def shared(database_server: str) -> Iterator[Platform]:
    with fresh_database(database_server) as database, closing(Platform(database)) as made:
        yield made


@pytest.fixture
def platform(shared: Platform) -> Platform:
    shared.begin_anew()
    return shared


def refusing(batch: Batch, *offsets: int) -> Batch:
    """As the loop of a group gives it once it has sent letters of these."""
    kept = batch.where([offset not in offsets for _, offset in batch.places()])
    return refusals.refusing(kept, [(0, offset) for offset in offsets])


def redrive(
    consumer: DatabaseConsumer, *records: Numbered, of: Sequence[int], first: int = 0, partition: int = 0
) -> None:
    """What `sentio dead redrive` has sent of letters of these offsets comes to the group."""
    batch = batch_of(TRADES, {0: (first, records)})
    batch = redriven(batch, TOPIC, consumer.name, [(partition, offset) for offset in of])
    consumer.assigned({(batch.log_name(PREFIX), 0): "id"})
    consumer.process(batch)


def fills(platform: Platform) -> int:
    query = "select fills from windows where kind = 'DAY' and strategy = '*' and symbol = '*'"
    [(found,)] = rows(dsn(platform.settings), query)
    return int(found)


def edited(offset: int) -> Numbered:
    """Another event in the place of a record, with its number."""
    return Numbered(RECORDS[offset].event, "edited", offset)


def test_letters_of_before_a_swap_are_left_out_after_it(platform: Platform) -> None:
    for each in platform.live:  # of a mistaken deployment
        each.process(refusing(WHOLE, 2, 3))
    assert fills(platform) == 4
    for each in platform.begin_shadow():  # of the mended one
        each.process(WHOLE)
    platform.swap()
    for each in platform.live:
        redrive(each, *RECORDS[2:4], of=[2, 3])
    assert fills(platform) == 6
    assert rows(dsn(platform.settings), "select count(*) from trades") == [(6,)]


def test_what_the_shadow_has_refused_too_is_redriven_after_the_swap(platform: Platform) -> None:
    for each in platform.live:
        each.process(refusing(WHOLE, 2, 3))
    for each in platform.begin_shadow():
        each.process(refusing(WHOLE, 3))
    platform.swap()
    for each in platform.live:
        redrive(each, *RECORDS[2:4], of=[2, 3])
        redrive(each, RECORDS[3], of=[3], first=2)
    assert fills(platform) == 6


def test_a_letter_of_before_the_range_of_a_shadow_is_redriven_after_its_swap(platform: Platform) -> None:
    for each in platform.live:
        each.process(refusing(WHOLE, 2))
    for each in platform.begin_shadow({("TradeExecuted", 0): 4}):
        each.process(batch_of(TRADES, {0: (4, RECORDS[4:])}))
    platform.swap()
    for each in platform.live:
        redrive(each, RECORDS[2], of=[2])
    assert fills(platform) == 6


def test_what_was_redriven_to_a_shadow_is_not_redriven_to_the_live_group_after_the_swap(platform: Platform) -> None:
    shadow = platform.begin_shadow()
    for each in (*platform.live, *shadow):
        each.process(refusing(WHOLE, 2))
    for each in shadow:
        redrive(each, edited(2), of=[2])
    platform.swap()
    for each in platform.live:
        redrive(each, RECORDS[2], of=[2])
    assert fills(platform) == 6


def test_a_record_taken_by_the_process_that_came_after_its_letter_was_sent_counts_once(platform: Platform) -> None:
    _, aggregates = platform.live
    aggregates.process(WHOLE)
    redrive(aggregates, RECORDS[2], of=[2])
    redrive(aggregates, edited(3), of=[3], first=1)
    assert fills(platform) == 6


def test_a_letter_that_is_redriven_before_its_batch_is_written_is_a_letter_again(platform: Platform) -> None:
    _, aggregates = platform.live
    with pytest.raises(Poison, match=r"has still to read t\.trades\.executed:0:2"):
        redrive(aggregates, RECORDS[2], of=[2])
    aggregates.process(refusing(WHOLE, 2))
    redrive(aggregates, RECORDS[2], of=[2])
    assert fills(platform) == 6


def test_a_record_and_its_edit_count_once(platform: Platform) -> None:
    _, aggregates = platform.live
    aggregates.process(refusing(WHOLE, 2, 3))
    redrive(aggregates, edited(2), RECORDS[2], RECORDS[3], of=[2, 2, 3])
    redrive(aggregates, edited(3), of=[3], first=3)
    assert fills(platform) == 6


def test_letters_of_before_refusals_were_noted_can_be_redriven(platform: Platform) -> None:
    _, aggregates = platform.live
    aggregates.process(refusing(WHOLE, 2))
    platform.sql("truncate consumer_refused", "update consumer_offsets set noted_from = null, noted_to = null")
    redrive(aggregates, RECORDS[2], of=[2])  # the upgraded process owns that topic alone
    assert fills(platform) == 6
    platform.claim(aggregates)
    aggregates.process(refusing(batch_of(TRADES, {0: (6, numbered(*(trade(n) for n in range(8)))[6:])}), 7))
    redrive(aggregates, edited(1), edited(2), edited(5), of=[6, 2, 7], first=1)
    assert fills(platform) == 8, "6 was taken, 2 redriven before"


def test_letters_of_an_older_version_that_ran_meanwhile_can_be_redriven(platform: Platform) -> None:
    _, aggregates = platform.live
    aggregates.process(refusing(batch_of(TRADES, {0: (0, RECORDS[:3])}), 0))
    aggregates.process(batch_of(TRADES, {0: (3, RECORDS[3:5])}))
    platform.sql(  # rolled back: it refuses 5 and 6, and does not note it
        "update consumer_offsets set next_offset = 7 where (group_name, partition, next_offset) = ('aggregates', 0, 5)"
    )
    redrive(aggregates, RECORDS[5], of=[5])
    platform.claim(aggregates)
    aggregates.process(batch_of(TRADES, {0: (7, numbered(*(trade(n) for n in range(8)))[7:])}))
    redrive(aggregates, edited(0), edited(1), edited(5), edited(2), of=[0, 7, 5, 6], first=1)
    assert fills(platform) == 8, "7 was taken, 5 redriven before"


def test_notes_of_an_earlier_life_of_the_group_are_forgotten(platform: Platform) -> None:
    _, aggregates = platform.live
    aggregates.process(refusing(WHOLE, 2))
    platform.begin_anew()  # its tables are emptied, and the notes are not
    aggregates.process(WHOLE)
    redrive(aggregates, RECORDS[2], of=[2])
    assert fills(platform) == 6


def test_a_redriven_record_that_does_not_say_where_it_was_is_refused(platform: Platform) -> None:
    _, aggregates = platform.live
    aggregates.process(refusing(WHOLE, 2))
    topic = letters.redrive_topic(TOPIC, aggregates.name)
    aggregates.assigned({(topic, 0): "id"})
    with pytest.raises(Poison, match=r"do not say which record of t\.trades\.executed it was"):
        aggregates.process(replace(batch_of(TRADES, {0: (0, RECORDS[2:3])}), redrive_topic=topic))


def test_a_swap_that_would_lose_an_edited_event_of_aggregates_is_refused(platform: Platform) -> None:
    store, aggregates = platform.live
    store.process(WHOLE)
    aggregates.process(refusing(WHOLE, 2))  # too large for statistics
    redrive(aggregates, edited(2), of=[2])
    shadow_store, shadow_aggregates = platform.begin_shadow()
    shadow_store.process(WHOLE)
    shadow_aggregates.process(refusing(WHOLE, 2))

    lost = "shadow_week has refused 1 records that aggregates has: redrive or edit them first"
    assert f"--yes will be refused: {lost}" in sentio(platform.settings, "swap", WEEK.name).output
    with pytest.raises(Fatal, match=lost):
        platform.swap()
    assert fills(platform) == 6
    redrive(shadow_aggregates, edited(2), of=[2])
    platform.swap()
    assert fills(platform) == 6
    redrive(aggregates, edited(2), RECORDS[2], of=[2, 2], first=1)
    assert fills(platform) == 6


def test_statistics_may_be_swapped_without_what_was_refused(platform: Platform) -> None:
    for each in platform.live:
        each.process(WHOLE)
    shadow_store, shadow_aggregates = platform.begin_shadow()
    shadow_store.process(WHOLE)
    shadow_aggregates.process(refusing(WHOLE, 2))
    with pytest.raises(Fatal, match="swap --without-refused, and they are lost"):
        platform.swap()
    done = sentio(platform.settings, "swap", WEEK.name, "--yes", "--without-refused")
    assert "shadow_week is in place" in done.output
    assert fills(platform) == 5


def test_rows_that_the_shadow_has_refused_are_not_removed_as_extra(platform: Platform) -> None:
    store, aggregates = platform.live
    for each in (store, aggregates):
        each.process(WHOLE)
    shadow_store, shadow_aggregates = platform.begin_shadow()
    shadow_store.process(refusing(WHOLE, 5))
    shadow_aggregates.process(WHOLE)
    with pytest.raises(Fatal, match=r"that store has: .* or leave --remove-extra out"):
        platform.swap(remove_extra=True)
    platform.swap()
    assert rows(dsn(platform.settings), "select count(*) from trades") == [(6,)]
    assert fills(platform) == 6


def test_a_letter_redriven_to_a_shadow_hides_no_extra_rows(platform: Platform) -> None:
    records = numbered(*(trade(n, pnl="1") for n in range(6)))
    whole = batch_of(TRADES, {1: (0, records)})
    for each in platform.live:
        each.process(whole)
    store, _ = platform.begin_shadow()
    kept = whole.where([offset != 5 for _, offset in whole.places()])
    store.process(refusals.refusing(kept, [(1, 5)]))
    platform.sql(
        "insert into trades select (jsonb_populate_record(null::trades, to_jsonb(t)"
        " || jsonb_build_object('event_id', gen_random_uuid()))).* from trades as t where sequence = 3"
    )
    assert extra(platform, store.name) == 2
    redrive(store, records[5], of=[5], partition=1)
    assert extra(platform, store.name) == 1


@pytest.mark.parametrize("is_taken", [True, False])
def test_an_edited_event_is_extra_where_the_shadow_has_the_record(platform: Platform, *, is_taken: bool) -> None:
    for each in platform.live:
        each.process(refusing(WHOLE, 2))
        redrive(each, edited(2), of=[2])
    platform.sql("update trades set producer = 'engine@1' where producer = 'edited'")  # an edit keeps it
    store, aggregates = platform.begin_shadow()
    for each in (store, aggregates):
        each.process(WHOLE if is_taken else refusing(WHOLE, 2))
    if not is_taken:
        redrive(aggregates, edited(2), of=[2])
    assert extra(platform, store.name) == is_taken
    platform.swap(remove_extra=is_taken)
    assert rows(dsn(platform.settings), "select count(*) from trades") == [(6,)]
    assert fills(platform) == 6


def extra(platform: Platform, shadow: str) -> int:
    query = differing.rows(TRADES, PREFIX, "store", shadow, WEEK.name).as_string(None)
    [(found,)] = rows(dsn(platform.settings), f"select count(*) from ({query}) as compared where what = 'extra'")
    return int(found)
