"""How messages of an engine's own JSON topics become events: a small TOML file, read once.

[[map]]
topic = "engine.positions"            # its full name
event = "PositionUpdated"
each = "positions"                    # a list in the message: an event for each entry
[map.fields]
account = "^account"                  # ^: of the message, not of the entry
symbol = "symbol"
quantity = "size.shares"              # of an object within
realized_pnl = { value = "0" }        # the same for all
updated_at = { from = "^ts", unit = "ms" }   # rounded to the microsecond, half even
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from producers.fields import shown
from producers.sidecar.documents import KINDS, Read, Unusable, fields_of, typed
from schemas.amounts import EXACT
from schemas.registry import avro_files
from sentio.errors import SettingError

_MISSING = object()
_DIGITS = {"s": 6, "ms": 3, "us": 0}
"""Behind the point of a time in each unit, to the microsecond."""

_KEYS = {"from", "value", "words", "unit"}


@dataclass(frozen=True, slots=True)
class Field:
    """Where the value of an event's field comes from."""

    name: str
    path: tuple[str, ...] = ()
    of_message: bool = False
    value: object = _MISSING
    words: Mapping[str, object] | None = None
    """What stands for what; anything else is unusable."""

    digits: int | None = None
    """Behind the point of a time that is a number."""

    def put(self, message: object, entry: object, values: dict[str, object]) -> None:
        """Add the field to ``values``, if it is there. Raises `Unusable`."""
        found = self.value
        if found is _MISSING:
            found = _at(message if self.of_message else entry, self.path)
        if found is _MISSING or (found is None and self.words is None):
            return
        if self.words is not None:
            word = _word(found)
            if word is None or word not in self.words:
                raise Unusable(f"{'.'.join(self.path)} is {shown(found)}, not one of {', '.join(self.words)}")
            found = self.words[word]
        if self.digits is not None:
            values[f"{self.name}_us"] = _microseconds(".".join(self.path), found, self.digits)
        else:
            values[self.name] = found


@dataclass(frozen=True, slots=True)
class Map:
    """The events of one topic's messages; a topic may have several."""

    topic: str
    event: str
    each: tuple[str, ...]
    fields: tuple[Field, ...]

    def events(self, message: object) -> list[Read]:
        """Those of a parsed message. Raises `Unusable`: then it has none that can be used."""
        entries = [message]
        if self.each:
            found = _at(message, self.each)
            if not isinstance(found, list):
                raise Unusable(f"{'.'.join(self.each)} is no list")
            entries = found
        made = []
        for entry in entries:
            values: dict[str, object] = {}
            for field in self.fields:
                field.put(message, entry, values)
            made.append(typed(self.event, values))
        return made


def load(path: Path) -> Sequence[Map]:
    """The mapping in a file. Raises `SettingError` that names what is wrong in it."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as failure:
        raise SettingError(f"bridge {path}: {failure.strerror}") from failure
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
        raise SettingError(f"bridge {path} is not TOML: {failure}") from failure
    entries = content.get("map")
    if not isinstance(entries, list) or not entries or content.keys() != {"map"}:
        raise SettingError(f"bridge {path}: it has [[map]] entries, and nothing else")
    try:
        return [_map(entry) for entry in entries]
    except SettingError as failure:
        raise SettingError(f"bridge {path}: {failure}") from failure


def _map(entry: object) -> Map:
    if not isinstance(entry, dict):
        raise SettingError(f"a map is {entry!r}, not a table")
    topic, event = entry.get("topic"), entry.get("event")
    if not isinstance(topic, str) or not topic:
        raise SettingError("a map has no topic")
    if event not in KINDS:
        raise SettingError(f"{topic}: event is {event!r}, not one of {', '.join(KINDS)}")
    if unknown := entry.keys() - {"topic", "event", "each", "fields"}:
        raise SettingError(f"{topic}: a map has topic, event, each and fields, not {', '.join(sorted(unknown))}")
    fields = entry.get("fields")
    if not isinstance(fields, dict):
        raise SettingError(f"{topic}: it has no [map.fields]")
    known = fields_of(event)
    if wrong := fields.keys() - known.keys():
        raise SettingError(f"{topic}: {event} has no {', '.join(sorted(wrong))}")
    if lacking := [name for name, optional in known.items() if not optional and name not in fields]:
        raise SettingError(f"{topic}: {event} needs {', '.join(lacking)}")
    each = entry.get("each", "")
    if not isinstance(each, str):
        raise SettingError(f"{topic}: each is {each!r}, not a path")
    return Map(
        topic,
        event,
        tuple(each.split(".")) if each else (),
        tuple(_field(topic, event, name, said) for name, said in fields.items()),
    )


def _field(topic: str, event: str, name: str, said: object) -> Field:
    if isinstance(said, str):
        said = {"from": said}
    if not isinstance(said, dict) or said.keys() - _KEYS or ("from" in said) == ("value" in said):
        raise SettingError(f"{topic}: {name} is a path, or a table with from or value, and words or unit")
    path, unit = said.get("from", ""), said.get("unit")
    if not isinstance(path, str):
        raise SettingError(f"{topic}: {name} is from {path!r}, not from a path")
    if unit is not None and (not isinstance(unit, str) or unit not in _DIGITS):
        raise SettingError(f"{topic}: the unit of {name} is {unit!r}, not one of {', '.join(_DIGITS)}")
    if unit is not None and name not in _times(event):
        raise SettingError(f"{topic}: {name} of {event} is no time, and has no unit")
    if not isinstance(said.get("words", {}), dict):
        raise SettingError(f"{topic}: the words of {name} are no table")
    return Field(
        name,
        tuple(path.removeprefix("^").split(".")),
        path.startswith("^"),
        said.get("value", _MISSING),
        said.get("words"),
        None if unit is None else _DIGITS[unit],
    )


def _times(event: str) -> set[str]:
    """The fields of an event that are times."""
    return {field["name"] for field in avro_files()[event]["fields"] if "timestamp-micros" in str(field["type"])}


def _at(value: object, path: Sequence[str]) -> object:
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return _MISSING
        value = value[name]
    return value


def _word(value: object) -> str | None:
    """As JSON spells it, a text without its quotes; None for a list or an object."""
    if isinstance(value, (list, dict)):
        return None
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _microseconds(name: str, value: object, digits: int) -> int:
    """Rounded to the microsecond, half even."""
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise Unusable(f"{name} is {shown(value)}, not a number")
    try:
        return int(EXACT.quantize(Decimal(value), Decimal(1).scaleb(-digits)).scaleb(digits, EXACT))
    except (ValueError, ArithmeticError):  # a ValueError for NaN
        raise Unusable(f"{name} is {shown(value)}, beyond its limits") from None
