"""The REST API on a real database."""

import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from sentio.config import RestSettings
from tests.rest import OPENING, Rows, served


def test_trade_is_shown_exactly_as_it_is_stored(rows: Rows, client: httpx.Client) -> None:
    rows.trade(0, event_id=UUID(int=7), realized_pnl=Decimal("-0.000001"), order_id="o-1")
    assert client.get("/api/v1/trades/history").json() == {
        "trades": [
            {
                "event_id": "00000000-0000-0000-0000-000000000007",
                "producer": "engine",
                "sequence": 1,
                "account": "a",
                "strategy": "s",
                "symbol": "TQQQ",
                "action": "ENTRY",
                "side": "BUY",
                "quantity": "10",
                "price": "101.2500000001",
                "realized_pnl": "-0.000001",
                "fees": "0",
                "reason": "r",
                "order_id": "o-1",
                "executed_at": "2025-10-10T13:30:00.000000Z",
            }
        ],
        "next_cursor": None,
    }


def test_history_of_a_day_is_that_of_new_york(rows: Rows, client: httpx.Client) -> None:
    before, first, last, after = (
        datetime(2025, 10, 10, 3, 59, 59, 999_999, tzinfo=UTC),
        datetime(2025, 10, 10, 4, tzinfo=UTC),
        datetime(2025, 10, 11, 3, 59, 59, 999_999, tzinfo=UTC),
        datetime(2025, 10, 11, 4, tzinfo=UTC),
    )
    for at in (before, first, last, after):
        rows.trade(0, executed_at=at)
    found = client.get("/api/v1/trades/history", params={"date": "2025-10-10"}).json()["trades"]
    assert [trade["executed_at"] for trade in found] == [
        "2025-10-10T04:00:00.000000Z",
        "2025-10-11T03:59:59.999999Z",
    ]


