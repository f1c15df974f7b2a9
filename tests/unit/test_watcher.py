"""The watcher's parts without servers: what an account did, what differs, when that is an alert, and who is told."""

import json
import smtplib
import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest
import uuid_utils

from gateway.watch import sending, told
from gateway.watch.alarms import RESUMED_S, RULES, Alarms, Notice
from gateway.watch.book import Book, Figures, drawdown
from gateway.watch.comparing import Side, differences
from gateway.watch.judging import in_hours, wrong
from gateway.watch.latency import EDGES_MS, Latency, percentiles
from gateway.watch.meters import Engine, GroupLag, TopicRate
from gateway.watch.probe import Heard
from gateway.watch.sending import Target
from gateway.wire import dumps
from sentio.config import WatchSettings
from tests.pipeline import until

NOON = datetime(2025, 10, 10, 16, tzinfo=UTC)
Told = tuple[str, dict[str, Any]]


def trade(number: int, *, at: datetime = NOON, **more: Any) -> Told:
    amounts = {"quantity": Decimal(3), "price": Decimal("1.5"), "realized_pnl": Decimal(number)}
    headers = {"event_id": uuid_utils.uuid7().bytes, "producer": "p", "sequence": number}
    return "trades.executed", headers | amounts | {"account": "a", "executed_at": at} | more


def minute(number: int, equity: int, **more: Any) -> Told:
    at = NOON + timedelta(minutes=number)
    fields = {"account": "a", "equity": Decimal(equity), "open_positions": number, "minute_at": at}
    return "performance.minute", {"producer": "p", "sequence": number} | fields | more


def position(number: int, symbol: str, quantity: int) -> Told:
    fields = {"symbol": symbol, "quantity": Decimal(quantity), "mark": Decimal(10)}
    at = NOON + timedelta(seconds=number)
    return "positions.updated", {"account": "a", "producer": "p", "sequence": number, "updated_at": at} | fields


def book_of(*told: Told) -> Book:
    book = Book()
    for topic, row in told:
        book.take(topic, 0, row, NOON)
    return book


def figures(*told: Told) -> Figures:
    return book_of(*told).accounts["a"].figures()


def test_a_day_is_the_same_in_whatever_order_it_is_heard() -> None:
    told = [trade(number, at=NOON + timedelta(seconds=number)) for number in range(5)]
    told += [minute(number, equity) for number, equity in enumerate((100, 120, 90, 110))]
    told += [position(0, "X", 5), position(1, "Y", -2), position(2, "X", -1)]
    newest = told[4][1]["event_id"].hex()
    for seed in range(20):
        mixed = Random(seed).sample(told, len(told))
        # Producers count up in each partition: here each event comes from one of its own.
        found = figures(*((topic, row | {"producer": f"p{row['sequence']}"}) for topic, row in mixed))
        assert found.newest_trade
        assert found.newest_trade.replace("-", "") == newest
        assert [found.equity, found.open_positions, found.drawdown] == [110, 3, Decimal("0.25")]
        assert [found.fills, found.realized_pnl, found.notional, found.exposure] == [5, 10, Decimal("22.5"), 30]


def test_each_fill_is_rounded_as_in_statistics() -> None:
    part: dict[str, Any] = {"quantity": Decimal("0.00000001"), "price": Decimal(50)}  # half a millionth: even is down
    assert figures(*(trade(number, **part) for number in range(3))).notional == 0
    part["price"] = Decimal("50.0000000001")
    assert figures(*(trade(number, **part) for number in range(3))).notional == Decimal("0.000003")


def test_repeats_count_once_and_an_older_or_impossible_day_not_at_all() -> None:
    assert figures(trade(1), trade(1), trade(0)).fills == 1
    assert figures(trade(0), trade(1, at=NOON - timedelta(days=1))).fills == 1
    assert figures(trade(0), trade(1, at=NOON + timedelta(days=3))).fills == 1
    assert figures(trade(0), trade(1, at=NOON + timedelta(hours=20))).fills == 1  # the next day has begun


