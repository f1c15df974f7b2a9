"""Which alerts have begun, and who is still to be told of what: kept, so that a restart says nothing twice and loses
nothing. As JSON holds it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from gateway.watch.alarms import Alarms, Notice
from gateway.watch.sending import Target


def kept(alarms: Alarms, targets: Sequence[Target]) -> dict[str, Any]:
    """How that stands now."""
    return {
        "begun": [_document(notice) for notice in alarms.active],
        "unsent": {target.name: [_document(notice) for notice in target.unsent] for target in targets},
    }


def resume(before: Mapping[str, Any], alarms: Alarms, targets: Sequence[Target]) -> None:
    """Go on from what a process before this one kept."""
    alarms.resume(_notices(before.get("begun", ())))
    for target in targets:
        for notice in _notices(before.get("unsent", {}).get(target.name, ())):
            target.put(notice)


def _document(notice: Notice) -> dict[str, str]:
    return asdict(notice) | {"at": notice.at.isoformat()}


def _notices(documents: Iterable[Mapping[str, Any]]) -> list[Notice]:
    return [
        Notice(one["alert"], one["state"], one["summary"], datetime.fromisoformat(one["at"]), one["runbook"])
        for one in documents
    ]
