"""The watcher's parts without servers: what an account did, what differs, when that is an alert, and who is told."""

import json
import smtplib
import socket
import threading
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import uuid_utils

from gateway.watch import rounds, sending, told
from gateway.watch.alarms import RESUMED_S, RULES, Alarms, Notice
from gateway.watch.book import MOST_ACCOUNTS, Book, Figures, drawdown
from gateway.watch.comparing import Side, differences
from gateway.watch.judging import in_hours, wrong
from gateway.watch.latency import EDGES_MS, Latency, percentiles
from gateway.watch.meters import Engine, GroupLag, TopicRate
from gateway.watch.probe import Heard
from gateway.watch.sending import Target
from gateway.wire import dumps
from sentio.asked import iso_ms
from sentio.config import WatchSettings
from tests.pipeline import until

NOON = datetime(2025, 10, 10, 16, tzinfo=UTC)
BEFORE = NOON - timedelta(days=3)
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


def test_an_account_that_was_forgotten_and_is_heard_again_is_compared_by_its_state_only() -> None:
    names = [f"a{number}" for number in range(MOST_ACCOUNTS + 1)]
    newest = [trade(number, account=name, at=NOON + timedelta(minutes=1)) for number, name in enumerate(names)]
    book = book_of(*newest, *(trade(number + 100, account=name) for number, name in enumerate(names)))
    # What the tables say: both fills of each, of which the one that was heard last is not the newest.
    told = [Figures(fills=2, newest_trade=str(UUID(bytes=row["event_id"]))) for _, row in newest]
    side = Side("store", figures=dict(zip(names, told, strict=True)), names=("fills", "newest_trade"))
    assert differences(side, book, heard_since=None, known=(), days=None) == []
    assert list(side.compared.values()) == [["newest_trade"]] * MOST_ACCOUNTS
    # The day before its newest is still none, and the next one is heard as a whole.
    [forgotten] = set(names) - book.accounts.keys()
    for number, days in enumerate((-1, 1)):
        topic, row = trade(900 + number, account=forgotten, at=NOON + timedelta(days=days))
        book.take(topic, 0, row, NOON)
    side.figures = {forgotten: Figures(fills=1)}
    differences(side, book, heard_since=None, known=(), days={forgotten: date(2025, 10, 11)})
    assert side.compared[forgotten] == ["fills", "newest_trade"]


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
    # Nor does who had forgotten it on the day.
    side.partial = {"a"}
    assert differences(side, book, heard_since=None, known=(), days=days) == []


def test_tapes_that_are_made_anew_begin_later_and_what_a_probe_heard_before_is_not_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, newest = list[datetime](), trade(1)

    class Late(SimpleNamespace):
        """A tape that begins within the day."""

        def __init__(self, _: WatchSettings, since: datetime) -> None:
            asked.append(since)
            super().__init__(book=book_of(newest), said={}, since=since, whole=False, close=lambda: None)
            self.drain = self.advance = lambda *_: True

    known = {"a": figures(trade(0, at=NOON - timedelta(minutes=1)), newest)}
    heard = Heard(known, BEFORE - timedelta(days=30), {}, "open", "", 0.0, None, None)
    probe: Any = SimpleNamespace(url="ws://x", heard=lambda: heard)
    connections: Any = None
    monkeypatch.setattr(rounds, "Tape", Late)
    monkeypatch.setattr(rounds, "stored", lambda *_: {})
    made = rounds.Rounds(WatchSettings(), connections, [probe])
    for began in (NOON - timedelta(hours=2), NOON - timedelta(hours=1)):
        monkeypatch.setattr(rounds, "beginning", lambda began=began: began)
        assert made.run()
        assert "fills" not in made.sides[0].compared["a"]
        assert made.differing == []
        made.close()
    assert asked == [NOON - timedelta(hours=2)] * 2 + [NOON - timedelta(hours=1)] * 2  # the engine's and the probe's


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
    told: dict[str, Any] = {"differing": [], "probes": {"ws://x": heard}, "late_s": {}, "blind": None}
    lines = wrong(settings, known=known, now=later, **told)
    assert set(lines) == {"lag", "silence", "errors", "stream"}
    assert "store is 61 s" in lines["lag"]
    assert "mine is 1 s and 9 events behind, and loses them in 1.0 h" in lines["lag"]
    well = {"groups": [], "topics": [], "engines": [engine]}
    assert wrong(settings, known=well, now=NOON, **(told | {"probes": {}})) == {}


def test_a_gateway_is_late_where_nothing_comes_for_a_while_of_what_there_is() -> None:
    heard = Heard({}, BEFORE, {}, "open", "", 0.0, None, None)
    nothing: dict[str, Any] = {"groups": [], "engines": [], "topics": []}

    def line(*late_s: float, state: str = "open") -> str | None:
        told: dict[str, Any] = {"differing": [], "known": nothing, "blind": None}
        told["probes"] = {"ws://x": replace(heard, state=state)}
        told["late_s"] = {"ws://x": {("t", number): seconds for number, seconds in enumerate(late_s)}}
        return wrong(WatchSettings(watch_hours="never"), **told).get("stream")

    assert line() is None
    assert line(19.0) is None  # on its way
    assert line(1.0, 21.0) == "ws://x: nothing of t partition 1 was heard for 21 s, though there is more"
    assert str(line(*[21.0] * 5)).endswith("; ws://x: nor of 2 more partitions")
    assert line(21.0, state="waiting") == "ws://x: the probe is not connected: waiting"


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


@pytest.mark.parametrize("answer", [b"nonsense\r\n", b"HTTP/1.1 302 Found\r\nLocation: http://[secret\r\n\r\n"])
def test_a_webhook_that_answers_nonsense_is_tried_again_and_its_address_is_not_said(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "FIRST_PAUSE_S", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        [target] = sending.targets(WatchSettings(alert_webhook=f"http://127.0.0.1:{server.getsockname()[1]}/secret"))
        target.put(Notice("lag", "begin", "store is behind", NOON, "lag.md"))
        for said in (answer, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"):
            asked, _ = server.accept()
            with asked:
                assert asked.recv(65_536)
                assert "secret" not in (target.wrong or "")
                asked.sendall(said)
        until(lambda: target.sent == 1)
        target.stop(5)


def test_a_time_that_no_calendar_has_is_the_start_of_1970() -> None:
    assert [iso_ms(at_ms) for at_ms in (-99_999_999_999_999, 2**63 - 1, -1)] == ["1970-01-01T00:00:00Z"] * 3
    assert iso_ms(1_760_103_060_500) == "2025-10-10T13:31:00.500000Z"
