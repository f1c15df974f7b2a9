"""A receiver of webhooks as a process, and events as Helius sends them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from producers.webhooks import helius
from producers.webhooks.prices import Price, Pricing
from producers.webhooks.tokens import Token
from tests.pipeline import until

SENTIO = Path(sys.executable).parent / "sentio"
SECRET = "a secret of the tests"

SOL = Token(symbol="SOL", mint="So11111111111111111111111111111111111111112", decimals=9, quote=True)
USDC = Token(symbol="USDC", mint="EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v", decimals=6, usd=Decimal(1))
USDT = Token(symbol="USDT", mint="Es9vMFrzaCERmJfrF4H2FYD4KCoNkY11McCe8BenwNYB", decimals=6, usd=Decimal(1))
BONK = Token(symbol="BONK", mint="DezXAZ8z7PnrnRJjz3wXBoRgixCa6xjnB7YaB1pPB263", decimals=5)
JUP = Token(symbol="JUP", mint="JUPyiwrYJFskUPiHa7hkeR8VUtAeFoSYbKedZNsDvCN", decimals=6)
TOKENS = {token.mint: token for token in (SOL, USDC, USDT, BONK, JUP)}

TRADER, POOL, OTHER_POOL = "T" * 44, "P" * 44, "Q" * 44
NOW_S = 1_760_106_600  # 2025-10-10 14:30:00 UTC


def toml(tokens: Mapping[str, Token] = TOKENS) -> str:
    """The file of these tokens."""
    text = ""
    for token in tokens.values():
        text += f'[[tokens]]\nsymbol = "{token.symbol}"\nmint = "{token.mint}"\ndecimals = {token.decimals}\n'
        text += f'usd = "{token.usd}"\n' if token.usd else ""
        text += "quote = true\n" if token.quote else ""
    return text


def transfer(giver: str, taker: str, token: Token, amount: object) -> dict[str, Any]:
    return {"fromUserAccount": giver, "toUserAccount": taker, "mint": token.mint, "tokenAmount": amount}


def signature(number: int) -> str:
    return f"{number}".translate(str.maketrans("0123456789", "ABCDEFGHJK")).rjust(88, "z")


def enhanced(*transfers: dict[str, Any], number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "type": "SWAP",
        "signature": signature(number),
        "slot": 1_000 + number,
        "timestamp": NOW_S,
        "feePayer": TRADER,
        "transactionError": None,
        "tokenTransfers": list(transfers),
    } | more


def bought(token: Token, amount: object, paid: object, money: Token = USDC, **more: Any) -> dict[str, Any]:
    """The trader gave ``paid`` money for ``amount`` tokens."""
    return enhanced(transfer(TRADER, POOL, money, paid), transfer(POOL, TRADER, token, amount), **more)


def balance(owner: str, token: Token, units: object, decimals: int | None = None) -> dict[str, Any]:
    amount = {"amount": units, "decimals": token.decimals if decimals is None else decimals}
    return {"owner": owner, "mint": token.mint, "uiTokenAmount": amount}


def raw(before: list[dict[str, Any]], after: list[dict[str, Any]], number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "blockTime": NOW_S,
        "slot": 1_000 + number,
        "meta": {"err": None, "preTokenBalances": before, "postTokenBalances": after},
        "transaction": {"signatures": [signature(number)], "message": {"accountKeys": [TRADER, POOL]}},
    } | more


@dataclass
class Running:
    """A receiver that runs, and its log."""

    process: "subprocess.Popen[bytes]"
    log: Path
    environment: dict[str, str]

    @property
    def url(self) -> str:
        """Where it listens; waits until it does."""
        return str(until(self._address))

    def post(self, events: object, **headers: str) -> httpx.Response:
        return self.send(json.dumps(events).encode(), **headers)

    def send(self, body: bytes, **headers: str) -> httpx.Response:
        given = {"Authorization": SECRET, "Content-Type": "application/json"} | headers
        return httpx.post(self.url, content=body, headers=given, timeout=10)

    def _address(self) -> str | None:
        assert self.process.poll() is None, self.log.read_text()
        found = re.findall(r'"address": "([^"]+)"', self.log.read_text())
        return found[-1] if found else None


@contextmanager
def receiver(bootstrap: str, prefix: str, folder: Path, **more: str) -> Iterator[Running]:
    """`sentio run webhooks` with its journal, tokens and log in ``folder``; killed at the end."""
    tokens, log = folder / "tokens.toml", folder / "receiver.log"
    tokens.write_text(toml())
    log.write_text("")
    environment = dict(os.environ) | {
        "SENTIO_KAFKA": bootstrap,
        "SENTIO_TOPIC_PREFIX": prefix,
        "SENTIO_SPOOL": str(folder / "spool"),
        "SENTIO_WEBHOOK_SECRET": SECRET,
        "SENTIO_WEBHOOK_TOKENS": str(tokens),
        "SENTIO_WEBHOOK_PORT": "0",
    }
    with log.open("ab") as said:
        process = subprocess.Popen([SENTIO, "run", "webhooks"], env=environment | more, stdout=said, stderr=said)
        try:
            yield Running(process, log, environment | more)
        finally:
            process.kill()
            process.wait()


def price(number: int, **more: Any) -> Price:
    """Of a swap of its own."""
    swap = helius.swap(bought(BONK, 5, number, number=number, **more), TOKENS, lambda: float(NOW_S))
    return Pricing(TOKENS).price(swap)
