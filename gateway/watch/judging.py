"""What of all that is seen is wrong: one line for each rule of `gateway.watch.alarms`."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, time
from typing import Any

from gateway.watch.book import NEW_YORK
from gateway.watch.comparing import Difference
from gateway.watch.probe import Heard
from sentio.config import WatchSettings
from sentio.kafka import Place

SATURDAY = 5
LEFT_S = 86_400.0
"""What a group may have left before Kafka deletes what it has not read."""

QUIET_S = 20.0
"""For how long a probe hears nothing of a partition, while the log has more of it, before it is late."""

FIRST = 3


def wrong(
    settings: WatchSettings,
    *,
    differing: Sequence[Difference],
    known: Mapping[str, Any],
    probes: Mapping[str, Heard],
    late_s: Mapping[str, Mapping[Place, float]],
    blind: str | None,
    now: datetime | None = None,
) -> dict[str, str]:
    """By rule; ``known`` is of `Meters`, ``late_s`` of `Rounds`, ``blind`` says why something cannot be looked at."""
    lines = {
        "divergence": _divergence(differing),
        "lag": _lag(settings, known["groups"]),
        "silence": _silence(settings, known["engines"], now or datetime.now(UTC)),
        "errors": _errors(settings, known["topics"]),
        "stream": _stream(probes, late_s),
        "blind": blind,
    }
    return {rule: line for rule, line in lines.items() if line}


def in_hours(hours: str, now: datetime) -> bool:
    """Whether an engine has to be heard at an instant."""
    if hours in ("always", "never"):
        return hours == "always"
    local = now.astimezone(NEW_YORK)
    first, last = (time.fromisoformat(part) for part in hours.split("-"))
    return local.weekday() < SATURDAY and first <= local.time() < last


def _divergence(differing: Sequence[Difference]) -> str | None:
    if not differing:
        return None
    some = "; ".join(
        f"{one.figure} of {one.account} on {one.day}: engine {one.engine}, {one.side} {one.other}"
        for one in differing[:FIRST]
    )
    return some + (f"; and {len(differing) - FIRST} more" if len(differing) > FIRST else "")


def _lag(settings: WatchSettings, groups: Iterable[Any]) -> str | None:
    late = [
        f"{one.group} is {one.seconds:,.0f} s and {one.records:,} events behind"
        + (f", and loses them in {one.retention_left_s / 3600:,.1f} h" if one.retention_left_s < LEFT_S else "")
        for one in groups
        if one.seconds > settings.alert_lag_s or one.retention_left_s < LEFT_S
    ]
    return "; ".join(late) or None


def _silence(settings: WatchSettings, engines: Sequence[Any], now: datetime) -> str | None:
    if not in_hours(settings.watch_hours, now):
        return None
    if not engines:
        return "no engine has been heard"
    newest = engines[0]
    silent_s = (now - newest.heard_at).total_seconds()
    if silent_s <= settings.alert_silence_s:
        return None
    return f"no engine has been heard for {silent_s:,.0f} s; the last was {newest.engine}, {newest.state}"


def _errors(settings: WatchSettings, topics: Iterable[Any]) -> str | None:
    dead = [one for one in topics if one.dead]
    if sum(one.dead for one in dead) <= settings.alert_dead_letters:
        return None
    return "dead letters in five minutes: " + ", ".join(f"{one.dead:,} of {one.topic}" for one in dead)


def _stream(probes: Mapping[str, Heard], late_s: Mapping[str, Mapping[Place, float]]) -> str | None:
    lines = []
    for url, heard in probes.items():
        if heard.state != "open":
            lines.append(f"{url}: the probe is not connected: {heard.detail or heard.state}")
            continue
        late = sorted((place, seconds) for place, seconds in late_s.get(url, {}).items() if seconds > QUIET_S)
        lines += [
            f"{url}: nothing of {topic} partition {partition} was heard for {seconds:.0f} s, though there is more"
            for (topic, partition), seconds in late[:FIRST]
        ]
        if len(late) > FIRST:
            lines.append(f"{url}: nor of {len(late) - FIRST} more partitions")
    return "; ".join(lines) or None