def test_pages_hold_every_trade_once_while_others_are_inserted(rows: Rows, client: httpx.Client) -> None:
    for number in range(25):
        rows.trade(number // 5, reason=str(number))  # five at the same time: the event id decides
    seen: list[str] = []
    parameters: dict[str, Any] = {"limit": 4, "date": "2025-10-10", "symbol": "TQQQ", "account": "a"}
    while True:
        page = client.get("/api/v1/trades/history", params=parameters).json()
        seen += [trade["reason"] for trade in page["trades"]]
        if page["next_cursor"] is None:
            break
        parameters["cursor"] = page["next_cursor"]
        rows.trade(-1, reason="behind the reader")
    assert sorted(seen, key=int) == [str(number) for number in range(25)]


def test_history_is_narrowed_by_symbol_and_account(rows: Rows, client: httpx.Client) -> None:
    for symbol, account in (("TQQQ", "a"), ("SPY", "a"), ("SPY", "b")):
        rows.trade(0, symbol=symbol, account=account)
    found = client.get("/api/v1/trades/history", params={"symbol": "SPY", "account": "b"}).json()["trades"]
    assert [(trade["symbol"], trade["account"]) for trade in found] == [("SPY", "b")]


def test_current_signals_and_positions_are_the_newest_of_each(rows: Rows, client: httpx.Client) -> None:
    for symbol, bar in (("SPY", 1), ("TQQQ", 2), ("SPY", 3)):
        at = OPENING + timedelta(minutes=bar)
        rows.add(
            "signals",
            symbol=symbol,
            direction="LONG",
            probability=0.5,
            confidence=0.25,
            bar_id=bar,
            generated_at=at,
        )
    newest = client.get("/api/v1/signals/current").json()["signals"]
    assert [(signal["symbol"], signal["bar_id"]) for signal in newest] == [("SPY", 3), ("TQQQ", 2)]

    amounts = dict.fromkeys(("average_entry", "mark", "unrealized_pnl", "realized_pnl"), 1)
    for account, symbol, quantity, minute in (
        ("a", "SPY", 5, 0),
        ("a", "SPY", 0, 1),
        ("a", "QQQ", 2, 0),
        ("b", "SPY", -1, 0),
    ):
        at = OPENING + timedelta(minutes=minute)
        rows.add("positions", amounts, account=account, symbol=symbol, quantity=quantity, updated_at=at)
    held = client.get("/api/v1/positions/current").json()["positions"]
    assert [(one["account"], one["symbol"], one["quantity"]) for one in held] == [
        ("a", "QQQ", "2"),
        ("b", "SPY", "-1"),
    ]
    assert client.get("/api/v1/positions/current", params={"account": "c"}).json() == {"positions": []}


def test_performance_and_statistics_come_from_the_windows(rows: Rows, client: httpx.Client) -> None:
    for day in (8, 9, 10):
        start = datetime(2025, 10, day, 4, tzinfo=UTC)
        common = {"account": "a", "kind": "DAY", "start_at": start}
        rows.add(
            "windows",
            {"strategy": "*", "symbol": "*", "equity_open": 100, "equity_close": 100 + day},
            **common,
        )
        rows.add("windows", {"strategy": "s", "symbol": "SPY", "trades": 4, "wins": 1, "gross_profit": 2}, **common)
    rows.add(
        "windows",
        account="a",
        strategy="*",
        symbol="*",
        kind="MONTH",
        start_at=datetime(2025, 10, 1, 4, tzinfo=UTC),
    )
    parameters: dict[str, Any] = {"account": "a", "from": "2025-10-09", "to": "2025-10-10", "limit": 1}
    daily = client.get("/api/v1/performance/daily", params=parameters).json()
    assert [(one["date"], one["equity_return"]) for one in daily["statistics"]] == [("2025-10-09", "0.09")]
    parameters["cursor"] = daily["next_cursor"]
    last = client.get("/api/v1/performance/daily", params=parameters).json()
    assert [one["date"] for one in last["statistics"]] == ["2025-10-10"]
    assert last["next_cursor"] is None
    by_symbol = client.get("/api/v1/statistics/day", params={"symbol": "SPY", "strategy": "s"}).json()["statistics"]
    assert [(one["win_rate"], one["profit_factor"]) for one in by_symbol] == [("0.25", None)] * 3
    assert [one["date"] for one in client.get("/api/v1/statistics/month").json()["statistics"]] == ["2025-10-01"]
    assert client.get("/api/v1/statistics/week").json()["statistics"] == []


def test_unchanged_answer_is_not_sent_again(rows: Rows, client: httpx.Client) -> None:
    rows.trade(0)
    first = client.get("/api/v1/trades/history", params={"date": "2025-10-10"})
    assert first.headers["cache-control"] == "max-age=60"
    etag = first.headers["etag"]
    same = client.get(
        "/api/v1/trades/history", params={"date": "2025-10-10"}, headers={"If-None-Match": f'"x", {etag}'}
    )
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    rows.trade(1)
    other = client.get("/api/v1/trades/history", params={"date": "2025-10-10"}, headers={"If-None-Match": etag})
    assert other.status_code == 200
    assert other.headers["etag"] != etag
    assert client.get("/api/v1/positions/current").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/api/v1/trades/history?date=yesterday", 400, "date"),
        ("/api/v1/trades/history?date=9999-12-31", 400, "date"),
        ("/api/v1/trades/history?limit=0", 400, "limit"),
        ("/api/v1/trades/history?symbol=%00", 400, "symbol"),
        ("/api/v1/trades/history?cursor=nonsense", 400, "cursor"),
        ("/api/v1/trades/history?cursor=%C3%A9", 400, "cursor"),
        ("/api/v1/performance/daily?from=2025-10-10&to=2025-10-09", 400, "after"),
        ("/api/v1/statistics/year", 400, "kind"),
        ("/api/v1/nothing", 404, "Not Found"),
    ],
)
def test_every_refusal_is_a_problem_document(client: httpx.Client, path: str, status: int, says: str) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert says in problem["detail"]
    assert problem["instance"] == path.partition("?")[0]


