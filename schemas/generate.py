"""Writes events.py from avro/*.avsc: `python -m schemas.generate`. A test fails when they drift."""

import textwrap
from pathlib import Path
from typing import Any

from schemas.registry import avro_files

_HEAD = '''"""Typed events of the platform. Generated from avro/*.avsc by `python -m schemas.generate`; do not edit.

Decimals must fit the scale of their field exactly (prices 10, quantities 8, money 6 digits); times are aware
datetimes in UTC. `publish()` fills in event_id, producer and sequence.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

NO_ID = bytes(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What every event carries."""

    event_id: bytes = NO_ID
    """UUIDv7 as 16 bytes."""

    producer: str = ""
    """Name and source (or run) of the publisher."""

    sequence: int = -1
    """Position among the producer's events, from 0."""
'''
_HEADER_FIELDS = {"event_id", "producer", "sequence"}
_PLAIN = {"string": "str", "long": "int", "int": "int", "double": "float", "boolean": "bool"}


def source() -> str:
    """Text of events.py."""
    classes = "".join(_class(schema) for schema in avro_files().values())
    names = "".join(f'    "{event}": {event},\n' for event in avro_files())
    return f"{_HEAD}{classes}\n\nEVENTS: dict[str, type[Event]] = {{\n{names}}}\n"


def _class(schema: dict[str, Any]) -> str:
    fields = [field for field in schema["fields"] if field["name"] not in _HEADER_FIELDS]
    lines = "".join(_field(field) for field in fields)
    head = f"\n\n@dataclass(frozen=True, slots=True, kw_only=True)\nclass {schema['name']}(Event):"
    return f'{head}\n    """{schema["doc"]}"""\n{lines}'


def _field(field: dict[str, Any]) -> str:
    kind = field["type"]
    name = f"{_python(kind[1])} | None = None" if isinstance(kind, list) else _python(kind)
    doc = textwrap.fill(field["doc"] + '"""', 108, initial_indent='    """', subsequent_indent="    ")
    return f"\n    {field['name']}: {name}\n{doc}\n"


def _python(kind: Any) -> str:
    if isinstance(kind, str):
        return _PLAIN[kind]
    match kind:
        case {"logicalType": "decimal"}:
            return "Decimal"
        case {"logicalType": "timestamp-micros"}:
            return "datetime"
        case {"type": "enum"}:
            return f"Literal[{', '.join(repr(symbol) for symbol in kind['symbols'])}]".replace("'", '"')
    raise TypeError(f"no Python type for the Avro type {kind}")


if __name__ == "__main__":
    Path(__file__).with_name("events.py").write_text(source())
