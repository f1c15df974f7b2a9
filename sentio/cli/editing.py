"""The work of `sentio dead edit`: a dead letter's record as a new event, with what was wrong in it put right."""

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID, uuid5

import pyarrow as pa

from producers.sidecar.documents import Unusable, parse, typed
from schemas.codec import decode, encode
from schemas.columns import HEADER, arrow_schema, from_events
from schemas.dissection import Dissection, dissect
from schemas.topics import Topic
from sentio import letters
from sentio.cli.buried import DeadLetter, Record, house_topic, text_of
from sentio.cli.redriving import Edit, Obstacle
from sentio.config import RedriveSettings
from sentio.errors import SettingError
from sentio.rows import plain

_EDITS = UUID("0199d2f0-5e47-7000-8000-6564697473ff")
"""Namespace of the ids of edited events."""


def fields(found: Dissection) -> dict[str, Any]:
    """What could be read of a record, as JSON holds it."""
    return {piece.name: shown(piece.value) for piece in found.pieces}


def with_fields(topic: Topic, values: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """The values with each FIELD=VALUE put in; ``null`` is none. Raises `SettingError` for a field that may not be."""
    schema = arrow_schema(topic.event)
    changed = dict(values)
    for text in changes:
        name, equals, value = text.partition("=")
        if not equals or name not in schema.names or name in HEADER:
            names = ", ".join(each for each in schema.names if each not in HEADER)
            raise SettingError(f"--set {text}: FIELD=VALUE with one of {names}")
        column = schema.field(name)
        if value == "null" and column.nullable:
            changed[name] = None
        elif pa.types.is_integer(column.type) and value.removeprefix("-").isdecimal():
            changed[name] = int(value)
        else:
            changed[name] = value
    return changed


def edited(settings: RedriveSettings, letter: DeadLetter, values: Mapping[str, Any]) -> Edit:
    """The new event with these values, numbered as the old one. Raises `SettingError` for values that are no event.

    It has another id, the same however often this record is edited: one edit of a record is applied by a group. The
    time of an event that had a usable one stays, since tables know the event by it.
    """
    topic, origin = topic_of(settings, letter), letter.origin
    assert origin is not None
    found = dissect(letter.value)
    old = {piece.name: piece.value for piece in found.pieces}
    try:
        read = typed(topic.event, {name: value for name, value in values.items() if name not in HEADER})
    except Unusable as failure:
        raise SettingError(f"edit: the {topic.event} {failure}") from failure
    if read.unknown:
        raise SettingError(f"edit: {topic.event} has no field {', '.join(read.unknown)}")
    was_usable = not decode(topic.event, [letter.value]).poison
    if was_usable and getattr(read.event, topic.time) != old[topic.time]:
        raise SettingError(f"edit: {topic.time} stays {shown(old[topic.time])}: an event's time never changes")
    producer = str(old.get("producer") or f"edited@{_of(origin, settings)}")
    records = from_events(
        [read.event],
        event_id=[uuid5(_EDITS, "/".join(map(str, origin))).bytes],
        producer=[producer],
        sequence=[max(0, old.get("sequence", 0))],
    )
    [value] = encode(topic.event, records)
    edited_from = str(old["event_id"]) if "event_id" in old else _of(origin, settings)
    return Edit(topic.record_key(read.event, producer), value, edited_from)


def read(path: Path) -> str:
    """The text of a file, ``-`` being stdin; raises `SettingError`."""
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        raise SettingError(f"--json-file {path}: {failure}") from failure


def in_editor(text: str) -> str:
    """The text as a person leaves it; raises `SettingError` when the editor fails."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with TemporaryDirectory() as folder:
        path = Path(folder) / "event.json"
        path.write_text(text, encoding="utf-8")
        try:
            subprocess.run([*shlex.split(editor), str(path)], check=True)
        except (OSError, subprocess.CalledProcessError) as failure:
            raise SettingError(f"--editor {editor}: {failure}") from failure
        return read(path)


def document(text: str) -> dict[str, Any]:
    """The values in a text of JSON; raises `SettingError`."""
    try:
        values = parse(text)
    except Unusable as failure:
        raise SettingError(f"edit: what was given {failure}") from failure
    if not isinstance(values, dict):
        raise SettingError("edit: what was given is no JSON object")
    return values


def topic_of(settings: RedriveSettings, letter: DeadLetter) -> Topic:
    """The topic that the letter's record is of; raises `Obstacle`."""
    source = letter.source
    topic = house_topic(letters.base_topic(source[0]), settings.topic_prefix) if source else None
    if topic is None:
        raise Obstacle(f"{letter.topic} is no topic of the house")
    return topic


def _of(origin: Record, settings: RedriveSettings) -> str:
    return text_of(origin, settings.topic_prefix)


def shown(value: object) -> Any:
    """A value as JSON holds it."""
    return value.hex() if isinstance(value, bytes) else plain(value)