def test_cursor_of_another_query_is_refused(rows: Rows, client: httpx.Client) -> None:
    for minute in range(3):
        rows.trade(minute)
    cursor = client.get("/api/v1/trades/history", params={"limit": 1}).json()["next_cursor"]
    refused = client.get("/api/v1/trades/history", params={"limit": 1, "symbol": "SPY", "cursor": cursor})
    assert refused.status_code == 400
    assert "other parameters" in refused.json()["detail"]


def test_method_that_is_not_served_is_a_problem_too(client: httpx.Client) -> None:
    answer = client.post("/api/v1/signals/current")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert answer.json()["title"] == "Method Not Allowed"


def test_bug_is_a_problem_that_tells_nothing(client: httpx.Client, rows: Rows, database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("alter table trades drop column reason")
    answer = client.get("/api/v1/trades/history")
    assert answer.status_code == 500
    assert answer.json()["detail"] == "internal error"


def test_database_that_is_gone_is_said_and_survived(rows: Rows, client: httpx.Client, database: str) -> None:
    assert client.get("/readyz").json() == {"status": "ok"}
    name = database.rpartition("/")[2]
    with psycopg.connect(database.rpartition("/")[0] + "/postgres", autocommit=True) as admin:
        other = sql.Identifier(f"{name}_away")
        rename = sql.SQL("alter database {} rename to {}")
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
        admin.execute(rename.format(sql.Identifier(name), other))
        try:
            for path in ("/api/v1/signals/current", "/readyz"):
                answer = client.get(path)
                assert answer.status_code == 503
                assert answer.headers["retry-after"] == "5"
                assert answer.headers["content-type"] == "application/problem+json"
            assert client.get("/livez").status_code == 200
        finally:
            admin.execute(rename.format(other, sql.Identifier(name)))
    assert client.get("/readyz").status_code == 200


def test_openapi_describes_every_path(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {
        "/api/v1/trades/history",
        "/api/v1/performance/daily",
        "/api/v1/statistics/{kind}",
        "/api/v1/signals/current",
        "/api/v1/positions/current",
        "/api/v1/symbols/{symbol}",
        "/api/v1/portfolio",
        "/livez",
        "/readyz",
    }
    history = described["paths"]["/api/v1/trades/history"]["get"]
    assert {one["name"] for one in history["parameters"]} == {
        "date", "symbol", "account", "since", "until", "limit", "cursor", "format",
    }  # fmt: skip
    assert described["components"]["schemas"]["Trade"]["properties"]["price"]["type"] == "string"
    days = described["paths"]["/api/v1/performance/daily"]["get"]["parameters"]
    assert {one["name"] for one in days} == {"account", "from", "to", "limit", "cursor", "format"}


def test_process_serves_and_ends_on_sigterm(rows: Rows, database: str) -> None:
    program = (
        "from gateway.rest.app import main; from sentio.config import RestSettings, load; main(load(RestSettings))"
    )
    environment = {"SENTIO_DATABASE": database, "SENTIO_REST_PORT": "0", "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr
        line = process.stderr.readline()
        assert '"listening"' in line, line
        address = line.split('"address": "')[1].split('"')[0]
        assert httpx.get(f"{address}/readyz", timeout=10).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) in {0, -signal.SIGTERM}


def test_who_asks_too_often_is_told_when_to_come_again(rows: Rows, database: str) -> None:
    with served(RestSettings(database=SecretStr(database), rest_requests=2)) as client:
        assert [client.get("/api/v1/positions/current").status_code for _ in range(3)] == [200, 200, 429]
        refused = client.get("/api/v1/signals/current")
        assert 25 <= int(refused.headers["retry-after"]) <= 30
        assert refused.headers["content-type"] == "application/problem+json"
        assert client.get("/readyz").status_code == 200, "health is not counted"
