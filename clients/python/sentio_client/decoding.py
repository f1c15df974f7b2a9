"""JSON objects of the stream to typed events."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints
from uuid import UUID

from sentio_client.errors import BadFrame
from sentio_client.events import CHANNELS, Event


def event_of(channel: str) -> type[Event]:
    """The event of a channel such as ``trades`` or ``trades.TQQQ``; raises ValueError."""
    base = channel.partition(".")[0]
    if base not in CHANNELS:
        raise ValueError(f"no channel {channel!r}; there are {', '.join(CHANNELS)}")
    return CHANNELS[base]


def decode(kind: type[Event], data: object) -> Event:
    """An event; fields that it does not know are ignored, those that an older gateway lacks are None."""
    if not isinstance(data, Mapping):
        raise BadFrame(f"{kind.__name__} is no JSON object")
    try:
        return kind(**{name: read(data.get(name)) for name, read in _READERS[kind]})
    except (KeyError, TypeError, ValueError, InvalidOperation) as failure:
        raise BadFrame(f"{kind.__name__}: {failure!r} in {str(data)[:500]}") from failure


def time(text: str) -> datetime:
    """An RFC 3339 time, in UTC; raises ValueError."""
    return datetime.fromisoformat(text).astimezone(UTC)


def _readers(kind: type[Event]) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    hints = get_type_hints(kind)
    return tuple((one.name, _reader(one.name, hints[one.name], needed=one.default is MISSING)) for one in fields(kind))


def _reader(name: str, hint: Any, *, needed: bool) -> Callable[[Any], Any]:
    kind = next(one for one in get_args(hint) if one is not type(None)) if get_origin(hint) is UnionType else hint
    read = _WRITTEN_AS_TEXT.get(kind)

    def required(value: Any) -> Any:
        if value is None:
            raise KeyError(name)
        return value if read is None else read(value)

    def optional(value: Any) -> Any:
        return value if value is None or read is None else read(value)

    return required if needed else optional


def _decimal(text: object) -> Decimal:
    if not isinstance(text, str):
        raise TypeError(f"an amount is text, not {text!r}")
    return Decimal(text)


_WRITTEN_AS_TEXT: Mapping[Any, Callable[[Any], Any]] = {Decimal: _decimal, datetime: time, UUID: UUID}
_READERS = {kind: _readers(kind) for kind in CHANNELS.values()}
