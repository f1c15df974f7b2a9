"""How each version of an event lies in bytes, and what its values may be: the rules that both codecs keep.

avro/*.avsc give numbers their limits: ``above``, ``from`` and ``to``, in the reader's (newest) schema.
"""

from decimal import Decimal
from itertools import chain
from math import inf
from struct import Struct
from typing import Any, NamedTuple

from schemas.registry import Schema

MAGIC = 0
FRAME = Struct(">bI")
"""Confluent's framing: byte 0 and a 4-byte schema id, big-endian."""

# A time outside these years is a clock gone wrong (and the far ends break time zones and datetimes).
FIRST_US = 0
LAST_US = 7_258_118_400_000_000 - 1

_SHAPES = {
    "null", "boolean", "int", "long", "float", "double", "bytes", "decimal", "string", "fixed", "enum",
}  # fmt: skip
_LONG = (-(2**63), 2**63 - 1)


class Branch(NamedTuple):
    """One type that a field's bytes can have, and its limits where the reader has that field."""

    shape: str
    size: int = 0
    """Bytes of a fixed, symbols of an enum."""

    whole: tuple[int, int] | None = None
    """Least and greatest long, time (µs) or unscaled decimal."""

    real: tuple[float, bool, float] | None = None
    """Low end of a double, whether it belongs to it, and the high end."""

    text: bool = False
    """No NUL character, which PostgreSQL cannot hold."""

    symbols: list[bool] | None = None
    """For each symbol of an enum: the reader knows it."""


class Field(NamedTuple):
    """One field of a writer's record, in its order."""

    name: str
    is_union: bool
    branches: list[Branch]


def layout(writer: Schema, reader: Schema) -> list[Field]:
    """The fields that ``writer`` puts down, with the limits of those that ``reader`` has."""
    known = {name: field for field in reader["fields"] for name in (field["name"], *field.get("aliases", ()))}
    return [_field(field, known.get(field["name"])) for field in writer["fields"]]


def _field(field: Schema, reads: Schema | None) -> Field:
    kind = field["type"]
    is_union = isinstance(kind, list)
    return Field(field["name"], is_union, [_branch(part, reads) for part in (kind if is_union else [kind])])


def _branch(kind: Any, reads: Schema | None) -> Branch:
    shape = kind["type"] if isinstance(kind, dict) else kind
    logical = kind.get("logicalType") if isinstance(kind, dict) else None
    if shape == "bytes" and logical == "decimal":
        shape = "decimal"
    if shape not in _SHAPES:
        raise TypeError(f"no layout for the Avro type {kind}")
    size = kind["size"] if shape == "fixed" else len(kind["symbols"]) if shape == "enum" else 0
    return Branch(shape, size, **(_limits(shape, logical, kind, reads) if reads else {}))


def _limits(shape: str, logical: str | None, kind: Any, reads: Schema) -> dict[str, Any]:
    if shape == "decimal":
        most = 10 ** kind["precision"] - 1
        return {"whole": _whole(reads, kind["scale"], (-most, most))}
    if shape in ("int", "long"):
        times = (FIRST_US, LAST_US) if logical == "timestamp-micros" else _LONG
        return {"whole": _whole(reads, 0, times)}
    if shape in ("float", "double"):
        return {"real": _real(reads)}
    if shape == "string":
        return {"text": True}
    if shape == "enum":
        return {"symbols": [symbol in symbols(reads) for symbol in kind["symbols"]]}
    return {}


def symbols(field: Schema) -> list[str]:
    """The words of an enum field, in order; none for any other."""
    kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
    return list(chain.from_iterable(kind["symbols"] for kind in kinds if isinstance(kind, dict) and "symbols" in kind))


def _whole(reads: Schema, scale: int, bounds: tuple[int, int]) -> tuple[int, int]:
    low, high = bounds
    if "above" in reads:
        low = max(low, _unscaled(reads["above"], scale) + 1)
    if "from" in reads:
        low = max(low, _unscaled(reads["from"], scale))
    if "to" in reads:
        high = min(high, _unscaled(reads["to"], scale))
    return low, high


def _unscaled(limit: float, scale: int) -> int:
    return int(Decimal(str(limit)).scaleb(scale))


def _real(reads: Schema) -> tuple[float, bool, float] | None:
    if not {"above", "from", "to"} & reads.keys():
        return None
    low = reads["above"] if "above" in reads else reads.get("from", -inf)
    return float(low), "above" not in reads, float(reads.get("to", inf))
