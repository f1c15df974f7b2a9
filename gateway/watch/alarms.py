"""When something is wrong for long enough to say so, and well for long enough to say that it is over."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal


@dataclass(frozen=True, slots=True)
class Rule:
    """What an alert is about. It begins once it was wrong for ``for_s``, and ends once it was well for ``clear_s``."""

    name: str
    for_s: float
    clear_s: float
    runbook: str
    """Page under docs/runbooks."""


RULES = (
    Rule("divergence", 1.0, 10.0, "divergence.md"),
    Rule("lag", 30.0, 30.0, "consumer-stuck.md"),
    Rule("silence", 0.0, 10.0, "silent-engine.md"),
    Rule("errors", 0.0, 60.0, "poison-storm.md"),
    Rule("stream", 30.0, 10.0, "stream.md"),
    Rule("blind", 30.0, 10.0, "blind.md"),
)


RESUMED_S = 300.0
"""How much longer an alert that had begun before this process has to be well until it is over: by then everything that
it may be judged by was looked at again.
"""


@dataclass(frozen=True, slots=True)
class Notice:
    """One message: an alert begins or ends."""

    alert: str
    state: Literal["begin", "end"]
    summary: str
    at: datetime
    runbook: str


@dataclass(slots=True)
class _Alarm:
    wrong_since_s: float | None = None
    well_since_s: float | None = None
    began_at: datetime | None = None
    summary: str = ""
    resumed: bool = False
    """It had begun before this process, which has not seen it yet."""


class Alarms:
    """The state of every rule. Of one thread."""

    def __init__(self, runbooks: str) -> None:
        """``runbooks``: what is put before a page's name."""
        self._runbooks = runbooks
        self._alarms = {rule: _Alarm() for rule in RULES}

    def step(self, wrong: Mapping[str, str], now_s: float) -> list[Notice]:
        """What begins and what ends. ``wrong``: a line for each rule that is wrong now, by its name."""
        notices = []
        for rule, alarm in self._alarms.items():
            line = wrong.get(rule.name)
            if line is not None:
                alarm.summary, alarm.well_since_s, alarm.resumed = line, None, False
                alarm.wrong_since_s = now_s if alarm.wrong_since_s is None else alarm.wrong_since_s
                if alarm.began_at is None and now_s - alarm.wrong_since_s >= rule.for_s:
                    alarm.began_at = datetime.now(UTC)
                    notices.append(self._notice(rule, alarm, "begin"))
                continue
            alarm.wrong_since_s = None
            if alarm.began_at is None:
                continue
            alarm.well_since_s = now_s if alarm.well_since_s is None else alarm.well_since_s
            if now_s - alarm.well_since_s >= rule.clear_s + (RESUMED_S if alarm.resumed else 0.0):
                notices.append(self._notice(rule, alarm, "end"))
                self._alarms[rule] = _Alarm()
        return notices

    def resume(self, begun: Iterable[Notice]) -> None:
        """These had begun before this process, as `active` said then."""
        rules = {rule.name: rule for rule in self._alarms}
        for notice in begun:
            if rule := rules.get(notice.alert):
                self._alarms[rule] = _Alarm(began_at=notice.at, summary=notice.summary, resumed=True)

    @property
    def active(self) -> list[Notice]:
        """Those that have begun and not ended; ``at`` is when they began."""
        return [
            self._notice(rule, alarm, "begin", alarm.began_at) for rule, alarm in self._alarms.items() if alarm.began_at
        ]

    def _notice(self, rule: Rule, alarm: _Alarm, state: Literal["begin", "end"], at: datetime | None = None) -> Notice:
        return Notice(rule.name, state, alarm.summary, at or datetime.now(UTC), self._runbooks + rule.runbook)
