"""What of a webhook's event becomes a price, and what is said of the others."""

import json
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.webhooks import helius
from producers.webhooks.bodies import NoEvents, events, exact_events
from producers.webhooks.helius import Inexact, NoPrice, Unusable
from producers.webhooks.prices import Price, Pricing, event_id
from producers.webhooks.simulator import Simulation
from schemas import amounts
from tests.webhooks import (
    BONK,
    JUP,
    NOW_S,
    OTHER_POOL,
    POOL,
    SOL,
    TOKENS,
    TRADER,
    USDC,
    USDT,
    balance,
    bought,
    enhanced,
    raw,
    transfer,
)

UNKNOWN = BONK.model_copy(update={"mint": "U" * 44})


def price_of(event: object, pricing: Pricing | None = None) -> Price:
    [read] = exact_events(json.dumps([event]).encode())
    return (pricing or Pricing(TOKENS)).price(helius.swap(read, TOKENS, lambda: float(NOW_S)))


def said(event: object) -> Decimal:
    return price_of(event).usd


def why_not(event: object) -> str:
    with pytest.raises((Unusable, NoPrice)) as caught:
        price_of(event)
    return ("no price: " if caught.type is NoPrice else "") + str(caught.value)


@pytest.mark.parametrize(
    ("event", "price"),
    [
        (bought(BONK, 1_000_000, 25.5), "0.0000255"),
        (bought(SOL, 0.123456789, 24.691357), "199.9999935200"),  # 24.691357 / 0.123456789
        (bought(JUP, 3, 1, USDT), "0.3333333333"),
        (enhanced(transfer(TRADER, POOL, JUP, 8), transfer(POOL, TRADER, USDC, 1)), "0.125"),
        (raw([balance(TRADER, USDC, "5000000")], [balance(TRADER, JUP, "2000000")]), "2.5"),
        (
            raw(
                [balance(TRADER, USDC, "100"), balance(TRADER, JUP, "3000000"), balance(POOL, JUP, "9")],
                [balance(TRADER, USDC, "6000100"), balance(TRADER, JUP, "0"), balance(POOL, JUP, "3000009")],
            ),
            "2",
        ),
    ],
)
def test_a_price_is_money_over_tokens_of_the_trader(event: object, price: str) -> None:
    assert said(event) == Decimal(price)


def test_hops_between_pools_are_not_the_traders() -> None:
    through_trader = enhanced(
        transfer(TRADER, POOL, USDC, 10),
        transfer(POOL, TRADER, SOL, 0.05),
        transfer(TRADER, OTHER_POOL, SOL, 0.05),
        transfer(OTHER_POOL, TRADER, JUP, 40),
    )
    between_pools = enhanced(
        transfer(TRADER, POOL, USDC, 10),
        transfer(POOL, OTHER_POOL, SOL, 0.05),
        transfer(OTHER_POOL, TRADER, JUP, 40),
    )
    in_parts = enhanced(
        transfer(TRADER, POOL, USDC, 4),
        transfer(TRADER, OTHER_POOL, USDC, 6),
        transfer(POOL, TRADER, JUP, 16),
        transfer(OTHER_POOL, TRADER, JUP, 24),
    )
    assert [said(event) for event in (through_trader, between_pools, in_parts)] == [Decimal("0.25")] * 3


def test_who_pays_the_fee_for_another_is_not_the_trader() -> None:
    deal = {"swap": {"tokenInputs": [{"userAccount": TRADER}], "tokenOutputs": []}}
    assert said(bought(JUP, 4, 1, feePayer="F" * 44, events=deal)) == Decimal("0.25")


def test_sol_that_was_not_wrapped_is_that_of_the_deal() -> None:
    pricing = Pricing(TOKENS)
    price_of(bought(SOL, 1, 200), pricing)
    deal = {"swap": {"nativeInput": {"account": TRADER, "amount": "500000000"}, "nativeOutput": None}}
    bare = enhanced(transfer(POOL, TRADER, BONK, 4_000_000), events=deal, number=2)
    assert price_of(bare, pricing).usd == Decimal("0.000025")


