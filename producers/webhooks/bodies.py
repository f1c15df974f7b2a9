"""Bodies of requests to events. Knows which fields are read of an event, and nothing of what they mean."""

import json
import re
import sys
from decimal import Decimal
from typing import Any

from pydantic_core import CoreSchema, SchemaValidator, ValidationError, core_schema


class NoEvents(ValueError):
    """The body is no JSON array: why, in one line."""


def events(body: bytes) -> list[Any]:
    """The events of a body, each with those of its fields that are read (most of one is not), fractions as floats.

    A quarter of the time that `exact_events` takes. Raises `NoEvents`.
    """
    try:
        found: object = _READ.validate_json(body)
    except ValidationError:
        return exact_events(body)  # it knows why, or reads more
    return _array(found)


def exact_events(body: bytes) -> list[Any]:
    """The events of a body, whole, fractions as they were written. Raises `NoEvents`.

    NaN and Infinity, and whole numbers of thousands of digits, are the fault of their event, not of all others.
    """
    try:
        found: object = json.loads(body, parse_float=Decimal, parse_constant=Decimal, parse_int=_whole)
    except json.JSONDecodeError as failure:
        raise NoEvents(f"the body is not JSON: {failure.msg}, character {failure.pos}") from None
    except (ValueError, ArithmeticError, RecursionError) as failure:
        raise NoEvents(f"the body is not JSON that can be read: {failure}") from None
    return _array(found)


def texts(body: bytes) -> list[bytes]:
    """Each event of a body that can be read, as it stands there: UTF-8, halves of characters escaped."""
    text = body.decode(json.detect_encoding(body), "surrogatepass")
    found, at = [], _behind_space(text, _behind_space(text, 0) + 1)
    while text[at] != "]":
        _, end = _SKIPPING.raw_decode(text, at)
        found.append(text[at:end].encode(errors="backslashreplace"))
        at = _behind_space(text, end)
        if text[at] == ",":
            at = _behind_space(text, at + 1)
    return found


def _behind_space(text: str, at: int) -> int:
    return _SPACE.match(text, at).end()  # type: ignore[union-attr] # it always matches


def _array(found: object) -> list[Any]:
    if not isinstance(found, list):
        raise NoEvents("the body is not an array of events")
    return found


def _whole(digits: str) -> int | Decimal:
    return int(digits) if len(digits) < sys.int_info.default_max_str_digits else Decimal(digits)


_SPACE = re.compile(r"[ \t\n\r]*")
_SKIPPING = json.JSONDecoder(parse_float=str, parse_int=str)
"""Numbers stay as they are: only where a value ends is asked for."""

_ANY = core_schema.any_schema()


def _or_any(schema: CoreSchema) -> CoreSchema:
    """What is of another shape comes as it is: who reads it says what is wrong."""
    return core_schema.union_schema([schema, _ANY], mode="left_to_right")


def _object(**read: CoreSchema) -> CoreSchema:
    fields = {name: core_schema.typed_dict_field(schema, required=False) for name, schema in read.items()}
    return _or_any(core_schema.typed_dict_schema(fields, extra_behavior="ignore"))


def _list(of: CoreSchema) -> CoreSchema:
    return _or_any(core_schema.list_schema(of))


_BALANCES = _list(_object(owner=_ANY, mint=_ANY, uiTokenAmount=_object(amount=_ANY, decimals=_ANY)))
_READ = SchemaValidator(
    _list(
        _object(
            # Of enhanced transactions.
            type=_ANY,
            signature=_ANY,
            slot=_ANY,
            timestamp=_ANY,
            feePayer=_ANY,
            transactionError=_ANY,
            tokenTransfers=_list(_object(fromUserAccount=_ANY, toUserAccount=_ANY, mint=_ANY, tokenAmount=_ANY)),
            events=_object(
                swap=_object(
                    nativeInput=_ANY,
                    nativeOutput=_ANY,
                    tokenInputs=_list(_object(userAccount=_ANY)),
                    tokenOutputs=_list(_object(userAccount=_ANY)),
                )
            ),
            # Of raw ones.
            blockTime=_ANY,
            meta=_object(err=_ANY, preTokenBalances=_BALANCES, postTokenBalances=_BALANCES),
            transaction=_object(signatures=_ANY, message=_object(accountKeys=_ANY)),
        )
    )
)
