"""What Helius sends, an event at a time: checked, and brought down to what its trader gained and gave of each token.

Knows enhanced transactions (parsed by Helius) and raw ones (as Solana's RPC has them). What they look like, and where
that is written, is in docs/webhooks.md. Whose prices are wanted is not known here.
"""

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from decimal import Context, Decimal
from typing import Any, NamedTuple

from producers.webhooks.tokens import Token

WRAPPED_SOL = "So11111111111111111111111111111111111111112"
LAMPORTS = 9
"""Decimals of SOL."""

MOST_DECIMALS = 255
MOST_AHEAD_S = 60
"""How far a block's time may be ahead of this machine's clock; Solana's own may be off by some seconds."""

FIRST_S = 1_584_316_800
"""2020-03-16, when Solana's chain begins."""

LARGEST = Decimal(10) ** 20
"""Of an amount, in whole tokens: a token has 2^64 of its smallest unit at most."""

_FLOATS_END = 2.0**53
"""Below it every whole number is a float."""

_UNITS = [10.0**decimals for decimals in range(19)]
_UNIT = [Decimal(1).scaleb(-decimals) for decimals in range(19)]
_BOTH = 2
"""Sides of a swap."""

_SIGNATURE = re.compile(r"[1-9A-HJ-NP-Za-km-z]{64,88}")
_ADDRESS = re.compile(r"[1-9A-HJ-NP-Za-km-z]{32,44}")
_DIGITS = re.compile(r"[0-9]{1,20}")
_EXACT = Context(prec=60)
_SHOWN = 40


class Unusable(ValueError):
    """The event is not as it should be: why, in one line."""


class Inexact(Exception):
    """A float, beyond what floats say exactly: the event has to be read again with decimals."""


class NoPrice(Exception):
    """The event is fine, and says no price that is wanted: which kind of event it is."""


class Swap(NamedTuple):
    """What the one who signed a transaction exchanged in it, whatever pools it went through."""

    signature: str
    slot: int
    at_s: int
    """The block's time, Unix seconds: Solana has no finer one."""

    changes: Mapping[str, Decimal]
    """By mint, in whole tokens, below zero what was given; none is zero. Known mints are exact."""


def signature_of(event: object) -> str | None:
    """The signature that an event says it has, for the words about it: ASCII, whatever it is."""
    if not isinstance(event, dict):
        return None
    found = event.get("signature")
    if found is None and isinstance(event.get("transaction"), dict):
        signatures = event["transaction"].get("signatures")
        found = signatures[0] if isinstance(signatures, list) and signatures else None
    return found[:88].encode("ascii", "replace").decode() if isinstance(found, str) else None


def swap(event: object, tokens: Mapping[str, Token], now_s: Callable[[], float] = time.time) -> Swap:
    """Read one event. Raises `Unusable`, `NoPrice`, or `Inexact` where fractions are floats."""
    values = _object(event, "the event")
    if "transaction" in values:
        return _raw(values, tokens, now_s())
    if "signature" in values or "tokenTransfers" in values:
        return _enhanced(values, tokens, now_s())
    raise Unusable("it is neither an enhanced nor a raw transaction: it has no signature, no transaction")


def _enhanced(event: dict[str, Any], tokens: Mapping[str, Token], now_s: float) -> Swap:
    signature = _signature(event.get("signature"), "signature")
    if _text(event, "type") != "SWAP":
        raise NoPrice("no_swap")
    if event.get("transactionError") is not None:
        raise NoPrice("failed")
    slot, at_s = _slot(event), _time(event, "timestamp", now_s)
    transfers = _list(event, "tokenTransfers")
    trader = _address(event.get("feePayer"), "feePayer")
    changes = _transferred(trader, transfers, tokens)
    if len(changes) < _BOTH:
        deal = _deal(event)
        if not changes and (user := _user(deal)):
            trader = user  # somebody else paid the fee
            changes = _transferred(trader, transfers, tokens)
        if WRAPPED_SOL not in changes and (lamports := _native(deal, trader)):
            changes[WRAPPED_SOL] = lamports
    return Swap(signature, slot, at_s, changes)