def test_what_passes_through_the_trader_on_the_way_to_or_from_native_sol_counts_as_nothing() -> None:
    sol = {"account": TRADER, "amount": "1000000000"}
    through_jup = transfer(POOL, TRADER, JUP, 300.5), transfer(TRADER, OTHER_POOL, JUP, 300.5)
    through_wrapped = transfer(POOL, TRADER, SOL, 2.5), transfer(TRADER, OTHER_POOL, SOL, 2.5)
    to_sol, from_sol = {"swap": {"nativeOutput": sol}}, {"swap": {"nativeInput": sol}}
    for route in (through_jup, through_wrapped, through_jup + through_wrapped):
        assert said(enhanced(transfer(TRADER, POOL, USDC, 150), *route, events=to_sol)) == 150
        assert said(enhanced(*route, transfer(POOL, TRADER, USDC, 150), events=from_sol)) == 150


def test_in_sol_there_is_a_price_while_that_of_sol_is_known() -> None:
    pricing = Pricing(TOKENS)
    in_sol = bought(JUP, 1_000, 2, SOL, number=2)
    with pytest.raises(NoPrice, match="quote_without_price"):
        price_of(in_sol, pricing)
    price_of(bought(SOL, 1, 150), pricing)
    price_of(bought(SOL, 1, 999, slot=1), pricing)  # of an older slot
    assert price_of(in_sol, pricing).usd == Decimal("0.3")
    with pytest.raises(NoPrice, match="quote_without_price"):
        price_of(in_sol | {"timestamp": NOW_S - 61}, pricing)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (bought(UNKNOWN, 5, 1), "unknown_mint"),
        (bought(JUP, 5, 1, UNKNOWN), "unknown_mint"),
        (enhanced(transfer(TRADER, POOL, USDC, 1), transfer(POOL, TRADER, USDT, 1)), "only_money"),
        (enhanced(transfer(TRADER, POOL, BONK, 1), transfer(POOL, TRADER, JUP, 1)), "no_money"),
        (enhanced(transfer(TRADER, POOL, BONK, 1), transfer(TRADER, POOL, USDC, 1)), "no_swap"),
        (enhanced(transfer(TRADER, POOL, BONK, 1)), "no_swap"),
        (enhanced(), "no_swap"),
        (enhanced(*bought(BONK, 1, 1)["tokenTransfers"], transfer(POOL, TRADER, JUP, 1)), "several_tokens"),
        (bought(BONK, 1, 1, type="TRANSFER"), "no_swap"),
        (bought(BONK, 1, 1, transactionError={"a": 1}), "failed"),
        (raw([], [], meta={"err": {"a": 1}}), "failed"),
    ],
)
def test_events_that_say_no_price_are_no_error(event: object, reason: str) -> None:
    assert why_not(event) == f"no price: {reason}"


BAD_AMOUNTS = {
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
    "-1": -1,
    "0": 0,
    "0.0": 0.0,
    "1E\\+21": 1e21,
    "'5'": "5",
    "True": True,
    "missing": None,
    "an object": {},
}


