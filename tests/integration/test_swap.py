"""What a swap replaces and what it leaves, with groups fed by hand: offsets, batches and moments are the test's."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any, ClassVar

import psycopg
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from consumers.aggregates.aggregates import Aggregates
from consumers.consumer import Fenced
from consumers.shadow import Shadow, into
from consumers.sink import DatabaseConsumer
from consumers.store.store import Store
from schemas.topics import stored_topics, topic_of_event
from sentio import database as databases
from sentio.cli.swapping import Swap
from sentio.config import ConsumerSettings, load
from sentio.database import migrate
from sentio.errors import Fatal, SettingError
from sentio.kafka import Place
from sentio.testing.servers import fresh_database
from tests.histories import PARTITIONS, PREFIX, Log, Silent, batch_of, logs
from tests.naive import Numbered
from tests.pipeline import rows, until
from tests.samples import minute, trade
from tests.shadows import Tables, dsn, sentio, tables

WEEK = Shadow("shadow_week")
PLACES: list[Place] = [
    (topic.full_name(PREFIX), partition) for topic in stored_topics() for partition in range(PARTITIONS)
]
Starts = dict[tuple[str, int], int]


class Platform:
    """Live groups, and what writes into shadows, on one database."""

    def __init__(self, database: str) -> None:
        self.settings = load(ConsumerSettings, database=database, topic_prefix=PREFIX)
        migrate(self.settings.database)
        self._open: list[DatabaseConsumer] = []
        self.live = [self._opened(Store(self.settings)), self._opened(Aggregates(self.settings, Silent()))]

    def begin_anew(self) -> None:
        self.close_shadow()
        names = (
            "windows, window_changes, consumer_offsets, consumer_marks, consumer_refused, consumer_redriven, shadows"
        )
        self.sql(f"drop schema if exists {WEEK.name} cascade", f"truncate {names}, trades, performance cascade")
        for consumer in self.live:
            self.claim(consumer)

    def begin_shadow(self, starts: Starts | None = None) -> list[DatabaseConsumer]:
        """Both groups into a shadow, from these offsets on."""
        firsts = {(topic_of_event(event).full_name(PREFIX), at): first for (event, at), first in (starts or {}).items()}

        class Beginning:
            def _starts(self) -> dict[Place, tuple[str, int]]:
                mine = {f"{PREFIX}.{name}" for name in self.topics}
                return {place: ("id", firsts.get(place, 0)) for place in PLACES if place[0] in mine}

            topics: ClassVar[tuple[str, ...]]

        made = []
        for kind in (Store, Aggregates):
            shadow = into(kind, WEEK)
            of_test: Any = type(shadow.__name__, (Beginning, shadow), {"topics": shadow.topics})
            made.append(self._opened(of_test(self.settings)))
            self.claim(made[-1])
        return made

    def close_shadow(self) -> None:
        while len(self._open) > len(self.live):
            self._open.pop().close()

    def _opened(self, consumer: DatabaseConsumer) -> DatabaseConsumer:
        self._open.append(consumer)
        consumer.open()
        return consumer

    def claim(self, consumer: DatabaseConsumer) -> None:
        names = {f"{PREFIX}.{name}" for name in consumer.topics}
        consumer.assigned({place: "id" for place in PLACES if place[0] in names})

    def sql(self, *statements: str) -> None:
        with psycopg.connect(dsn(self.settings)) as connection:
            for statement in statements:
                connection.execute(statement)

    def swap(self, *, remove_extra: bool = False) -> None:
        with closing(databases.connect(self.settings.database, name="test")) as connection:
            Swap(connection, PREFIX, WEEK.name, remove_extra=remove_extra).run(0)

    def close(self) -> None:
        while self._open:
            self._open.pop().close()


def feed(consumers: list[DatabaseConsumer], log: Log, begin: Starts | None = None, end: Starts | None = None) -> None:
    """Have them read each partition from an offset up to another."""
    for (event, partition), records in log.items():
        first = (begin or {}).get((event, partition), 0)
        last = (end or {}).get((event, partition), len(records))
        for consumer in consumers:
            if first < last:
                consumer.process(batch_of(topic_of_event(event), {partition: (first, records[first:last])}))


def numbered(*events: Any) -> list[Numbered]:
    return [Numbered(event, "engine@1", number) for number, event in enumerate(events)]


@pytest.fixture(scope="module")
def shared(database_server: str) -> Iterator[Platform]:
    with fresh_database(database_server) as database, closing(Platform(database)) as made:
        yield made


@pytest.fixture
def platform(shared: Platform) -> Platform:
    shared.begin_anew()
    return shared


DAMAGE = (
    "delete from {table} where event_id in (select event_id from {shadow}.{table} where {n})",
    "update {table} set producer = 'who', sequence = 0 where event_id in (select event_id from {shadow}.{table} where {n})",
    # Not an update: a row of TimescaleDB does not go to another chunk by itself.
    (
        "with gone as (delete from {table} where event_id in (select event_id from {shadow}.{table} where {n})"
        " returning *) insert into {table} select (jsonb_populate_record(null::{table}, to_jsonb(gone)"
        " || jsonb_build_object('{time}', gone.{time} + interval '90 days'))).* from gone"
    ),
)
WINDOW_DAMAGE = (
    "delete from windows where {n}",
    "update windows set wins = wins + 1, close_low = 0, equity_open = 1 where {n}",
)


@settings(max_examples=5, deadline=None, phases=(Phase.explicit, Phase.generate))  # shrinking takes too long
@given(logs(), st.data())
def test_whatever_is_damaged_in_the_range_is_as_it_was_and_the_rest_stays(
    shared: Platform, log: Log, data: st.DataObject
) -> None:
    shared.begin_anew()
    feed(shared.live, log)
    right = tables(shared.settings)
    shared.begin_anew()
    starts = {key: data.draw(st.integers(0, len(records))) for key, records in log.items()}
    reached = {key: data.draw(st.integers(starts[key], len(records))) for key, records in log.items()}
    feed(shared.live, log, end=reached)
    shadow = shared.begin_shadow(starts)
    feed(shadow, log, begin=starts)

    some = f"get_byte(uuid_send(event_id), 0) % 3 = {data.draw(st.integers(0, 2))}"
    for table, time in (("trades", "executed_at"), ("performance", "minute_at")):
        damage = data.draw(st.sampled_from(DAMAGE))
        shared.sql(damage.format(table=table, time=time, shadow=WEEK.name, n=some))
    key = "kind, start_at, account, strategy, symbol"
    longer = f"({key}) in (select {key} from {WEEK.name}.windows)" + (
        " and kind <> 'MINUTE'" if any(starts.values()) else ""
    )
    shared.sql(data.draw(st.sampled_from(WINDOW_DAMAGE)).format(n=longer))

    try:
        shared.swap()
    except Fatal:  # of a minute that the shadow has only a part of, the live group has still to read
        feed(shared.live[1:], log, begin=reached)
        shared.swap()
    assert differing(tables(shared.settings), right) == {}
    for consumer in shared.live:  # they go on where the shadow stood
        shared.claim(consumer)
    ends = {key: len(records) for key, records in log.items()}
    feed(shared.live, {key: [*records, *_more(key)] for key, records in log.items()}, begin=ends)


def differing(found: Tables, right: Tables) -> Tables:
    return {table: [*set(found[table]) ^ set(right[table])] for table in right if found[table] != right[table]}


def _more(key: tuple[str, int]) -> list[Numbered]:
    return [Numbered(trade() if key[0] == "TradeExecuted" else minute(0, "1"), f"later@{key[1]}", 0)]


LOG: Log = {
    ("TradeExecuted", 0): numbered(*(trade(n, pnl=str(n - 2)) for n in range(6))),
    ("PerformanceMinute", 1): numbered(*(minute(n, str(100_000 - n)) for n in range(6))),
}


def test_what_the_log_does_not_have_stays_until_it_is_asked_to_go(platform: Platform) -> None:
    feed(platform.live, LOG)
    right = tables(platform.settings)
    feed(platform.begin_shadow(), LOG)
    platform.sql(
        "insert into trades select gen_random_uuid(), producer, sequence, account, strategy, symbol, action, side, quantity,"
        " price, realized_pnl, fees, reason, order_id, executed_at from trades where sequence = 3"
    )
    said = sentio(platform.settings, "verify", "--against", WEEK.name, "--json")
    assert said.exit_code == 1
    found = [json.loads(line) for line in said.output.splitlines()]
    assert [(each["table"], each["extra"]) for each in found[:-1]] == [("trades", 1)]
    # Windows that the row would be of are not compared: it may be older than the shadow, for all they know.
    assert found[-1]["same"] + found[-1]["cut"] == 12 + len(right["windows"])
    assert "1 that the log does not have would be kept" in sentio(platform.settings, "swap", WEEK.name).output
    platform.swap()
    assert len(tables(platform.settings)["trades"]) == 7
    feed(platform.begin_shadow(), LOG)
    platform.swap(remove_extra=True)
    assert tables(platform.settings) == right


def test_running_groups_are_fenced_once_and_go_on_where_the_shadow_stood(platform: Platform) -> None:
    feed(platform.live, LOG, end={("TradeExecuted", 0): 4, ("PerformanceMinute", 1): 4})
    generations = rows(dsn(platform.settings), "select generation from consumer_offsets")
    assert {generation for (generation,) in generations} == {1}
    shadow = platform.begin_shadow()
    feed(shadow, LOG)
    platform.swap()
    whole = tables(platform.settings)
    for consumer in platform.live:
        with pytest.raises(Fenced) as fence:
            feed([consumer], {("TradeExecuted", 0): LOG["TradeExecuted", 0]}, begin={("TradeExecuted", 0): 4})
        assert fence.value.moved == ((PLACES[0][0], 0),)
        platform.claim(consumer)
        feed(
            [consumer],
            {("TradeExecuted", 0): [*LOG["TradeExecuted", 0], *_more(("TradeExecuted", 0))]},
            begin={("TradeExecuted", 0): 6},
        )
    assert len(tables(platform.settings)["trades"]) == 7
    for consumer in shadow:  # what goes on writing into a shadow that is gone writes nothing
        for again in (
            lambda each=consumer: feed([each], LOG),
            lambda each=consumer: platform.claim(each),
            consumer.idle,
        ):
            consumer._look_s = 0.0  # type: ignore[attr-defined] # of InShadow
            with pytest.raises(Fatal, match="shadow_week is no more"):
                again()
    assert tables(platform.settings)["performance"] == whole["performance"]
    with pytest.raises(SettingError, match="there is no shadow_week"):
        platform.swap()


def test_a_shadow_that_is_behind_is_refused_and_nothing_changes(platform: Platform) -> None:
    feed(platform.live, LOG)
    platform.sql("delete from trades where sequence = 0")
    damaged = tables(platform.settings)
    feed(platform.begin_shadow(), LOG, end={("TradeExecuted", 0): 5})
    with pytest.raises(Fatal, match=r"shadow_week is behind: in .* is at 6, its shadow at 5"):
        platform.swap()
    assert tables(platform.settings) == damaged
    done = sentio(platform.settings, "verify", "--against", WEEK.name, "--wait", "0", "--json")
    found = [json.loads(line) for line in done.output.splitlines() if line.startswith("{")]
    assert [(each["table"], each["missing"], each["moving"]) for each in found[:-1]] == [("trades", 1, 1)]
    assert done.exit_code == 1


def test_a_swap_killed_in_the_middle_did_nothing(platform: Platform) -> None:
    feed(platform.live, LOG)
    right = tables(platform.settings)
    feed(platform.begin_shadow(), LOG)
    platform.sql("delete from performance where sequence < 3", "delete from trades where sequence = 1")
    damaged = tables(platform.settings)
    variables = {"SENTIO_DATABASE": dsn(platform.settings), "SENTIO_TOPIC_PREFIX": PREFIX}
    busy = "select pid from pg_stat_activity where application_name = 'sentio-swap' and wait_event_type = 'Lock'"
    with ExitStack() as stack:
        holder = stack.enter_context(psycopg.connect(dsn(platform.settings)))
        # It comes to this table after the others: trades are replaced, and it waits.
        holder.execute("lock table performance in share mode")
        process = subprocess.Popen(
            [sys.executable, "-m", "sentio", "swap", WEEK.name, "--yes"],
            env=os.environ | variables,
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        until(lambda: rows(dsn(platform.settings), busy))
        process.send_signal(signal.SIGKILL)
        # The server notices by itself that nobody waits for the answer.
        until(lambda: not rows(dsn(platform.settings), busy.partition(" and wait_event")[0]))
    assert tables(platform.settings) == damaged
    platform.swap()
    assert tables(platform.settings) == right


def test_tables_of_a_shadow_are_made_like_the_live_ones(platform: Platform) -> None:
    feed(platform.begin_shadow(), LOG)
    columns = (
        "select table_name, column_name, data_type, numeric_scale, collation_name, is_nullable, is_identity"
        " from information_schema.columns where table_schema = %s and table_name = any(%s) order by 1, ordinal_position"
    )
    indexes = (
        "select tablename, regexp_replace(indexdef, '^.* USING ', '') from pg_indexes"
        " where schemaname = %s and tablename = any(%s) order by 1, 2"
    )
    checks = (
        "select conrelid::regclass::text ~ 'trades', pg_get_constraintdef(oid) from pg_constraint"
        " where contype = 'c' and connamespace = to_regnamespace(%s) and conrelid in (select oid from pg_class"
        " where relname = any(%s)) order by 1, 2"
    )
    names = [*Store.tables, *Aggregates.tables]
    for query in (columns, indexes, checks):
        made, kept = (rows(dsn(platform.settings), query, schema, names) for schema in (WEEK.name, "public"))
        assert made == kept != []


@pytest.mark.parametrize("name", ["week", "shadow_", "shadow_Week", "shadow_a-b", "shadow_" + "a" * 44])
def test_a_name_that_is_none_is_a_wrong_setting(name: str) -> None:
    with pytest.raises(SettingError, match="a shadow is named shadow_"):
        Shadow(name)
