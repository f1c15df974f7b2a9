"""The tokens whose prices are wanted, from a TOML file: their mints, symbols, decimals, and what is money among them.

    [[tokens]]
    symbol = "SOL"
    mint = "So11111111111111111111111111111111111111112"
    decimals = 9
    quote = true

    [[tokens]]
    symbol = "USDC"
    mint = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"
    decimals = 6
    usd = "1"

``usd`` makes a token money: one of it is worth so many USD, always, and it has no price of its own. In one with
``quote`` the others are priced too, by its own newest price, while that is known.
"""

import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sentio.errors import SettingError

Symbol = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._$-]*$", max_length=32)]
Mint = Annotated[str, Field(pattern=r"^[1-9A-HJ-NP-Za-km-z]{32,44}$")]


class Token(BaseModel):
    """One kind of token."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    symbol: Symbol
    mint: Mint
    decimals: int = Field(ge=0, le=18)
    """One token is 10^decimals of its smallest unit."""

    usd: Annotated[Decimal, Field(gt=0, le=1_000_000, decimal_places=10)] | None = None
    quote: bool = False


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tokens: list[Token]


def read(path: Path) -> Mapping[str, Token]:
    """The tokens of a file by mint; raises `SettingError` naming what is wrong with it."""
    try:
        tokens = _File.model_validate(tomllib.loads(path.read_text())).tokens
    except ValidationError as failure:
        error = failure.errors(include_url=False)[0]
        raise _wrong(path, f"{'.'.join(map(str, error['loc']))}: {error['msg']}") from None
    except OSError as failure:
        raise _wrong(path, failure.strerror or str(failure)) from None
    except ValueError as failure:  # neither UTF-8 nor TOML
        raise _wrong(path, str(failure)) from None
    for name in ("mint", "symbol"):
        values = [getattr(token, name) for token in tokens]
        if twice := {value for value in values if values.count(value) > 1}:
            raise _wrong(path, f"the {name} {min(twice)} is there twice")
    if not any(token.usd for token in tokens):
        raise _wrong(path, "no token has usd, so that nothing could be priced")
    return {token.mint: token for token in tokens}


def _wrong(path: Path, what: str) -> SettingError:
    return SettingError(f"SENTIO_WEBHOOK_TOKENS={path}: {what}; see docs/webhooks.md")
