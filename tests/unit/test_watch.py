"""What `sentio watch` shows of what it hears."""

import io
import json
import re
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from rich.console import Console

from gateway.stream.channels import served
from sentio.cli.screen import LAYOUTS, Screen
from sentio.cli.watching import as_document
from sentio_client import (
    CHANNELS,
    AggregateUpdated,
    Event,
    Gap,
    PositionUpdated,
    Resumed,
    SignalGenerated,
    Snapshot,
    Status,
    TradeExecuted,
    Update,
)
from sentio_client.decoding import decode
from tests.scripted import TRADE
from tests.unit.test_client import event_of

AT = datetime(2025, 10, 10, 13, 30, tzinfo=UTC)
OPEN = Status("open", datetime.now(UTC), connections=3)
WORDY = "an account of a very long name, and a reason\nof two lines " * 4


def shown(screen: Screen, status: Status = OPEN) -> list[str]:
    """As on a terminal of 80 columns and 40 lines."""
    file = io.StringIO()
    Console(file=file, width=80, height=40, color_system=None).print(screen.render(status, 40))
    return [line.rstrip() for line in file.getvalue().splitlines()]


def update(event: Event, channel: str = "trades") -> Update:
    return Update(channel, event, "0:1", "cursor", AT)


def filled(kind: type[Event], **changes: Any) -> Any:
    """An event with something in every field."""
    source = event_of(kind.__name__)
    values = {one.name: getattr(source, one.name) for one in fields(kind)}
    return kind(**{**values, "event_id": UUID(bytes=source.event_id), **changes})


def trade(**changes: Any) -> Event:
    return decode(TradeExecuted, {**TRADE, **changes})


@pytest.mark.parametrize("channel", served())
def test_every_channel_is_readable_on_eighty_columns_whatever_events_say(channel: str) -> None:
    names = [channel, f"{channel}.x"]
    screen = Screen("ws://gateway.example.com:8765", names)
    for name in names:
        for number in range(60):
            event = filled(CHANNELS[channel])
            wordy = {one.name: f"{number}{WORDY}" for one in fields(event) if getattr(event, one.name) == "é"}
            screen.take(update(filled(CHANNELS[channel], **wordy, **large(event)), name))
    lines = shown(screen)
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    first, *_, last = LAYOUTS[channel].columns
    headings = [line for line in lines if line.startswith(first)]
    assert [len(line.split()) for line in headings] == [len(LAYOUTS[channel].columns)] * 2
    assert all(line.endswith(last) for line in headings)
    assert not re.search(r"-[\d,.]+…", "".join(lines)), "figures are not cut, names may be"


def large(event: Event) -> dict[str, Decimal]:
    """Its amounts, but for its ratios."""
    names = [one.name for one in fields(event) if isinstance(getattr(event, one.name), Decimal)]
    ratios = {"win_rate", "day_return"}
    return {name: Decimal("0.5") if name in ratios else Decimal("-12345.67") for name in names}


def test_fills_are_shown_the_newest_first_and_exactly() -> None:
    screen = Screen("ws://x", ["trades"])
    screen.take(Snapshot("trades", (trade(symbol="OLD"),), truncated=False, cursor="c"))
    screen.take(update(trade(symbol="NEW", price="1234.5000000001", realized_pnl="-0.125", quantity="1000")))
    rows = [line.split() for line in shown(screen) if line.strip().startswith("13:30")]
    assert [row[:6] for row in rows] == [
        ["13:30:00", "NEW", "BUY", "1,000", "1,234.5000000001", "-0.12"],
        ["13:30:00", "OLD", "BUY", "100", "101.25", "test"],
    ]
    assert "trades  1 heard" in shown(screen)[2]


def test_of_keyed_channels_the_newest_is_shown_and_nothing_that_is_no_longer_held() -> None:
    screen = Screen("ws://x", ["signals", "positions", "aggregates"])
    for direction in ("SHORT", "LONG"):
        screen.take(update(filled(SignalGenerated, direction=direction), "signals"))
    for symbol, quantity in (("A", 1), ("B", 2), ("A", 0)):
        screen.take(update(filled(PositionUpdated, symbol=symbol, quantity=Decimal(quantity)), "positions"))
    for revision, trips in ((2, 22), (1, 11)):
        screen.take(update(filled(AggregateUpdated, revision=revision, trades=trips), "aggregates"))
    text = "\n".join(shown(screen))
    assert ("LONG" in text, "SHORT" in text) == (True, False)
    assert (" B " in text, " A " in text) == (True, False)
    assert (" 22 " in text, " 11 " in text) == (True, False)


def test_the_first_line_says_how_the_connection_is() -> None:
    screen = Screen("ws://x", ["trades"])
    for _ in range(20):
        screen.take(update(trade()))
    screen.take(Gap("trades", "missing", "0:2 did not come"))
    head, _, title, *_ = shown(screen, replace(OPEN, since=datetime.now(UTC) - timedelta(seconds=3_723)))
    assert head == "● ws://x  open 1:02:03  2.0/s  1 gaps  2 reconnects"
    assert "missing, 0:2 did not come" in title
    screen.take(Resumed("trades"))
    assert "resumed at" in shown(screen)[2]
    waiting = Status("waiting", datetime.now(UTC) + timedelta(seconds=0.5), "closed with 1006", 7.0)
    assert shown(screen, waiting)[0].startswith("○ ws://x  again in 7.")
    assert shown(screen, waiting)[0].endswith("closed with 1006")


def test_a_line_of_json_holds_the_item_exactly() -> None:
    said = json.loads(json.dumps(as_document(update(trade(price="101.2500000001")))))
    assert (said["type"], said["seq"], said["at"]) == ("update", "0:1", "2025-10-10T13:30:00Z")
    assert said["event"]["price"] == "101.2500000001"
    assert said["event"]["event_id"] == TRADE["event_id"]
    assert as_document(Gap("trades", "lost", "why")) == {
        "type": "gap",
        "channel": "trades",
        "reason": "lost",
        "message": "why",
    }
