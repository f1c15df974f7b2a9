"""Pages as CSV and Arrow, compressed, and narrowed by time: the same rows in every form."""

import csv
import io
from decimal import Decimal
from typing import Any

import httpx
import polars as pl
import pyarrow as pa
import pytest

from tests.rest import Rows

ARROW = "application/vnd.apache.arrow.stream"
HISTORY = "/api/v1/trades/history"


def test_csv_has_the_rows_of_json(rows: Rows, client: httpx.Client) -> None:
    rows.trade(0, reason='with "quotes", commas\nand lines', realized_pnl="-0.000001")
    rows.trade(1)
    answer = client.get(HISTORY, headers={"Accept": "text/csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="trades.csv"'
    found = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    wanted = client.get(HISTORY).json()["trades"]
    assert found == [{name: "" if value is None else str(value) for name, value in row.items()} for row in wanted]
    assert client.get(HISTORY, params={"format": "csv"}).text == answer.text


def test_arrow_has_exact_types(rows: Rows, client: httpx.Client) -> None:
    rows.trade(0, price="101.2500000001", realized_pnl=None)
    answer = client.get(HISTORY, headers={"Accept": f"{ARROW}, */*;q=0.1"})
    assert answer.headers["content-type"] == ARROW
    table = pa.ipc.open_stream(answer.content).read_all()
    [row] = table.to_pylist()
    assert row["price"] == Decimal("101.2500000001")
    assert row["realized_pnl"] is None
    assert table.schema.field("executed_at").type == pa.timestamp("us", tz="UTC")
    assert row["event_id"] == client.get(HISTORY).json()["trades"][0]["event_id"]
    assert pl.from_arrow(table).shape == (1, 15)


def test_statistics_come_in_every_form_too(rows: Rows, client: httpx.Client) -> None:
    start = {"account": "a", "strategy": "*", "symbol": "*", "kind": "DAY", "start_at": "2025-10-10T04:00:00Z"}
    rows.add("windows", trades=4, wins=1, gross_profit=2, **start)
    [row] = pa.ipc.open_stream(client.get("/api/v1/performance/daily?format=arrow").content).read_all().to_pylist()
    assert (str(row["date"]), row["win_rate"]) == ("2025-10-10", Decimal("0.25"))
    [written] = csv.DictReader(io.StringIO(client.get("/api/v1/statistics/day?format=csv").text))
    assert (written["date"], written["win_rate"], written["profit_factor"]) == ("2025-10-10", "0.25", "")


@pytest.mark.parametrize("form", ["csv", "arrow"])
def test_the_next_page_is_a_link(rows: Rows, client: httpx.Client, form: str) -> None:
    for minute in range(5):
        rows.trade(minute, symbol="A B")
    seen: list[str] = []
    url, parameters = HISTORY, {"symbol": "A B", "limit": "2", "format": form}
    while url:
        answer = client.get(url, params=parameters or None)
        if form == "csv":
            seen += [row["executed_at"] for row in csv.DictReader(io.StringIO(answer.text))]
        else:
            seen += pa.ipc.open_stream(answer.content).read_all()["executed_at"].to_pylist()
        url, parameters = answer.links.get("next", {}).get("url", ""), {}
    assert len(seen) == len(set(seen)) == 5


@pytest.mark.parametrize(
    ("accept", "type_"),
    [
        ("*/*", "application/json"),
        ("text/html", "application/json"),
        ("text/csv;q=0.5, application/json;q=0.4", "text/csv"),
        ("text/csv;q=0, application/json", "application/json"),
        ("text/csv;q=much", "application/json"),
        ("", "application/json"),
    ],
)
def test_what_is_wanted_most_is_given(rows: Rows, client: httpx.Client, accept: str, type_: str) -> None:
    answer = client.get(HISTORY, headers={"Accept": accept})
    assert answer.headers["content-type"].partition(";")[0] == type_
    assert "Accept" in answer.headers["vary"]


def test_long_answers_are_compressed_for_who_can_read_it(rows: Rows, client: httpx.Client) -> None:
    for minute in range(20):
        rows.trade(minute)
    packed = client.get(HISTORY)  # httpx accepts gzip
    assert packed.headers["content-encoding"] == "gzip"
    plain = client.get(HISTORY, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert packed.json() == plain.json()
    assert packed.headers["etag"] == plain.headers["etag"]


@pytest.mark.parametrize(
    ("query", "minutes"),
    [
        ({"since": "2025-10-10T13:31:00Z"}, [1, 2, 3]),
        ({"since": "2025-10-10T13:31:00", "until": "2025-10-10T13:33:00"}, [1, 2]),
        ({"until": "2025-10-10T09:31:00-04:00"}, [0]),
        ({"since": "2025-10-10T13:32:00Z", "date": "2025-10-10"}, [2, 3]),
    ],
)
def test_history_of_a_time(rows: Rows, client: httpx.Client, query: dict[str, Any], minutes: list[int]) -> None:
    for minute in range(4):
        rows.trade(minute, reason=str(minute))
    assert [int(one["reason"]) for one in client.get(HISTORY, params=query).json()["trades"]] == minutes
