"""What the owner's page is told, as JSON holds it. Amounts are decimal strings, times RFC 3339 in UTC."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from gateway.watch.alarms import Notice
from gateway.watch.comparing import Difference, as_document
from gateway.watch.rounds import Rounds
from gateway.watch.sending import Target
from gateway.wire import decimal_text, document, time_text

MOST_SHOWN = 10
"""Accounts on the page, those heard last."""

MOST_DIFFERENCES = 100


def present(
    rounds: Rounds,
    known: Mapping[str, Any],
    *,
    at: datetime,
    wrong: Mapping[str, str],
    alerts: Sequence[Notice],
    targets: Sequence[Target],
) -> dict[str, Any]:
    """How things stand; ``wrong`` says what could not be looked at, and why."""
    differing = rounds.differing
    return {
        "at": time_text(at),
        "accounts": [
            {
                "account": name,
                "day": account.day.isoformat(),
                "engine": as_document(account.figures()),
                "compared": {side.name: side.compared.get(name, []) for side in rounds.sides},
                "sides": {side.name: as_document(side.figures[name]) for side in rounds.sides if name in side.figures},
            }
            for name, account in list(rounds.accounts.items())[:MOST_SHOWN]
        ],
        "sides": [
            {"side": side.name, "level": side.level, "detail": side.detail, "figures": list(side.names)}
            for side in rounds.sides
        ],
        "differences": [_difference(one) for one in differing[:MOST_DIFFERENCES]],
        "differing": len(differing),
        "probes": [
            {
                "gateway": url,
                "state": heard.state,
                "detail": heard.detail,
                "silent_s": round(heard.silent_s, 1),
                "p50_ms": heard.p50_ms and round(heard.p50_ms, 1),
                "p99_ms": heard.p99_ms and round(heard.p99_ms, 1),
            }
            for url, heard in rounds.heard.items()
        ],
        "groups": [_rounded(asdict(one)) for one in known["groups"]],
        "topics": [asdict(one) for one in known["topics"]],
        "engines": [document(asdict(one)) for one in known["engines"]],
        "clients": known["clients"],
        "replays": [document(one) for one in known["replays"]],
        "wrong": dict(wrong),
        "alerts": [document(asdict(one)) for one in alerts],
        "targets": [
            {"target": one.name, "waiting": one.waiting, "sent": one.sent, "dropped": one.dropped, "wrong": one.wrong}
            for one in targets
        ],
    }


def minute(rounds: Rounds, known: Mapping[str, Any], latency: Mapping[str, list[int]]) -> dict[str, Any]:
    """One minute of the day; ``latency`` has the counts of each gateway's heat map."""
    return {
        "latency": dict(latency),
        "percentiles": {url: [heard.p50_ms, heard.p99_ms] for url, heard in rounds.heard.items()},
        "topics": {one.topic: one.per_s for one in known["topics"]},
        "dead": sum(one.dead for one in known["topics"]),
        "lag_s": {one.group: round(one.seconds, 3) for one in known["groups"]},
        "differing": len(rounds.differing),
    }


def _difference(one: Difference) -> dict[str, Any]:
    said = document(asdict(one))
    try:
        said["by"] = decimal_text(Decimal(one.other) - Decimal(one.engine))
    except InvalidOperation:  # ids have none
        said["by"] = None
    return said


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 1) if isinstance(value, float) else value for name, value in row.items()}