@pytest.mark.parametrize(("shown", "amount"), BAD_AMOUNTS.items())
def test_amounts_that_are_none_are_refused_with_their_place(shown: str, amount: object) -> None:
    with pytest.raises(Unusable, match=rf"^tokenTransfers\[1\]: tokenAmount is {shown}, not a"):
        price_of(bought(BONK, amount, 5))


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ("text", "the event is 'text', not an object"),
        ({}, "it is neither an enhanced nor a raw transaction: it has no signature, no transaction"),
        (bought(BONK, 1, 1, timestamp=NOW_S + 61), f"timestamp is {NOW_S + 61}, more than 60 s ahead of this machine's clock"),
        (bought(BONK, 1, 1, timestamp=-5), "timestamp is -5, not seconds since 1970, of 2020-03-16 or later"),
        (bought(BONK, 1, 1, timestamp=1.5), "timestamp is 1.5, not seconds since 1970, of 2020-03-16 or later"),
        (bought(BONK, 1, 1, slot=0), "slot is 0, not a whole number above 0"),
        (bought(BONK, 1, 1, slot=True), "slot is True, not a whole number above 0"),
        (bought(BONK, 1, 1, tokenTransfers=None), "tokenTransfers is missing, not an array"),
        (bought(BONK, 1, 1, tokenTransfers=[5]), "tokenTransfers[0] is 5, not an object"),
        (bought(BONK, 1, 1, feePayer="0"), "feePayer is '0', not an address (32 to 44 characters of base 58)"),
        (
            bought(BONK, 1, 1, signature="z" * 9_000),
            f"signature is '{'z' * 40}...', not a signature (64 to 88 characters of base 58)",
        ),
        (bought(BONK, 1, 1, type=7), "type is 7, not a text"),
        (enhanced(events=[]), "events is an array, not an object"),
        (enhanced(events={"swap": {"tokenInputs": 5}}), "events.swap.tokenInputs is 5, not an array"),
        (enhanced(events={"swap": {"tokenOutputs": True}}), "events.swap.tokenOutputs is True, not an array"),
        (enhanced(events={"swap": {"tokenInputs": {}}}), "events.swap.tokenInputs is an object, not an array"),
        (bought(BONK, 0.000001, 5), "tokenTransfers[1]: tokenAmount is less than the smallest unit of BONK"),
        (bought(BONK, 10**15, 0.000001), "the price of BONK comes to 0.0000000000 USD, not above 0 and below 10^18"),
        (raw([balance(TRADER, USDC, "-5")], []), "meta.preTokenBalances[0]: uiTokenAmount.amount is '-5', not a whole number of up to 20 digits"),
        (raw([balance(TRADER, USDC, "5", 9)], []), "meta.preTokenBalances[0]: USDC has 9 decimals, SENTIO_WEBHOOK_TOKENS says 6"),
        (raw([balance(TRADER, USDC, "5", -1)], []), "meta.preTokenBalances[0]: uiTokenAmount.decimals is -1, not a whole number from 0 to 255"),
        (raw([], [], blockTime=None), "blockTime is missing, not seconds since 1970, of 2020-03-16 or later"),
        (raw([], [], meta=None), "meta is missing, not an object"),
        (raw([], [], transaction={"signatures": []}), "transaction.signatures[0] is missing, not a signature (64 to 88 characters of base 58)"),
    ],
)  # fmt: skip
def test_what_is_not_as_it_should_be_is_refused_with_the_reason(event: object, reason: str) -> None:
    assert why_not(event) == reason


def test_changes_have_every_digit_that_was_sent() -> None:
    digits = "12345678901234567890.123456789"
    text = json.dumps(enhanced(transfer(TRADER, POOL, SOL, "DIGITS"))).replace('"DIGITS"', digits)
    [event] = exact_events(f"[{text}]".encode())
    assert helius.swap(event, TOKENS, lambda: float(NOW_S)).changes == {SOL.mint: Decimal(f"-{digits}")}


def test_a_price_is_rounded_once_and_half_to_even() -> None:
    assert amounts.ratio(Decimal(1), Decimal(3)) == Decimal("0.3333333333")
    assert amounts.ratio(Decimal("0.00000000005"), Decimal(1)) == 0
    assert amounts.ratio(Decimal("0.00000000015"), Decimal(1)) == Decimal("0.0000000002")
    # Rounded to 76 digits first, this would be a half, and rounded down.
    above_half = Decimal("0.00000000005" + "0" * 80 + "1")
    assert amounts.ratio(above_half, Decimal(1)) == Decimal("0.0000000001")


@given(st.decimals(min_value="1e-12", max_value="1e12"), st.decimals(min_value="1e-12", max_value="1e12"))
def test_a_ratio_is_that_of_fractions(left: Decimal, right: Decimal) -> None:
    exact = Fraction(left) / Fraction(right)
    assert amounts.ratio(left, right) == Decimal(round(exact * 10**10)).scaleb(-10, amounts.EXACT)
    assert amounts.ratio(left.copy_negate(), right.copy_negate()) == amounts.ratio(left, right)


def test_of_a_signature_that_is_none_the_words_are_ascii() -> None:
    assert helius.signature_of({"signature": "a\ud800\u00e9" + "b" * 100}) == "a??" + "b" * 85


def test_ids_are_the_same_again_and_in_the_order_of_time_and_slot() -> None:
    swaps = [
        helius.swap(bought(BONK, 1, 1, number=number, slot=slot, timestamp=at_s), TOKENS, lambda: float(NOW_S))
        for number, (at_s, slot) in enumerate(
            [(NOW_S - 1, 90), (NOW_S - 1, 5_000_000), (NOW_S, 4_095), (NOW_S, 4_096), (NOW_S, 16_000_000)]
        )
    ]
    ids = [event_id(*swap[:3]) for swap in swaps]
    assert ids == sorted(ids) == [event_id(*swap[:3]) for swap in swaps]
    assert {UUID(bytes=one).version for one in ids} == {7}
    assert {UUID(bytes=one).variant for one in ids} == {UUID(int=0).variant, "specified in RFC 4122"} - {
        UUID(int=0).variant
    }
    assert [int.from_bytes(one[:6]) for one in ids] == [swap.at_s * 1_000 for swap in swaps]