def _transferred(trader: str, transfers: list[Any], tokens: Mapping[str, Token]) -> dict[str, Decimal]:
    """What came to the trader less what went, as far as that is something: hops between pools are not the trader's,
    and what passes through adds up to nothing.
    """
    changes: dict[str, Decimal] = {}
    for place, transfer in enumerate(transfers):
        if not isinstance(transfer, dict):
            raise Unusable(f"tokenTransfers[{place}] is {_shown(transfer)}, not an object")
        came = (transfer.get("toUserAccount") == trader) - (transfer.get("fromUserAccount") == trader)
        if came:
            try:
                mint, amount = _moved(transfer, tokens)
            except Unusable as why:
                raise Unusable(f"tokenTransfers[{place}]: {why}") from None
            change = amount if came > 0 else amount.copy_negate()
            changes[mint] = _EXACT.add(changes[mint], change) if mint in changes else change
    return _nonzero(changes)


def _moved(transfer: dict[str, Any], tokens: Mapping[str, Token]) -> tuple[str, Decimal]:
    """The mint, and how much of it."""
    mint, amount = transfer.get("mint"), transfer.get("tokenAmount")
    token = tokens.get(mint) if isinstance(mint, str) else None
    if token is None:
        return _address(mint, "mint"), _amount(amount, "tokenAmount")
    if isinstance(amount, float) and amount > 0:
        if amount * _UNITS[token.decimals] >= _FLOATS_END:
            raise Inexact
        exact = Decimal(repr(amount))
    else:
        exact = _amount(amount, "tokenAmount")
    # A number that JavaScript wrote of whole units: the nearest of those is what it was.
    units = exact.quantize(_UNIT[token.decimals], context=_EXACT)
    if not units:
        raise Unusable(f"tokenAmount is less than the smallest unit of {token.symbol}")
    return token.mint, units


def _deal(event: dict[str, Any]) -> dict[str, Any]:
    """Helius' own summary of a swap; empty where there is none."""
    events = event.get("events")
    found = _object(events, "events").get("swap") if events is not None else None
    return _object(found, "events.swap") if found is not None else {}


def _user(deal: dict[str, Any]) -> str | None:
    for name in ("tokenInputs", "tokenOutputs"):
        if deal.get(name) is not None and (given := _list(deal, name, "events.swap.")):
            user = given[0].get("userAccount") if isinstance(given[0], dict) else None
            return user if isinstance(user, str) else None
    return None


def _native(deal: dict[str, Any], trader: str) -> Decimal:
    """SOL that was swapped without being wrapped. The balances would have fees, tips and rents in them."""
    total = Decimal(0)
    for name in ("nativeInput", "nativeOutput"):
        if deal.get(name) is None:
            continue
        given = _object(deal[name], f"events.swap.{name}")
        if given.get("account") == trader:
            amount = _units(given.get("amount"), LAMPORTS, f"events.swap.{name}.amount")
            total = _EXACT.add(total, amount.copy_negate() if name == "nativeInput" else amount)
    return total


def _raw(event: dict[str, Any], tokens: Mapping[str, Token], now_s: float) -> Swap:
    transaction = _object(event["transaction"], "transaction")
    signatures = _list(transaction, "signatures", "transaction.")
    signature = _signature(signatures[0] if signatures else None, "transaction.signatures[0]")
    meta = _object(event.get("meta"), "meta")
    if meta.get("err") is not None:
        raise NoPrice("failed")
    slot, at_s = _slot(event), _time(event, "blockTime", now_s)
    message = _object(transaction.get("message"), "transaction.message")
    keys = _list(message, "accountKeys", "transaction.message.")
    payer = keys[0] if keys else None
    trader = _address(payer.get("pubkey") if isinstance(payer, dict) else payer, "transaction.message.accountKeys[0]")
    changes: defaultdict[str, Decimal] = defaultdict(Decimal)
    for mint, amount in _balances(meta, "preTokenBalances", trader, tokens):
        changes[mint] = _EXACT.subtract(changes[mint], amount)
    for mint, amount in _balances(meta, "postTokenBalances", trader, tokens):
        changes[mint] = _EXACT.add(changes[mint], amount)
    return Swap(signature, slot, at_s, _nonzero(changes))


