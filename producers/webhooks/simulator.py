"""A simulated Helius: what it sends, and what is to become of it, both from a seed.

Swaps of the tokens of a file, enhanced and raw, most of them good; besides there are repeats, slots that come late,
mints that nobody knows, transactions that failed or are no swaps, and events that cannot be used.
"""

import random
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any

from producers.webhooks.helius import WRAPPED_SOL
from producers.webhooks.tokens import Token

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
FIRST_SLOT = 380_000_000
SLOT_S = 0.4
WALLETS = 200
LATE_SLOTS = 25
RECENT = 500
"""So far back lies what is sent again."""

RAW, REPEATED, LATE, UNKNOWN, OTHER, BAD = 0.3, 0.03, 0.05, 0.03, 0.02, 0.01
"""Parts of all events."""

BOUGHT, TWO_POOLS = 0.5, 0.4
"""Parts of the swaps."""

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Expected:
    """A price that is to be found exactly once."""

    signature: str
    symbol: str
    price: Decimal
    at_s: int
    slot: int


@dataclass(slots=True)
class Delivery:
    """One request, and what is to become of its events."""

    events: list[object] = field(default_factory=list)
    prices: list[Expected] = field(default_factory=list)
    repeated: int = 0
    ignored: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class _Swap:
    """In smallest units, as the chain has them; ``bought``: the trader paid money for the token."""

    signature: str
    slot: int
    at_s: int
    base: Token
    quote: Token
    base_units: int
    quote_units: int
    bought: bool

    @property
    def expected(self) -> Expected:
        assert self.quote.usd
        paid = Fraction(self.quote_units, 10**self.quote.decimals) * Fraction(self.quote.usd)
        price = paid / Fraction(self.base_units, 10**self.base.decimals)
        return Expected(
            self.signature, self.base.symbol, Decimal(round(price * 10**10)).scaleb(-10), self.at_s, self.slot
        )