@pytest.mark.parametrize(
    ("closes", "deepest"),
    [([], None), ([0, -5], None), ([100], "0"), ([100, 50, 200, 150], "0.5"), ([3, 2], "0.3333333333")],
)
def test_drawdown(closes: list[int], deepest: str | None) -> None:
    assert drawdown([Decimal(close) for close in closes]) == (None if deepest is None else Decimal(deepest))


def test_what_differs_is_named_and_keeps_the_time_since_when() -> None:
    book = book_of(trade(0), minute(0, 100))
    other = book.accounts["a"].figures()
    changed = Figures(**{name: getattr(other, name) for name in Figures.__dataclass_fields__} | {"fills": 2})
    side = Side("store", figures={"a": changed})
    days = {"a": date(2025, 10, 10)}
    [first] = differences(side, book, heard_since=None, known=(), days=days)
    assert (first.figure, first.engine, first.other) == ("fills", "1", "2")
    [again] = differences(side, book, heard_since=None, known=[first], days=days)
    assert again.since == first.since
    assert differences(side, book, heard_since=None, known=(), days={"a": date(2025, 10, 9)}) == []
    # Who came after the day had begun does not know how many there were.
    assert differences(side, book, heard_since=NOON, known=(), days=days) == []
    assert "fills" not in side.compared["a"]
    assert "equity" in side.compared["a"]


def test_an_alert_begins_after_a_while_and_ends_after_a_while() -> None:
    alarms = Alarms("https://r/")
    rule = next(one for one in RULES if one.name == "lag")
    line = {"lag": "store is behind"}
    assert alarms.step(line, 0) == []
    assert alarms.step({}, rule.for_s - 1) == []  # over before it was one
    assert alarms.step(line, 100) == []
    [begun] = alarms.step(line, 100 + rule.for_s)
    assert (begun.alert, begun.state, begun.summary, begun.runbook) == (
        "lag",
        "begin",
        line["lag"],
        "https://r/consumer-stuck.md",
    )
    assert [one.alert for one in alarms.active] == ["lag"]
    assert alarms.step({}, 200) == []
    assert alarms.step(line, 201) == []  # it is not over
    assert alarms.step({}, 300) == []
    [ended] = alarms.step({}, 300 + rule.clear_s)
    assert ended.state == "end"
    assert alarms.active == []


def test_an_alert_that_had_begun_before_a_restart_is_not_said_again_and_its_end_is() -> None:
    before, seen, unseen = (Alarms("https://r/") for _ in range(3))
    before.step({"divergence": "fills differ"}, 0)
    assert len(before.step({"divergence": "fills differ"}, 10)) == 1
    for after in (seen, unseen):
        after.resume(before.active)
        assert after.active == before.active
    clear_s = next(rule.clear_s for rule in RULES if rule.name == "divergence")
    assert seen.step({"divergence": "fills differ"}, 0) == []
    assert seen.step({"divergence": "fills differ"}, 100) == []
    assert seen.step({}, 101) == []
    [ended] = seen.step({}, 101 + clear_s)
    assert (ended.alert, ended.state, ended.summary) == ("divergence", "end", "fills differ")
    # Who has not seen it may not have looked at everything yet.
    assert unseen.step({}, 0) == []
    assert unseen.step({}, clear_s) == []
    [ended] = unseen.step({}, RESUMED_S + clear_s)
    assert (ended.state, unseen.active) == ("end", [])
    assert unseen.step({"divergence": "again"}, 1_000) == []
    assert [one.state for one in unseen.step({"divergence": "again"}, 1_010)] == ["begin"]


