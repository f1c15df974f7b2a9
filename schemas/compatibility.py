"""What may change in a schema: FULL_TRANSITIVE, new reads old and old reads new, over every locked version.

A seven-day replay meets every version of the week, and a consumer that was not yet deployed meets
tomorrow's. So a field may come or go only with a default, and nothing may change its type.
"""

from collections.abc import Iterable
from typing import Any

from schemas.registry import Schema, Version

_ABOUT_THE_TYPE = ("doc", "aliases")


def problems(schema: Schema, versions: Iterable[Version]) -> list[str]:
    """One line for each reason why ``schema`` may not follow ``versions`` of the same event; empty if it may."""
    found = []
    for version in versions:
        found += [f"{schema['name']} against id {version.id}: {line}" for line in _differences(schema, version.schema)]
    return found


def _differences(new: Schema, old: Schema) -> list[str]:
    now = {field["name"]: field for field in new["fields"]}
    was = {field["name"]: field for field in old["fields"]}
    lines = [
        f"field {name} is new and has no default" for name in now if name not in was and "default" not in now[name]
    ]
    lines += [
        f"field {name} is gone and had no default" for name in was if name not in now and "default" not in was[name]
    ]
    lines += [
        f"field {name} changed from {was[name]['type']} to {now[name]['type']}"
        for name in now.keys() & was.keys()
        if _bare(now[name]["type"]) != _bare(was[name]["type"])
    ]
    if new["name"] != old["name"] or new["namespace"] != old["namespace"]:
        lines.append(f"the name changed from {old['namespace']}.{old['name']}")
    lines += [f"field {name} has aliases, which only new readers follow" for name in now if "aliases" in now[name]]
    return sorted(lines)


def _bare(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _bare(value) for key, value in schema.items() if key not in _ABOUT_THE_TYPE}
    if isinstance(schema, list):
        return [_bare(part) for part in schema]
    return schema
