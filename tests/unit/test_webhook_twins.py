"""Native code finds in a body what Python does, or says nothing of it."""

import json
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from producers.webhooks import native
from producers.webhooks.bodies import NoEvents
from producers.webhooks.finding import Finder, Found, Refused
from producers.webhooks.prices import Price
from producers.webhooks.simulator import Simulation
from producers.webhooks.tokens import Token
from tests.unit.test_webhook_prices import damaged, json_values
from tests.webhooks import BONK, JUP, NOW_S, POOL, SOL, TOKENS, TRADER, USDC, balance, bought, enhanced, raw, transfer

pytest.importorskip("sentio_native", reason="native/ is not built: there is no cargo here")

UNKNOWN = BONK.model_copy(update={"mint": "U" * 44})
PEG = Token(symbol="PEG", mint="P" * 44, decimals=2, usd=Decimal("0.9998765432"))
WIDE = Token(symbol="WIDE", mint="W" * 44, decimals=18)
PEGGED = TOKENS | {token.mint: token for token in (PEG, WIDE)}
DEAL = {
    "swap": {
        "nativeInput": {"account": TRADER, "amount": "500000000"},
        "nativeOutput": None,
        "tokenInputs": [{"userAccount": TRADER}, 7],
    }
}
TO_SOL = {"swap": {"nativeOutput": {"account": TRADER, "amount": "1000000000"}, "tokenInputs": []}}


class Told(NamedTuple):
    """What is found, to be compared."""

    prices: list[Price]
    ignored: Counter[str]
    refused: list[Refused]


def finder() -> Finder:
    return Finder(TOKENS, lambda: float(NOW_S))


def both(body: bytes) -> tuple[Told | None, Told | None]:
    """Native code's and Python's; None for a body that is no array of events."""
    natively = told(finder().find_natively(body))
    try:
        return natively, told(finder().find_in_python(body))
    except NoEvents:
        return natively, None


def told(found: Found | None) -> Told | None:
    return Told(found.prices, found.ignored, found.refused) if found else None


def written(*events: object) -> bytes:
    return json.dumps(events).encode()


def as_number(event: object, text: str) -> bytes:
    return written(event).replace(b'"NUMBER"', text.encode())


CERTAIN: Sequence[object] = [
    bought(BONK, 1_000_000, 25.5),
    bought(SOL, 0.123456789, 24.691357),
    bought(JUP, 8, 0.30000000000000004),
    bought(JUP, 1e-06, 1.5e2),
    bought(BONK, 3, 0.0000025),
    bought(BONK, 3, 0.0000015),
    bought(UNKNOWN, 5.123456789012, 1),
    bought(BONK, 1, 1, type="TRANSFER"),
    bought(BONK, 1, 1, transactionError={"a": [1, None, "x\\\u00e9"]}),
    bought(JUP, 4, 1, feePayer="F" * 44, events=DEAL),
    bought(BONK, 10**13, 0.000001),
    enhanced(transfer(POOL, TRADER, BONK, 4_000_000), events=DEAL),
    enhanced(transfer(TRADER, POOL, BONK, 0.7), transfer(POOL, TRADER, BONK, 0.7)),
    enhanced(transfer(POOL, "F" * 44, BONK, 2), transfer("F" * 44, POOL, BONK, 2), feePayer="F" * 44, events=DEAL),
    enhanced(*bought(BONK, 1, 1)["tokenTransfers"], transfer(POOL, TRADER, JUP, 1)),
    enhanced(transfer(TRADER, TRADER, BONK, -1), transfer(TRADER, POOL, USDC, 1), transfer(POOL, TRADER, JUP, 3)),
    enhanced(transfer(TRADER, POOL, UNKNOWN, 1), transfer(POOL, TRADER, JUP, 3), transfer(POOL, TRADER, UNKNOWN, 1)),
    raw([], [], meta={"err": {"a": 1}}),
    raw([balance(TRADER, USDC, "5000000")], [balance(TRADER, JUP, 2_000_000)]),
    raw([balance(TRADER, USDC, "99999999999999999999")], [balance(TRADER, UNKNOWN, "7", 18), balance(POOL, JUP, "x")]),
    raw(
        [balance(TRADER, USDC, "1000000")],
        [balance(TRADER, JUP, "3")],
        transaction={
            "signatures": [bought(BONK, 1, 1)["signature"], {}],
            "message": {"accountKeys": [{"pubkey": TRADER}, 3]},
        },
    ),
]