class Simulation:
    """The same deliveries for the same arguments. ``rate`` is in events a second of the chain's time."""

    def __init__(
        self, tokens: Mapping[str, Token], *, seed: int, start_s: float, rate: float, batch: int, bad: float = BAD
    ) -> None:
        self._random = random.Random(f"webhooks {seed}")  # noqa: S311 - no secret
        self._money = [token for token in tokens.values() if token.usd]
        self._bases = [token for token in tokens.values() if not token.usd]
        self._start_s, self._rate, self._batch, self._bad_part = start_s, rate, batch, bad
        self._wallets = [self._text(44) for _ in range(WALLETS)]
        self._usd = {token.mint: 10 ** self._random.uniform(-4, 2.5) for token in self._bases}
        self._recent: deque[Event] = deque(maxlen=RECENT)

    def deliveries(self, events: int) -> Iterator[Delivery]:
        """As many as hold ``events``."""
        for first in range(0, events, self._batch):
            delivery = Delivery()
            for number in range(first, min(events, first + self._batch)):
                self._add(delivery, number)
            yield delivery

    def _add(self, delivery: Delivery, number: int) -> None:
        kind = self._random.random()
        if kind < REPEATED and self._recent:
            delivery.events.append(self._random.choice(self._recent))
            delivery.repeated += 1
        elif kind < REPEATED + self._bad_part:
            delivery.events.append(self._bad(number))
            delivery.refused += 1
        elif kind < REPEATED + self._bad_part + OTHER:
            delivery.events.append(self._other(number))
            delivery.ignored += 1
        elif kind < REPEATED + self._bad_part + OTHER + UNKNOWN:
            delivery.events.append(self._written(self._swap(number, unknown=True)))
            delivery.ignored += 1
        else:
            swap = self._swap(number)
            event = self._written(swap)
            delivery.events.append(event)
            delivery.prices.append(swap.expected)
            self._recent.append(event)

    def _swap(self, number: int, *, unknown: bool = False) -> _Swap:
        chance = self._random
        base, quote = chance.choice(self._bases), chance.choice(self._money)
        self._usd[base.mint] *= chance.uniform(0.999, 1.001)
        assert quote.usd
        paid_units = chance.randrange(10**quote.decimals, 1_000 * 10**quote.decimals)
        worth = paid_units / 10**quote.decimals * float(quote.usd) / self._usd[base.mint]
        base_units = max(1, min(1 << 52, round(worth * 10**base.decimals)))
        if unknown:
            base = base.model_copy(update={"mint": self._text(43) + "U"})
        slots = int(number / self._rate / SLOT_S)
        slot = FIRST_SLOT + slots - (chance.randint(1, LATE_SLOTS) if chance.random() < LATE else 0)
        at_s = int(self._start_s + (slot - FIRST_SLOT) * SLOT_S)
        return _Swap(self._text(88), slot, at_s, base, quote, base_units, paid_units, chance.random() < BOUGHT)

    def _written(self, swap: _Swap) -> Event:
        return self._raw(swap) if self._random.random() < RAW else self._enhanced(swap)

    def _enhanced(self, swap: _Swap) -> Event:
        trader, pool, other_pool, validator = self._random.sample(self._wallets, 4)
        given, got, given_units, got_units = _sides(swap)
        transfers = [_transfer(trader, pool, given, given_units)]
        if WRAPPED_SOL not in {given.mint, got.mint} and self._random.random() < TWO_POOLS:
            # Two pools, and SOL between them.
            sol = _SOL, self._random.randrange(10**6, 10**11)
            transfers += [_transfer(pool, trader, *sol), _transfer(trader, other_pool, *sol)]
            pool = other_pool
        transfers.append(_transfer(pool, trader, got, got_units))
        changes = [
            (trader, given, -given_units),
            (pool, given, given_units),
            (trader, got, got_units),
            (pool, got, -got_units),
        ]
        return {
            "accountData": [
                {"account": trader, "nativeBalanceChange": -105_000, "tokenBalanceChanges": []},
                *(_account(*change) for change in changes),
            ],
            "description": f"{trader} swapped {given_units} {given.symbol} for {got_units} {got.symbol}",
            "events": {
                "swap": {
                    "nativeInput": None,
                    "nativeOutput": None,
                    "tokenInputs": [_change(trader, given, given_units)],
                    "tokenOutputs": [_change(trader, got, got_units)],
                    "tokenFees": [],
                    "nativeFees": [],
                    "innerSwaps": [],
                }
            },
            "fee": 5_000,
            "feePayer": trader,
            "instructions": [
                {
                    "accounts": [trader, pool],
                    "data": "3Bxs4h24hBtQy9rw",
                    "innerInstructions": [],
                    "programId": other_pool,
                }
            ],
            "nativeTransfers": [{"amount": 100_000, "fromUserAccount": trader, "toUserAccount": validator}],
            "signature": swap.signature,
            "slot": swap.slot,
            "source": "JUPITER",
            "timestamp": swap.at_s,
            "tokenTransfers": transfers,
            "transactionError": None,
            "type": "SWAP",
        }

    def _raw(self, swap: _Swap) -> Event:
        trader, pool = self._random.sample(self._wallets, 2)
        given, got, given_units, got_units = _sides(swap)
        had = self._random.randrange(1 << 40)
        before = [
            (trader, given, given_units + had),
            (trader, got, had),
            (pool, given, had),
            (pool, got, got_units + had),
        ]
        after = [
            (trader, given, had),
            (trader, got, got_units + had),
            (pool, given, given_units + had),
            (pool, got, had),
        ]
        return {
            "blockTime": swap.at_s,
            "indexWithinBlock": self._random.randrange(1_500),
            "meta": {
                "err": None,
                "fee": 5_000,
                "innerInstructions": [],
                "loadedAddresses": {"readonly": [], "writable": []},
                "logMessages": ["Program log: Instruction: Swap"],
                "postBalances": [1_000_000_000, 2_039_280, 2_039_280],
                "postTokenBalances": [_balance(place, *each) for place, each in enumerate(after, 1)],
                "preBalances": [1_000_005_000, 2_039_280, 2_039_280],
                "preTokenBalances": [_balance(place, *each) for place, each in enumerate(before, 1)],
                "rewards": [],
            },
            "slot": swap.slot,
            "transaction": {
                "message": {
                    "accountKeys": [trader, pool, *self._wallets[:4]],
                    "header": {
                        "numReadonlySignedAccounts": 0,
                        "numReadonlyUnsignedAccounts": 2,
                        "numRequiredSignatures": 1,
                    },
                    "instructions": [{"accounts": [0, 1, 2, 3], "data": "3Bxs4h24hBtQy9rw", "programIdIndex": 5}],
                    "recentBlockhash": self._wallets[5],
                },
                "signatures": [swap.signature],
            },
            "version": 0,
        }

    def _other(self, number: int) -> Event:
        """One that says no price: a transfer, or a swap that failed."""
        event = self._enhanced(self._swap(number))
        return event | self._random.choice(
            [{"type": "TRANSFER"}, {"transactionError": {"InstructionError": [2, {"Custom": 6001}]}}]
        )

    def _bad(self, number: int) -> object:
        """One that cannot be used, for one of the reasons there are."""
        swap = self._swap(number)
        enhanced, raw = self._enhanced(swap), self._raw(swap)
        transfer = enhanced["tokenTransfers"][0]
        amount = raw["meta"]["preTokenBalances"][0]["uiTokenAmount"]
        return self._random.choice(
            [
                enhanced | {"tokenTransfers": [transfer | {"tokenAmount": float("nan")}]},
                enhanced | {"tokenTransfers": [transfer | {"tokenAmount": float("inf")}]},
                enhanced | {"tokenTransfers": [transfer | {"tokenAmount": -1.5}]},
                enhanced | {"tokenTransfers": [transfer | {"tokenAmount": 0}]},
                enhanced | {"timestamp": swap.at_s + 10**7},
                enhanced | {"signature": swap.signature * 10},
                enhanced | {"slot": str(swap.slot)},
                {name: value for name, value in enhanced.items() if name != "tokenTransfers"},
                raw | {"blockTime": None},
                raw
                | {
                    "meta": raw["meta"]
                    | {
                        "preTokenBalances": [
                            raw["meta"]["preTokenBalances"][0] | {"uiTokenAmount": amount | {"amount": "-5"}}
                        ]
                    }
                },
                raw | {"transaction": raw["transaction"] | {"signatures": []}},
                {"hello": "world"},
                "no object",
            ]
        )

    def _text(self, length: int) -> str:
        return "".join(self._random.choices(BASE58, k=length))