def test_what_waits_to_be_sent_is_sent_by_the_next_process_to_the_same_target() -> None:
    away, sent = threading.Event(), list[Notice]()

    def refuse(_: Notice) -> None:
        away.set()
        raise OSError("away")

    alarms = Alarms("https://r/")
    [begun] = alarms.step({"silence": "no engine is heard"}, 0)
    first = [Target("mail", refuse), Target("webhook", sent.append)]
    for target in first:
        target.put(begun)
        target.stop(5)
    assert away.is_set()
    assert sent == [begun]
    before = json.loads(dumps(told.kept(alarms, first)))
    later, again, mails = Alarms("https://r/"), list[Notice](), list[Notice]()
    second = [Target("mail", mails.append), Target("webhook", again.append)]
    told.resume(before, later, second)
    for target in second:
        target.stop(5)
    assert (mails, again) == ([begun], [])
    assert [one.alert for one in later.active] == ["silence"]
    told.resume({}, later, second)


def test_every_rule_has_its_line() -> None:
    settings = WatchSettings(watch_hours="always", alert_lag_s=60, alert_dead_letters=10, alert_silence_s=60)
    engine = Engine("e", "1", "live", "running", NOON, NOON)
    known = {
        "groups": [GroupLag("store", 5, 61.0, 500_000.0), GroupLag("mine", 9, 1.0, 3_600.0)],
        "engines": [engine],
        "topics": [TopicRate("trades.executed", 1.0, 11, 11)],
    }
    heard = Heard({}, NOON, {}, "waiting", "refused", 0.0, None, None)
    later = NOON + timedelta(seconds=61)
    told: dict[str, Any] = {"differing": [], "probes": {"ws://x": heard}, "engine": {}, "blind": None}
    lines = wrong(settings, known=known, now=later, **told)
    assert set(lines) == {"lag", "silence", "errors", "stream"}
    assert "store is 61 s" in lines["lag"]
    assert "mine is 1 s and 9 events behind, and loses them in 1.0 h" in lines["lag"]
    well = {"groups": [], "topics": [], "engines": [engine]}
    assert wrong(settings, known=well, now=NOON, **(told | {"probes": {}})) == {}


@pytest.mark.parametrize(
    ("hours", "at", "due"),
    [
        ("09:30-16:00", datetime(2025, 10, 10, 13, 30, tzinfo=UTC), True),
        ("09:30-16:00", datetime(2025, 10, 10, 20, 0, tzinfo=UTC), False),
        ("09:30-16:00", datetime(2025, 10, 11, 15, 0, tzinfo=UTC), False),  # a Saturday
        ("09:30-16:00", datetime(2025, 12, 10, 14, 0, tzinfo=UTC), False),  # winter
        ("always", NOON, True),
        ("never", NOON, False),
    ],
)
def test_hours(hours: str, at: datetime, due: bool) -> None:  # noqa: FBT001 - of the table above
    assert in_hours(hours, at) is due


def test_delivery_is_counted_by_row_and_percentiles_are_of_the_last_minute() -> None:
    latency = Latency()
    for ms in (0.4, 1.0, 1.1, 6_000.0):
        latency.took(ms, 0.0)
    assert latency.next_minute() == [2, 1, *[0] * (len(EDGES_MS) - 2), 1]
    assert sum(latency.minute) == 0
    assert latency.percentiles_ms(1.0) == (1.0, 6_000.0)
    assert latency.percentiles_ms(61.0) is None
    assert percentiles([float(number) for number in range(1, 101)]) == (50.0, 99.0)


def test_a_target_that_fails_is_tried_again_in_order_and_never_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(sending, "MOST_WAITING", 3)
    away, taken = threading.Event(), []

    def send(notice: Notice) -> None:
        if not away.is_set():
            raise smtplib.SMTPServerDisconnected("gone")
        taken.append(notice.summary)

    target = Target("mail", send)
    for number in range(5):
        target.put(Notice("lag", "begin", str(number), NOON, "lag.md"))
    until(lambda: target.wrong == "gone")
    assert (target.waiting, target.dropped) == (3, 2)
    away.set()
    until(lambda: target.sent == 3)
    assert taken == ["2", "3", "4"]
    assert target.wrong is None
    target.stop(5)