@pytest.mark.parametrize("event", CERTAIN)
def test_native_code_reads_what_is_sent_day_after_day(event: object) -> None:
    found, expected = both(written(event))
    assert found == expected
    # Beyond 2^64 smallest units, which no token has, it says nothing.
    assert found is not None or "99999999999999999999" in json.dumps(event)


@pytest.mark.parametrize("passing", [JUP, SOL, UNKNOWN])
def test_a_route_through_the_trader_to_native_sol_has_its_price_natively(passing: Token) -> None:
    route = transfer(POOL, TRADER, passing, 300.5), transfer(TRADER, POOL, passing, 300.5)
    found, expected = both(written(enhanced(transfer(TRADER, POOL, USDC, 150), *route, events=TO_SOL)))
    assert found is not None
    assert found == expected
    assert [(price.symbol, price.usd) for price in found.prices] == [("SOL", Decimal(150))]


ROUTE = st.tuples(
    st.sampled_from([(TRADER, POOL), (POOL, TRADER), ("F" * 44, POOL), (POOL, "F" * 44)]),
    st.sampled_from([SOL, USDC, JUP, UNKNOWN]),
    st.sampled_from([1, 2.5, 300]),
)
LAMPORTS = st.sampled_from([None, {"account": TRADER, "amount": "1000000000"}, {"account": "F" * 44, "amount": 5}])
USERS: st.SearchStrategy[object] = st.sampled_from([None, [], [{"userAccount": TRADER}], [7], 5, True, {}])


@given(st.lists(ROUTE, max_size=5), LAMPORTS, LAMPORTS, USERS, USERS, st.sampled_from([TRADER, "F" * 44]))
def test_routes_and_what_helius_says_of_them_are_read_alike(
    route: list[tuple[tuple[str, str], Token, object]],
    gave: object,
    got: object,
    first: object,
    last: object,
    payer: str,
) -> None:
    deal = {"nativeInput": gave, "nativeOutput": got, "tokenInputs": first, "tokenOutputs": last}
    transfers = [transfer(giver, taker, token, amount) for (giver, taker), token, amount in route]
    found, expected = both(written(enhanced(*transfers, feePayer=payer, events={"swap": deal})))
    assert found is None or found == expected


@pytest.mark.parametrize("seed", range(3))
def test_the_simulators_bodies_are_read_natively_in_their_order(seed: int) -> None:
    in_native, in_python = finder(), finder()
    simulation = Simulation(TOKENS, seed=seed, start_s=NOW_S - 100, rate=50, batch=25, bad=0.1)
    for delivery in simulation.deliveries(1_000):
        body = json.dumps(delivery.events).encode()
        found = told(in_native.find_natively(body))
        assert found is not None
        assert found == told(in_python.find_in_python(body))


@settings(max_examples=300)
@given(st.lists(json_values | damaged() | st.sampled_from(CERTAIN), min_size=1, max_size=3))
def test_whatever_comes_native_code_finds_the_same_or_says_nothing(events: list[Any]) -> None:
    found, expected = both(written(*events))
    assert found is None or found == expected


NUMBERS = st.from_regex(r"-?[0-9]{0,24}(\.[0-9]{0,20})?([eE][+-]?[0-9]{0,3})?", fullmatch=True)


@settings(max_examples=500)
@given(st.sampled_from([BONK, SOL, UNKNOWN, USDC]), NUMBERS | st.floats(0, 1e12).map(repr))
@example(SOL, "9007199.254740993")
@example(BONK, "0.000005")
@example(BONK, "0.000015")
@example(UNKNOWN, "1e-18")
@example(JUP, "-0.5")
@example(JUP, "010")
def test_amounts_are_the_same_to_the_last_digit(token: Any, number: str) -> None:
    bodies = [as_number(bought(token, "NUMBER", 7), number), as_number(bought(JUP, 7, "NUMBER", money=token), number)]
    for body in bodies:
        found, expected = both(body)
        assert found is None or found == expected