def _balances(
    meta: dict[str, Any], name: str, trader: str, tokens: Mapping[str, Token]
) -> Iterator[tuple[str, Decimal]]:
    for place, balance in enumerate(_list(meta, name, "meta.")):
        try:
            if _object(balance, "it").get("owner") == trader:
                yield _balance(balance, tokens)
        except Unusable as why:
            raise Unusable(f"meta.{name}[{place}]: {why}") from None


def _balance(balance: dict[str, Any], tokens: Mapping[str, Token]) -> tuple[str, Decimal]:
    mint = _address(balance.get("mint"), "mint")
    amount = _object(balance.get("uiTokenAmount"), "uiTokenAmount")
    decimals = amount.get("decimals")
    if type(decimals) is not int or not 0 <= decimals <= MOST_DECIMALS:
        raise Unusable(f"uiTokenAmount.decimals is {_shown(decimals)}, not a whole number from 0 to {MOST_DECIMALS}")
    if (token := tokens.get(mint)) and decimals != token.decimals:
        raise Unusable(f"{token.symbol} has {decimals} decimals, SENTIO_WEBHOOK_TOKENS says {token.decimals}")
    return mint, _units(amount.get("amount"), decimals, "uiTokenAmount.amount")


def _nonzero(changes: Mapping[str, Decimal]) -> dict[str, Decimal]:
    return {mint: change for mint, change in changes.items() if change}


def _object(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unusable(f"{name} is {_shown(value)}, not an object")
    return value


def _list(values: dict[str, Any], name: str, of: str = "") -> list[Any]:
    value = values.get(name)
    if not isinstance(value, list):
        raise Unusable(f"{of}{name} is {_shown(value)}, not an array")
    return value


def _text(values: dict[str, Any], name: str) -> str:
    value = values.get(name)
    if not isinstance(value, str):
        raise Unusable(f"{name} is {_shown(value)}, not a text")
    return value


def _signature(value: object, name: str) -> str:
    if not isinstance(value, str) or not _SIGNATURE.fullmatch(value):
        raise Unusable(f"{name} is {_shown(value)}, not a signature (64 to 88 characters of base 58)")
    return value


def _address(value: object, name: str) -> str:
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
        raise Unusable(f"{name} is {_shown(value)}, not an address (32 to 44 characters of base 58)")
    return value


def _slot(values: dict[str, Any]) -> int:
    value = values.get("slot")
    if type(value) is not int or not 0 < value < 1 << 63:
        raise Unusable(f"slot is {_shown(value)}, not a whole number above 0")
    return value


def _time(values: dict[str, Any], name: str, now_s: float) -> int:
    value = values.get(name)
    if type(value) is not int or value < FIRST_S:
        raise Unusable(f"{name} is {_shown(value)}, not seconds since 1970, of 2020-03-16 or later")
    if value > now_s + MOST_AHEAD_S:
        raise Unusable(f"{name} is {_shown(value)}, more than {MOST_AHEAD_S} s ahead of this machine's clock")
    return value


def _amount(value: object, name: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise Unusable(f"{name} is {_shown(value)}, not a number")
    amount = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not amount.is_finite() or not 0 < amount <= LARGEST:
        raise Unusable(f"{name} is {_shown(amount)}, not a finite number above 0, up to 10^20")
    return amount


def _units(value: object, decimals: int, name: str) -> Decimal:
    """Whole tokens of a number of smallest units, which is written as text."""
    digits = str(value) if type(value) is int and 0 <= value < LARGEST else value
    if not isinstance(digits, str) or not _DIGITS.fullmatch(digits):
        raise Unusable(f"{name} is {_shown(value)}, not a whole number of up to 20 digits")
    return Decimal(digits).scaleb(-decimals, _EXACT)


def _shown(value: object) -> str:
    """Short, whatever it is, and in one line."""
    if value is None:
        return "missing"
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "an array"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= LARGEST:
        return "a number beyond 10^20"
    text = ascii(value[: _SHOWN + 1])[1:-1] if isinstance(value, str) else str(value)
    text = text[:_SHOWN] + ("..." if len(text) > _SHOWN else "")
    return f"'{text}'" if isinstance(value, str) else text