_SOL = Token(symbol="SOL", mint=WRAPPED_SOL, decimals=9)


def _sides(swap: _Swap) -> tuple[Token, Token, int, int]:
    """What the trader gave and got, and how much of it."""
    if swap.bought:
        return swap.quote, swap.base, swap.quote_units, swap.base_units
    return swap.base, swap.quote, swap.base_units, swap.quote_units


def _transfer(giver: str, taker: str, token: Token, units: int) -> Event:
    return {
        "fromTokenAccount": giver[::-1],
        "fromUserAccount": giver,
        "mint": token.mint,
        "toTokenAccount": taker[::-1],
        "toUserAccount": taker,
        "tokenAmount": units / 10**token.decimals,
        "tokenStandard": "Fungible",
    }


def _change(owner: str, token: Token, units: int) -> Event:
    return {
        "mint": token.mint,
        "rawTokenAmount": {"decimals": token.decimals, "tokenAmount": str(units)},
        "tokenAccount": owner[::-1],
        "userAccount": owner,
    }


def _account(owner: str, token: Token, units: int) -> Event:
    return {"account": owner[::-1], "nativeBalanceChange": 0, "tokenBalanceChanges": [_change(owner, token, units)]}


def _balance(place: int, owner: str, token: Token, units: int) -> Event:
    return {
        "accountIndex": place,
        "mint": token.mint,
        "owner": owner,
        "programId": "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA",
        "uiTokenAmount": {
            "amount": str(units),
            "decimals": token.decimals,
            "uiAmount": units / 10**token.decimals,
            "uiAmountString": f"{Decimal(units).scaleb(-token.decimals):f}",
        },
    }
