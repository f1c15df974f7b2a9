"""Schema ids: registry.lock.json, append-only, holds every version of every event ever written.

Ids start at 1,000,000,000 so that they never meet those of a schema registry server.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from sentio.errors import Fatal

FIRST_ID = 1_000_000_000
LOCK = "registry.lock.json"
NAMESPACE = "sentio.events"

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Version:
    """One locked version of one event's schema."""

    id: int
    event: str
    schema: Schema


@cache
def avro_files() -> Mapping[str, Schema]:
    """The source of truth: each event's Avro schema, as avro/*.avsc has it now."""
    folder = files("schemas").joinpath("avro")
    found = (json.loads(file.read_text()) for file in sorted(folder.iterdir(), key=lambda file: file.name))
    return {schema["name"]: schema for schema in found}


@cache
def locked() -> Mapping[int, Version]:
    """Every version in the lock, by id."""
    return {version.id: version for version in read_lock(files("schemas").joinpath(LOCK).read_text())}


@cache
def current(event: str) -> Version:
    """The newest locked version of an event; raises `Fatal` when avro/ has moved on without the lock."""
    newest = max((v for v in locked().values() if v.event == event), key=lambda v: v.id, default=None)
    if newest is None or newest.schema != avro_files()[event]:
        raise Fatal(f"schemas/{LOCK} does not hold avro/ as it is for {event}; run 'sentio schemas lock'")
    return newest


def read_lock(text: str) -> list[Version]:
    """Versions in a lock file's text, in the order of their ids."""
    return [Version(**entry) for entry in json.loads(text)["schemas"]]


def extend_lock(versions: list[Version]) -> list[Version]:
    """The lock's versions plus a new one for each event whose avro/ file differs from its newest."""
    newest = {version.event: version.schema for version in versions}
    next_id = max((version.id for version in versions), default=FIRST_ID - 1) + 1
    changed = [event for event, schema in avro_files().items() if newest.get(event) != schema]
    return versions + [
        Version(id=next_id + place, event=event, schema=avro_files()[event]) for place, event in enumerate(changed)
    ]


def write_lock(versions: list[Version], path: Path) -> None:
    """Write the lock, one line a version, so that a review shows what was added."""
    lines = ",\n".join(
        "  " + json.dumps({"id": version.id, "event": version.event, "schema": version.schema}) for version in versions
    )
    path.write_text('{"schemas": [\n' + lines + "\n]}\n")
