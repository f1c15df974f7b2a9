"""Which events are wanted: FIELD=VALUE and the like, compared as what the field is, a whole batch at a time."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from schemas.columns import arrow_schema
from sentio.asked import time_of
from sentio.errors import SettingError

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_FORM = re.compile(r"(\w+)\s*(!=|<=|>=|=|<|>)\s*(.*)", re.DOTALL)
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison of a field with a value. A field without a value meets none."""

    field: str
    operator: str
    value: pa.Scalar

    def met(self, records: pa.RecordBatch) -> pa.BooleanArray:
        return pc.fill_null(_COMPARE[self.operator](records[self.field], self.value), fill_value=False)


def condition(event: str, text: str, *, option: str = "--where") -> Condition:
    """Of FIELD=VALUE (or !=, <, <=, >, >=) about an event; raises `SettingError`."""
    schema = arrow_schema(event)
    form = _FORM.fullmatch(text)
    if form is None or form[1] not in schema.names:
        known = ", ".join(schema.names)
        raise SettingError(f"{option} {text}: FIELD=VALUE with one of {known}; !=, <, <=, > and >= may stand for =")
    name, operator, value = form.groups()
    kind = schema.field(name).type
    try:
        return Condition(name, operator, pa.scalar(_value(kind, value, option), kind))
    except (ValueError, KeyError, InvalidOperation, pa.ArrowInvalid):
        raise SettingError(f"{option} {text}: {value or 'nothing'} is no {_word(kind)}") from None


def all_met(conditions: Sequence[Condition], records: pa.RecordBatch) -> pa.BooleanArray:
    """For each row whether it meets every condition, of which there is one or more."""
    found, *others = (each.met(records) for each in conditions)
    for other in others:
        found = pc.and_(found, other)
    return found


def _value(kind: pa.DataType, text: str, option: str) -> object:
    if pa.types.is_timestamp(kind):
        return time_of(option, text)
    if pa.types.is_fixed_size_binary(kind):
        return UUID(text).bytes
    if pa.types.is_decimal(kind):
        return Decimal(text)
    if pa.types.is_boolean(kind):
        return _BOOLEANS[text.lower()]
    if pa.types.is_floating(kind):
        return float(text)
    return int(text) if pa.types.is_integer(kind) else text


def _word(kind: pa.DataType) -> str:
    if pa.types.is_decimal(kind):
        return f"number with at most {kind.scale} decimals"
    if pa.types.is_fixed_size_binary(kind):
        return "UUID"
    return "true or false" if pa.types.is_boolean(kind) else "number"
