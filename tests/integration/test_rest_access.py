"""Who may read what on REST: tokens grant the channels that a path shows."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from sentio.config import RestSettings, load
from tests.rest import OPENING, Rows, served
from tests.tokens import keys_file, rsa_key

SIGNER = rsa_key("now")

PATHS = {
    "/api/v1/trades/history": "trades",
    "/api/v1/trades/history?symbol=SPY": "trades.SPY",
    "/api/v1/performance/daily": "aggregates",
    "/api/v1/performance/daily?account=a": "aggregates.a",
    "/api/v1/statistics/week": "aggregates",
    "/api/v1/statistics/week?account=a": "aggregates.a",
    "/api/v1/signals/current": "signals",
    "/api/v1/positions/current": "positions",
    "/api/v1/positions/current?account=a": "positions.a",
    "/api/v1/symbols/SPY": "signals.SPY",
}


@pytest.fixture
def guarded(rows: Rows, database: str, tmp_path: Path) -> Iterator[httpx.Client]:
    settings = load(
        RestSettings,
        database=SecretStr(database),
        rest_requests=0,
        auth_keys=keys_file(tmp_path, SIGNER),
        auth_anonymous="bars",
    )
    rows.add("prices", symbol="SPY", price="21", source="x", observed_at=OPENING)
    with served(settings) as client:
        yield client


def bearer(*channels: str, user: str = "ann", lasts_s: float = 60) -> dict[str, str]:
    return {"Authorization": f"Bearer {SIGNER.token(*channels, user=user, lasts_s=lasts_s)}"}


@pytest.mark.parametrize(("path", "channel"), PATHS.items())
def test_a_path_needs_the_channel_of_what_it_shows(guarded: httpx.Client, path: str, channel: str) -> None:
    assert guarded.get(path, headers=bearer(channel)).status_code == 200
    other = guarded.get(path, headers=bearer("bars", f"{channel}x", f"{channel}.x"))
    assert (other.status_code, other.headers["content-type"]) == (403, "application/problem+json")
    assert channel in other.json()["detail"]
    nobody = guarded.get(path)
    assert (nobody.status_code, nobody.headers["www-authenticate"]) == (401, "Bearer")


def test_the_portfolio_needs_both_of_its_channels(guarded: httpx.Client, rows: Rows) -> None:
    minute = {"equity": 1, "day_return": 0, "open_positions": 0, "realized_pnl": 0, "unrealized_pnl": 0}
    rows.add("performance", account="a", minute_at=OPENING, **minute)
    path = "/api/v1/portfolio"
    assert guarded.get(f"{path}?account=a", headers=bearer("performance.a", "positions.a")).status_code == 200
    assert guarded.get(f"{path}?account=a", headers=bearer("performance.a")).status_code == 403
    assert guarded.get(f"{path}?account=a", headers=bearer("positions.a")).status_code == 403
    assert guarded.get(path, headers=bearer("performance.a", "positions.a")).status_code == 403
    assert guarded.get(path, headers=bearer("performance", "positions")).json()["account"] == "a"


def test_a_symbol_shows_the_positions_that_are_granted(guarded: httpx.Client, rows: Rows) -> None:
    amounts = dict.fromkeys(("quantity", "average_entry", "mark", "unrealized_pnl", "realized_pnl"), 1)
    for number, account in enumerate("ab"):
        rows.add("positions", amounts, account=account, symbol="SPY", updated_at=OPENING + timedelta(minutes=number))
    found = guarded.get("/api/v1/symbols/SPY", headers=bearer("signals", "positions.b")).json()
    assert [one["account"] for one in found["positions"]] == ["b"]
    assert guarded.get("/api/v1/symbols/SPY", headers=bearer("signals")).json()["positions"] == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer"},
        bearer("*", lasts_s=-60),
    ],
)
def test_a_token_that_is_no_good_is_401_even_for_what_is_public(guarded: httpx.Client, headers: dict[str, str]) -> None:
    refused = guarded.get("/api/v1/signals/current", headers=headers)
    assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
    assert guarded.get("/livez", headers=headers).status_code == 200


def test_what_is_public_needs_no_token(rows: Rows, database: str, tmp_path: Path) -> None:
    keys = keys_file(tmp_path, SIGNER)
    settings = load(RestSettings, database=SecretStr(database), auth_keys=keys, auth_anonymous="signals,trades.SPY")
    with served(settings) as client:
        assert client.get("/api/v1/signals/current").status_code == 200
        assert client.get("/api/v1/trades/history?symbol=SPY").status_code == 200
        assert client.get("/api/v1/trades/history").status_code == 401


def test_a_user_is_limited_wherever_they_come_from_and_alone(rows: Rows, database: str, tmp_path: Path) -> None:
    keys = keys_file(tmp_path, SIGNER)
    settings = load(RestSettings, database=SecretStr(database), auth_keys=keys, auth_anonymous="*", rest_requests=1)
    path = "/api/v1/signals/current"
    with served(settings) as client:
        for headers in (bearer(user="ann"), bearer(user="bob"), {}):
            assert [client.get(path, headers=headers).status_code for _ in range(2)] == [200, 429]


def test_clients_behind_a_trusted_proxy_are_limited_each_for_itself(rows: Rows, database: str) -> None:
    def asked(client: httpx.Client, address: str) -> int:
        return client.get("/api/v1/signals/current", headers={"X-Forwarded-For": address}).status_code

    common = {"database": SecretStr(database), "rest_requests": 1}
    with served(load(RestSettings, proxies="127.0.0.1", **common)) as client:
        assert [asked(client, f"203.0.113.{number}") for number in (1, 1, 2, 2)] == [200, 429, 200, 429]
    with served(load(RestSettings, **common)) as client:
        assert [asked(client, f"203.0.113.{number}") for number in (1, 2)] == [200, 429], "nobody is believed"
