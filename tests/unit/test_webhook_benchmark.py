"""What the benchmark of webhooks makes of a client's frames: latencies, and whether a price went back."""

import json
from uuid import UUID

import pytest

from benchmarks import webhooks
from benchmarks.harness import Unavailable
from benchmarks.webhooks import Heard
from producers.webhooks.simulator import Delivery, Simulation

SIMULATION = {token.mint: token for token in webhooks._tokens()}


def deliveries() -> list[Delivery]:
    simulation = Simulation(SIMULATION, seed=1, start_s=1_760_106_600, rate=100, batch=10, bad=webhooks.BAD)
    return list(simulation.deliveries(100))


def frame(symbol: str, identity: bytes) -> str:
    return json.dumps({"type": "update", "data": {"symbol": symbol, "event_id": str(UUID(bytes=identity))}})


def heard(prices: list[tuple[str, bytes]]) -> Heard:
    return Heard([(10.0 + place, frame(*price)) for place, price in enumerate(prices)])


def test_latencies_are_from_when_a_request_was_due() -> None:
    made = deliveries()
    prices = [next(webhooks._prices([delivery])) for delivery in made]
    frames = heard([prices[0], prices[2], ("other", bytes(16))])
    due_s = [9.5 + number / 10 for number in range(len(made))]
    assert webhooks.latencies_ms(made, due_s, frames) == pytest.approx([500.0, 1_300.0])
    with pytest.raises(Unavailable, match="no price"):
        webhooks.latencies_ms(made, due_s, Heard())


def test_a_client_is_through_with_the_newest_price_of_each_symbol() -> None:
    made = deliveries()
    newest = dict(sorted(webhooks._prices(made), key=lambda one: one[1]))
    webhooks.wait_for_last(made, heard(list(newest.items())))
    symbol, identity = next(iter(newest.items()))
    with pytest.raises(Unavailable, match=f"{symbol} went back to an older price"):
        webhooks.wait_for_last(made, heard([(symbol, identity), (symbol, bytes(16))]))


def test_a_row_has_medians_and_the_largest_of_all() -> None:
    def figures(value: float) -> webhooks.Figures:
        return dict.fromkeys(("p50_ms", "p99_ms", "max_ms", "answer_ms", "receiver", "gateway", "each_us"), value)

    row = webhooks.row("sentio", [figures(1.0), figures(9.0), figures(2.0)])
    assert (row["cpu_us_per_event"], row["wall_us_per_event"]) == (4.0, 2.0)
    assert (row["parts"]["p99_ms"], row["parts"]["max_ms"]) == (2.0, 9.0)
    assert webhooks.percentile([1.0, 2.0, 3.0, 4.0], 0.99) == 4.0
