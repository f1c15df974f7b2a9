"""The heartbeats of the engines behind a sidecar, and the alarm when one is silent while the market is open."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import NAMESPACE_OID, uuid5

from producers.sidecar.messages import Messages
from producers.sidecar.numbered import Numbered, messages
from producers.sidecar.source import Beat, Source
from schemas.events import EngineHeartbeat
from sentio import log
from sentio.hours import is_open

BEAT_S = 5.0
SILENCE_S = 150.0
"""An engine that decides once a minute has then left out two."""


class Beats:
    """Tells when engines are to be heard of, and what is to be heard."""

    def __init__(self) -> None:
        self._next_s = time.monotonic()
        self._began_s = time.monotonic()  # since when they are heard
        self._spoke_s: dict[str, float] = {}
        self._once = log.OncePer()

    def spoke(self, source: str) -> None:
        """Events came from a source."""
        self._spoke_s[source] = time.monotonic()

    def deaf(self) -> None:
        """Nothing is taken from the sources at the moment, whatever engines say."""
        self._began_s = time.monotonic()

    def are_due(self) -> bool:
        """Whether it is time: `BEAT_S` after the last."""
        return time.monotonic() >= self._next_s

    def of(self, sources: Sequence[Source]) -> Messages | None:
        """A beat of each engine that is known, None without any; says which are silent and should not be."""
        self._next_s = time.monotonic() + BEAT_S
        now = datetime.now(UTC)
        beats = {source.name: list(source.beats()) for source in sources}
        if is_open(now):
            for name, found in beats.items():
                self._look_at(name, found)
        made = [_heartbeat(beat, now) for each in beats.values() for beat in each]
        return messages(made)[0] if made else None

    def _look_at(self, source: str, beats: Sequence[Beat]) -> None:
        """Each engine is looked at by itself; one that came back is one, by its name."""
        for engine in {beat.engine for beat in beats} or {""}:
            its = [beat for beat in beats if beat.engine == engine]
            own_s = [beat.spoke_s for beat in its if beat.spoke_s is not None] or [self._spoke_s.get(source, 0.0)]
            silent_s = time.monotonic() - max(*own_s, self._began_s)
            if silent_s > SILENCE_S and self._once.due((source, engine)):
                log.get().error(
                    "an engine is silent in trading hours",
                    source=source,
                    engine=engine,
                    silent_s=round(silent_s),
                    state="has its end open" if any(beat.is_there for beat in its) else "is not there",
                )


def _heartbeat(beat: Beat, now: datetime) -> Numbered:
    """Its sequence is its time, in tenths of a second: nothing has to be remembered, and it rises."""
    sequence = int(now.timestamp() * 10)
    event = EngineHeartbeat(
        engine=beat.engine,
        version=beat.version,
        mode=beat.mode,
        state="running" if beat.is_there else "stopped",
        beat_at=now,
    )
    # Not the engine's own producer: it may send heartbeats itself, with sequences of its own.
    producer = f"sidecar:{beat.producer}"
    return Numbered(producer, uuid5(NAMESPACE_OID, producer), sequence, event)
