"""Round trips: each fill that closes something, with what it closes. First in, first out."""

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from gateway.rest.models import RoundTrip
from schemas.amounts import EXACT, money, price, product


@dataclass(frozen=True, slots=True)
class Fill:
    """A row of trades, as far as pairing needs it. Amounts in shares and USD."""

    strategy: str
    symbol: str
    action: Literal["ENTRY", "EXIT"]
    side: Literal["BUY", "SELL"]
    quantity: Decimal
    price: Decimal
    realized_pnl: Decimal | None
    fees: Decimal
    executed_at: datetime


@dataclass(slots=True)
class _Lot:
    quantity: Decimal
    price: Decimal
    fees: Decimal
    at: datetime

    def take(self, wanted: Decimal) -> tuple[Decimal, Decimal]:
        """Shares taken, and their fees: rounded by share, exact in sum."""
        taken = min(wanted, self.quantity)
        fees = money(EXACT.divide(product(self.fees, taken), self.quantity))
        self.quantity -= taken
        self.fees -= fees
        return taken, fees


def round_trips(fills: Iterable[Fill]) -> list[RoundTrip]:
    """Those of fills in order of time, each with a realized_pnl, in the same order."""
    lots: dict[tuple[str, str], deque[_Lot]] = defaultdict(deque)
    trips = []
    for fill in fills:
        of_symbol = lots[fill.strategy, fill.symbol]
        if fill.action == "ENTRY":
            of_symbol.append(_Lot(fill.quantity, fill.price, fill.fees, fill.executed_at))
            continue
        trip = _close(fill, of_symbol)
        if trip is not None:
            trips.append(trip)
    return trips


def _close(fill: Fill, lots: deque[_Lot]) -> RoundTrip | None:
    left, cost, fees = fill.quantity, Decimal(0), fill.fees
    opened_at = lots[0].at if lots else None
    while left and lots:
        lot = lots[0]
        taken, of_entry = lot.take(left)
        left -= taken
        cost = EXACT.add(cost, product(taken, lot.price))
        fees += of_entry
        if not lot.quantity:
            lots.popleft()
    if fill.realized_pnl is None:
        return None
    whole = not left
    return RoundTrip(
        strategy=fill.strategy,
        symbol=fill.symbol,
        direction="LONG" if fill.side == "SELL" else "SHORT",
        quantity=fill.quantity,
        entry_price=price(EXACT.divide(cost, fill.quantity)) if whole else None,
        exit_price=fill.price,
        fees=fees if whole else None,
        realized_pnl=fill.realized_pnl,
        opened_at=opened_at if whole else None,
        closed_at=fill.executed_at,
    )