@pytest.mark.parametrize("seed", range(3))
def test_the_simulator_is_read_as_it_says(seed: int) -> None:
    pricing = Pricing(TOKENS)
    simulation = Simulation(TOKENS, seed=seed, start_s=NOW_S - 100, rate=50, batch=25)
    seen: set[str] = set()
    for delivery in simulation.deliveries(1_000):
        events = exact_events(json.dumps(delivery.events).encode())
        found, ignored, refused, repeated = [], 0, 0, 0
        for event in events:
            try:
                price = pricing.price(helius.swap(event, TOKENS, lambda: float(NOW_S)))
            except NoPrice:
                ignored += 1
            except Unusable:
                refused += 1
            else:
                repeated += price.signature in seen
                if price.signature not in seen:
                    found.append((price.signature, price.slot, price.symbol, price.usd))
                seen.add(price.signature)
        assert found == [(each.signature, each.slot, each.symbol, each.price) for each in delivery.prices]
        assert (ignored, refused, repeated) == (delivery.ignored, delivery.refused, delivery.repeated)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A sound event in which something, somewhere, is any JSON instead."""
    event = draw(
        st.sampled_from(
            [bought(BONK, 5, 1), raw([balance(TRADER, USDC, "5000000")], [balance(TRADER, JUP, "2000000")])]
        )
    )
    copy = at = json.loads(json.dumps(event))
    while True:
        place = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else list(range(len(at)))))
        if not isinstance(at[place], (dict, list)) or not at[place] or draw(st.booleans()):
            at[place] = draw(json_values)
            return copy
        at = at[place]


def outcome(event: object) -> tuple[bytes, Decimal] | str:
    """What becomes of an event, with its fractions as they are."""
    try:
        price = Pricing(TOKENS).price(helius.swap(event, TOKENS, lambda: float(NOW_S)))
    except (NoPrice, Unusable, Inexact) as why:
        return str(why) or "inexact"
    return price.event_id, price.usd


@given(json_values | damaged())
def test_any_json_is_a_price_or_has_a_reason_in_one_line(event: object) -> None:
    body = json.dumps([event]).encode()
    [whole] = exact_events(body)
    found = outcome(whole)
    if isinstance(found, str):
        assert found.isprintable()
        assert 0 < len(found) < 300
    else:
        assert 0 < found[1] < 10**18
        assert found[1] == amounts.price(found[1])
    assert len(helius.signature_of(whole) or "") <= 88


@given(json_values | damaged())
def test_fields_that_are_read_alone_say_the_same_as_the_whole_event(event: object) -> None:
    body = json.dumps([event]).encode()
    [read], [whole] = events(body), exact_events(body)
    found, exact = outcome(read), outcome(whole)
    if found != "inexact":
        assert isinstance(found, str) == isinstance(exact, str)
        assert isinstance(found, str) or found == exact


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_an_array_or_refused(body: bytes) -> None:
    for read in (events, exact_events):
        found: object = None
        reason = ""
        try:
            found = read(body)
        except NoEvents as why:
            reason = str(why)
        assert isinstance(found, list) or reason.startswith("the body is not")


def test_amounts_beyond_floats_are_read_again_as_they_were_written() -> None:
    text = json.dumps([bought(JUP, "MANY", 1)]).replace('"MANY"', "12345678901.234567")
    [read], [whole] = events(text.encode()), exact_events(text.encode())
    assert outcome(read) == "inexact"
    assert helius.swap(whole, TOKENS, lambda: float(NOW_S)).changes[JUP.mint] == Decimal("12345678901.234567")


def test_a_number_of_thousands_of_digits_costs_its_event_only() -> None:
    text = json.dumps([bought(BONK, "HUGE", 1), bought(BONK, 5, 1)]).replace('"HUGE"', "9" * 10_000)
    for read in (events, exact_events):
        first, second = read(text.encode())
        assert "tokenAmount is " in str(outcome(first))
        assert helius.swap(second, TOKENS, lambda: float(NOW_S)).changes == {USDC.mint: -1, BONK.mint: 5}