@settings(max_examples=500)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([(SOL, USDC), (SOL, PEG), (JUP, SOL), (BONK, SOL), (WIDE, SOL), (WIDE, PEG), (JUP, PEG)]),
            st.integers(1, 2**64 - 1) | st.integers(1, 10**9),
            st.integers(1, 2**64 - 1) | st.integers(1, 10**9),
            st.sampled_from([0, 59, 60, 61]),
        ),
        min_size=1,
        max_size=4,
    )
)
@example([((SOL, USDC), 10**9, 150 * 10**6, 60), ((JUP, SOL), 10**6, 2 * 10**9, 0)])
def test_prices_and_what_quotes_cost_behind_them_are_the_same(
    swaps: list[tuple[tuple[Token, Token], int, int, int]],
) -> None:
    in_native, in_python = (Finder(PEGGED, lambda: float(NOW_S)) for _ in range(2))
    for (base, quote), got, gave, ago_s in swaps:
        body = written(raw([balance(TRADER, quote, gave)], [balance(TRADER, base, got)], blockTime=NOW_S - ago_s))
        expected = in_python.find_in_python(body)
        found = in_native.find_natively(body)
        # A price of 2^64 units, 1.8 billion USD, is Python's.
        assert found == expected or (found is None and in_native.find_in_python(body) == expected)


TEXT = written(bought(BONK, 1_000_000, 25.5, number=1), raw([balance(TRADER, USDC, "5")], [balance(TRADER, JUP, "2")]))


@settings(max_examples=500)
@given(
    st.integers(0, len(TEXT) - 1),
    st.integers(0, 3),
    st.binary(max_size=3) | st.sampled_from(list(b'[]{}",:\\')).map(lambda byte: bytes([byte])),
)
def test_a_body_that_is_damaged_is_none_natively_unless_python_reads_it_alike(at: int, gone: int, put: bytes) -> None:
    found, expected = both(TEXT[:at] + put + TEXT[at + gone :])
    assert found is None or found == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[",
        b"[] 1",
        b"[],",
        b"null",
        b"\xef\xbb\xbf[]",
        b"[" + b'{"x":' * 70 + b"1" + b"}" * 70 + b"]",
        written(bought(BONK, 1, 1) | {"x": "\x01"}).replace(b"\\u0001", b"\x01"),
        written(bought(BONK, 1, 1)).replace(b'"slot"', b'"slot": 5, "slot"'),
        written(bought(BONK, 1, 1)).replace(b'"slot"', b'"\\u0073lot"'),
        written(bought(BONK, 1, 1) | {"x": "NUMBER"}).replace(b'"NUMBER"', b"1e999999999999999999999"),
        written(bought(BONK, 1, 1) | {"x": "NUMBER"}).replace(b'"NUMBER"', b"nan"),
    ],
)
def test_of_what_is_not_certain_native_code_says_nothing(body: bytes) -> None:
    assert finder().find_natively(body) is None


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({}, "neither an enhanced nor a raw transaction"),
        (bought(BONK, -1, 1), "tokenAmount"),
        (bought(BONK, float("nan"), 1), "tokenAmount"),
        (bought(BONK, float("-inf"), 1), "tokenAmount"),
        (bought(BONK, 10**13, 0.000001), "the price of BONK comes to 0"),
        (bought(BONK, 1, 1, slot="5"), "slot"),
        (enhanced(events={"swap": {"tokenInputs": 5}}), "events.swap.tokenInputs"),
    ],
)
def test_one_event_that_cannot_be_used_does_not_keep_the_others_from_native_code(event: object, reason: str) -> None:
    found, expected = both(written(bought(JUP, 4, 1), event, bought(BONK, 3, 1, number=2)))
    assert found is not None
    assert found == expected
    [refused] = found.refused
    assert (refused.index, len(found.prices)) == (1, 2)
    assert reason in refused.reason


def test_without_native_code_python_reads_all(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = finder().find(TEXT)
    monkeypatch.setattr(native, "sentio_native", None)
    assert finder().find_natively(TEXT) is None
    assert finder().find(TEXT) == expected
