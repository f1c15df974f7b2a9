"""JSON objects as typed events: what a schema says, checked field by field, with what is wrong said in words.

An object is `type` (the name of an event) and its fields. Amounts are texts or numbers, taken as the decimals that were
written and rounded once, half even, to the scale of their field. Times are ISO 8601 with an offset, or whole numbers
under the field's name and a unit: `executed_at_ms`, `executed_at_us`.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import cache, partial
from math import isfinite
from typing import Any, NamedTuple

from producers.fields import EPOCH, TEXT_BYTES, shown
from producers.sidecar.source import AHEAD
from schemas import layout
from schemas.amounts import EXACT
from schemas.columns import HEADER
from schemas.events import EVENTS, Event
from schemas.registry import Schema, avro_files
from schemas.topics import topic_of_event, topics

KINDS = tuple(topic.event for topic in topics().values() if topic.event != "AggregateUpdated")
"""Events that an engine may publish; aggregates are computed here."""

_UNITS_US = {"us": 1, "ms": 1_000}


class Unusable(ValueError):
    """Why an object is no event."""


@dataclass(frozen=True, slots=True)
class Read:
    """An event, and the fields of its object that no schema has: left out."""

    event: Event
    unknown: tuple[str, ...]


def parse(text: bytes | str) -> object:
    """JSON with every fraction as the decimal that was written. Raises `Unusable`.

    A number that is none (NaN, Infinity) or beyond reason is the fault of its event, not of all others beside it.
    """
    try:
        return json.loads(text, parse_float=_fraction, parse_int=_digits, parse_constant=Decimal)
    except json.JSONDecodeError as error:
        raise Unusable(f"is not JSON ({error.msg}, column {error.colno})") from None
    except (UnicodeDecodeError, ArithmeticError, ValueError, RecursionError) as error:
        raise Unusable(f"is not JSON that can be read ({error})") from None


def event_of(value: object) -> Read:
    """The event that a parsed object is. Raises `Unusable`."""
    if not isinstance(value, dict):
        raise Unusable("is not a JSON object")
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in KINDS:
        raise Unusable(f"type is {shown(kind)}, not one of {', '.join(KINDS)}")
    return typed(kind, {name: each for name, each in value.items() if name != "type"})


def typed(kind: str, values: Mapping[str, object]) -> Read:
    """The event of that name with these values. Raises `Unusable`."""
    known = _fields(kind)
    found: dict[str, Any] = {}
    unknown = []
    for name, value in values.items():
        if (field := known.get(name)) is None:
            unknown.append(name)
        elif field.name in found:
            raise Unusable(f"{field.name} is there twice, as {name} too")
        elif value is None and field.optional:
            found[field.name] = None
        else:
            found[field.name] = field.read(name, value)
    if lacking := [name for name in _needed(kind) if name not in found]:
        raise Unusable(f"lacks {', '.join(lacking)}")
    time = _time_of(kind)
    if found[time] > datetime.now(UTC) + AHEAD:
        raise Unusable(f"{time} is {found[time]:%Y-%m-%d %H:%M:%S}, in the future")
    return Read(EVENTS[kind](**found), tuple(unknown))


def fields_of(kind: str) -> dict[str, bool]:
    """The fields that an event may have, each with whether it may be left out."""
    return {field.name: field.optional for field in _fields(kind).values()}


class _Field(NamedTuple):
    name: str
    optional: bool
    read: Callable[[str, object], Any]


@cache
def _time_of(kind: str) -> str:
    return topic_of_event(kind).time


@cache
def _needed(kind: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(field.name for field in _fields(kind).values() if not field.optional))


@cache
def _fields(kind: str) -> dict[str, _Field]:
    """By each name that a field may have."""
    schema = avro_files()[kind]
    limits = {field.name: field.branches[-1] for field in layout.layout(schema, schema)}
    keys = topic_of_event(kind).key
    found: dict[str, _Field] = {}
    for field in schema["fields"]:
        name = field["name"]
        if name not in HEADER:
            found |= _readings(field, limits[name], is_key=name in keys)
    return found


def _readings(field: Schema, limits: layout.Branch, *, is_key: bool) -> dict[str, _Field]:  # noqa: PLR0911 - a table
    name = field["name"]
    kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
    optional = len(kinds) > 1

    def as_(read: Callable[[str, object], Any]) -> dict[str, _Field]:
        return {name: _Field(name, optional, read)}

    match kinds[-1]:
        case "string":
            return as_(lambda said, value: _text(said, value, is_key=is_key))
        case {"logicalType": "decimal", "scale": int(scale)}:
            unit = Decimal(1).scaleb(-scale)
            return as_(lambda said, value: _amount(said, value, unit, limits.whole))
        case {"logicalType": "timestamp-micros"}:
            return as_(_time) | {
                f"{name}_{unit}": _Field(name, optional, partial(_count, us)) for unit, us in _UNITS_US.items()
            }
        case {"type": "enum", "symbols": list(words)}:
            return as_(lambda said, value: _word(said, value, words))
        case "int":
            return as_(lambda said, value: _whole(said, value, limits.whole or (-(2**31), 2**31 - 1)))
        case "long":
            return as_(lambda said, value: _whole(said, value, limits.whole or (-(2**63), 2**63 - 1)))
        case "double":
            return as_(lambda said, value: _real(said, value, limits.real))
    raise TypeError(f"no reading for the Avro type {kinds[-1]} of {name}")


def _text(name: str, value: object, *, is_key: bool) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise Unusable(f"{name} is {shown(value)}, not a text")
    if is_key and not (value and value.isprintable()):
        raise Unusable(f"{name} is {shown(value)}, not a text of one line")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise Unusable(f"{name} is {shown(value)}, not UTF-8") from None
    if size > TEXT_BYTES:
        raise Unusable(f"{name} has {size} bytes, more than {TEXT_BYTES}")
    return value


def _word(name: str, value: object, words: list[str]) -> str:
    if value not in words:
        raise Unusable(f"{name} is {shown(value)}, not one of {', '.join(words)}")
    return str(value)


def _amount(name: str, value: object, unit: Decimal, limits: tuple[int, int] | None) -> Decimal:
    try:
        amount = EXACT.quantize(_decimal(name, value), unit)
    except InvalidOperation:
        raise Unusable(f"{name} is {shown(value)}, beyond its limits") from None
    unscaled = int(amount.scaleb(-int(unit.as_tuple().exponent), EXACT))
    if limits is not None and not limits[0] <= unscaled <= limits[1]:
        raise Unusable(f"{name} is {shown(value)}, beyond its limits")
    return amount


def _decimal(name: str, value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, Decimal, str)):
        raise Unusable(f"{name} is {shown(value)}, not a number")
    try:
        # Not by the context of decimals: what was written is not to be rounded before it is checked.
        number = Decimal(value)
    except (InvalidOperation, ValueError):
        raise Unusable(f"{name} is {shown(value)}, not a number") from None
    if not number.is_finite():
        raise Unusable(f"{name} is {shown(value)}, not a finite number")
    return number


def _whole(name: str, value: object, limits: tuple[int, int]) -> int:
    if type(value) is not int:
        raise Unusable(f"{name} is {shown(value)}, not a whole number")
    if not limits[0] <= value <= limits[1]:
        raise Unusable(f"{name} is {shown(value)}, beyond its limits")
    return value


def _real(name: str, value: object, limits: tuple[float, bool, float] | None) -> float:
    number = value if isinstance(value, float) and isfinite(value) else float(_decimal(name, value))
    if limits is not None:
        low, closed, high = limits
        if not (low <= number if closed else low < number) or number > high:
            raise Unusable(f"{name} is {shown(value)}, beyond its limits")
    return number


def _count(unit_us: int, name: str, value: object) -> datetime:
    return EPOCH + timedelta(microseconds=_whole(name, value, (0, layout.LAST_US // unit_us)) * unit_us)


def _time(name: str, value: object) -> datetime:
    try:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(value)  # type: ignore[arg-type] # raises
        if at.tzinfo is None:
            raise Unusable(f"{name} is {shown(value)}, without an offset such as Z or +00:00")
        at = at.astimezone(UTC)
    except (TypeError, ValueError, OverflowError) as failure:
        if isinstance(failure, Unusable):
            raise
        raise Unusable(
            f"{name} is {shown(value)}, not a time such as 2025-10-10T13:30:00Z (or {name}_ms, {name}_us)"
        ) from None
    if not 0 <= (at - EPOCH) // timedelta(microseconds=1) <= layout.LAST_US:
        raise Unusable(f"{name} is {shown(value)}, beyond its limits")
    return at


def _fraction(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent of twenty digits
        return Decimal("NaN")


def _digits(text: str) -> int | Decimal:
    return int(text) if len(text) <= sys.int_info.default_max_str_digits else Decimal(text)
