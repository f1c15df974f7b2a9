"""Writes the events of the clients and of docs/asyncapi.yaml from schemas/avro: `python clients/generate.py`.

A test fails when they drift.
"""

import json
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from schemas.registry import avro_files
from schemas.topics import topics

HERE = Path(__file__).parent
_HEADER_FIELDS = {"event_id", "producer", "sequence"}

_PYTHON_HEAD = '''"""Typed events of the stream. Generated from schemas/avro by clients/generate.py; do not edit.

Amounts are exact decimals, times are aware and in UTC.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What every event carries; all three are None in a snapshot of `aggregates`."""

    event_id: UUID | None = None
    """The same on every resend of this event."""

    producer: str | None = None
    """Name and source (or run) of the publisher."""

    sequence: int | None = None
    """Position among the producer's events, from 0."""
'''

_TYPESCRIPT_HEAD = """// Typed events of the stream. Generated from schemas/avro by clients/generate.py; do not edit.

/** An exact decimal as text, such as "101.25". Not a number on purpose: a number would round it. */
export type Decimal = string;

/** A time in UTC as RFC 3339 text with microseconds, such as "2025-10-10T13:31:00.000000Z". */
export type Timestamp = string;

/** What every event carries; all three are missing in a snapshot of `aggregates`. */
export interface Event {
  /** UUID; the same on every resend of this event. */
  readonly event_id?: string;
  /** Name and source (or run) of the publisher. */
  readonly producer?: string;
  /** Position among the producer's events, from 0. */
  readonly sequence?: number;
}
"""


def python() -> str:
    """Text of clients/python/sentio_client/events.py."""
    classes = "".join(_python_class(schema) for schema in avro_files().values())
    names = "".join(f'    "{channel}": {event},\n' for channel, event in _channels().items())
    return f"{_PYTHON_HEAD}{classes}\n\nCHANNELS: dict[str, type[Event]] = {{\n{names}}}\n"


def typescript() -> str:
    """Text of clients/js/src/events.ts."""
    interfaces = "".join(_typescript_interface(schema) for schema in avro_files().values())
    names = "".join(f"  readonly {channel}: {event};\n" for channel, event in _channels().items())
    return (
        f"{_TYPESCRIPT_HEAD}{interfaces}\n/** The event of each channel. */\nexport interface Channels {{\n{names}}}\n"
    )


def json_schema() -> str:
    """Text of docs/asyncapi-events.json."""
    definitions = {name: _json_object(schema, schema["fields"]) for name, schema in avro_files().items()}
    windows = avro_files()["AggregateUpdated"]
    own = [field for field in windows["fields"] if field["name"] not in _HEADER_FIELDS]
    definitions["Window"] = _json_object(windows, own)
    whole = {"$comment": "Generated from schemas/avro by clients/generate.py; do not edit.", "definitions": definitions}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _json_object(schema: dict[str, Any], fields: list[dict[str, Any]]) -> dict[str, Any]:
    properties = {field["name"]: {"description": field["doc"], **_json_type(field["type"])} for field in fields}
    return {
        "description": schema["doc"],
        "type": "object",
        "required": [field["name"] for field in fields],
        "properties": properties,
    }


def _json_type(kind: Any) -> dict[str, Any]:
    if isinstance(kind, list):
        return {"oneOf": [_json_type(kind[1]), {"type": "null"}]}
    if isinstance(kind, str):
        return {"type": {"long": "integer", "int": "integer", "double": "number"}.get(kind, kind)}
    if kind["type"] == "enum":
        return {"enum": kind["symbols"]}
    return {
        "decimal": {"type": "string", "pattern": r"^-?\d+(\.\d*[1-9])?$"},
        "timestamp-micros": {"type": "string", "format": "date-time"},
        "uuid": {"type": "string", "format": "uuid"},
    }[kind["logicalType"]]


def _channels() -> Mapping[str, str]:
    return {topic.channel: topic.event for topic in topics().values() if topic.channel}


def _python_class(schema: dict[str, Any]) -> str:
    lines = ""
    for field, kind, nullable in _fields(schema, _python_type):
        doc = textwrap.fill(field["doc"] + '"""', 108, initial_indent='    """', subsequent_indent="    ")
        default = f" = {field['default']!r}" if "default" in field else ""
        lines += f"\n    {field['name']}: {kind}{' | None' if nullable else ''}{default}\n{doc}\n"
    head = f"\n\n@dataclass(frozen=True, slots=True, kw_only=True)\nclass {schema['name']}(Event):"
    return f'{head}\n    """{schema["doc"]}"""\n{lines}'


def _typescript_interface(schema: dict[str, Any]) -> str:
    lines = ""
    for field, kind, nullable in _fields(schema, _typescript_type):
        doc = textwrap.fill(field["doc"] + " */", 108, initial_indent="  /** ", subsequent_indent="   * ")
        lines += f"{doc}\n  readonly {field['name']}: {kind}{' | null' if nullable else ''};\n"
    return f"\n/** {schema['doc']} */\nexport interface {schema['name']} extends Event {{\n{lines}}}\n"


def _fields(schema: dict[str, Any], type_of: Callable[[Any], str]) -> Iterator[tuple[dict[str, Any], str, bool]]:
    """Each field of its own, the type it has in the language, and whether it may be null."""
    for field in schema["fields"]:
        if field["name"] not in _HEADER_FIELDS:
            nullable = isinstance(field["type"], list)
            yield field, type_of(field["type"][1] if nullable else field["type"]), nullable


def _python_type(kind: Any) -> str:
    return _type(
        kind,
        {"string": "str", "long": "int", "int": "int", "double": "float", "boolean": "bool"},
        {"decimal": "Decimal", "timestamp-micros": "datetime"},
        lambda symbols: f"Literal[{', '.join(symbols)}]",
    )


def _typescript_type(kind: Any) -> str:
    return _type(
        kind,
        {"string": "string", "long": "number", "int": "number", "double": "number", "boolean": "boolean"},
        {"decimal": "Decimal", "timestamp-micros": "Timestamp"},
        " | ".join,
    )


def _type(kind: Any, plain: Mapping[str, str], logical: Mapping[str, str], choice: Callable[[list[str]], str]) -> str:
    if isinstance(kind, str):
        return plain[kind]
    if kind["type"] == "enum":
        return choice([json.dumps(symbol) for symbol in kind["symbols"]])
    return logical[kind["logicalType"]]


if __name__ == "__main__":
    (HERE / "python/sentio_client/events.py").write_text(python())
    (HERE / "js/src/events.ts").write_text(typescript())
    (HERE.parent / "docs/asyncapi-events.json").write_text(json_schema())
