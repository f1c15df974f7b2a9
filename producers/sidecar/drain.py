"""`Sidecar`: what engines put into its sources goes to Kafka, each event once for those who read by sequences.

A source forgets only what Kafka has acknowledged. So neither an outage nor a SIGKILL of this process loses anything
that the source still has; what is sent again then has the same ids and sequences.
"""

import threading
import time
from collections.abc import Callable, Sequence

from producers import spans
from producers.sender import KafkaSender, Parcel
from producers.sidecar.beats import Beats
from producers.sidecar.messages import Messages
from producers.sidecar.refusals import Refusals
from producers.sidecar.source import Portion, Source, Tally
from schemas.topics import topic_of_event
from sentio.config import PublisherSettings
from sentio.tracing import traces

MOST = 10_000
"""Events of a source that are taken at once, and that are under way in all when nothing more is taken."""

GATHERED_S = 0.004
"""While Kafka has not acknowledged all, more is taken once so long: a broker whose time goes by requests, not events,
has a fraction of them at 10,000 events a second, and answers sooner.
"""

OPEN_S = 0.2
"""How long it is sent on before all of it has to be acknowledged."""

AWAY_S = 1.0
"""Kafka is away when it has not acknowledged for so long; what engines say meanwhile is not taken."""

SHORTEST_S = 0.001
"""Between two looks, at sources that hold nothing new or for an acknowledgement."""

QUIET_PART, LONGEST_S = 0.02, 0.03
"""Between two looks of Python's lies this part of the time since there was something, and so long at most. A look takes
a quarter of a millisecond of a processor, most of it to be woken (on a virtual one): thirty a second are 0.9 % of it.
"""

TURN_S = 0.25
"""After so long the sidecar's thread turns, whatever it waits for: it may have to stop, and hears librdkafka."""

STOP_S = 1.0


Wait = Callable[[threading.Event, float], object]
"""Returns once there may be something new in the sources, after `TURN_S` at the latest. It is given the seconds for
which there has been nothing."""


def pause_s(quiet_s: float, *, part: float = QUIET_PART, longest_s: float = LONGEST_S) -> float:
    """How long it is until the next look, after so many seconds without anything."""
    return min(max(part * quiet_s, SHORTEST_S), longest_s)


def wait_for_next_look(stop: threading.Event, quiet_s: float) -> None:
    """For sources that do not say when there is something."""
    stop.wait(pause_s(quiet_s))


class Sidecar:
    """Drains sources until it is told to stop. Used by one thread."""

    def __init__(self, settings: PublisherSettings, sources: Sequence[Source], wait: Wait = wait_for_next_look) -> None:
        self.turned_s = time.monotonic()
        """When the loop last turned, for /livez."""

        self.tallies = {source.name: Tally() for source in sources}
        self._prefix = settings.topic_prefix
        self._sources = sources
        self._wait = wait
        # What waits is sent in one go, and then waited for: lingering for more would only take longer.
        self._sender = KafkaSender(
            settings.kafka, queue_records=4 * MOST * len(sources), spool=None, durable=False, linger_ms=0
        )
        self._traces = traces(settings, process="sidecar")
        self._sent = 0
        # Events that were taken of a source and not acknowledged, and since when there are any.
        self._open: dict[str, int] = {}
        self._opened_s = 0.0
        self._took_s = 0.0
        self._beats = Beats()
        self._refusals = Refusals()

    @property
    def failed(self) -> int:
        """Events that Kafka refuses: lost, each said in the log."""
        return self._sender.counts().failed

    @property
    def waits(self) -> bool:
        """Kafka has not acknowledged all that was sent."""
        counts = self._sender.counts()
        return counts.acknowledged + counts.failed < self._sent

    def run(self, stop: threading.Event) -> None:
        """Until ``stop`` is set; what Kafka has not acknowledged by then stays in the sources."""
        last_s = time.monotonic()
        try:
            while not stop.is_set():
                self.turned_s = time.monotonic()
                if self._turn():
                    last_s = self.turned_s
                elif self._open:
                    wait_for_next_look(stop, self.turned_s - last_s)
                else:
                    self._wait(stop, self.turned_s - last_s)
            deadline_s = time.monotonic() + STOP_S
            while self._open and not self._settle() and time.monotonic() < deadline_s:
                time.sleep(SHORTEST_S)
        finally:
            self._sender.abandon()
            for source in self._sources:
                source.close()
            if self._traces:
                self._traces.close()

    def _turn(self) -> bool:
        """Whether there was anything to do."""
        settled, took = self._settle(), False
        if self._beats.are_due():
            self._look()
        if self._may_take():
            for source in self._sources:
                if portion := source.take(MOST):
                    took = True
                    self._took_s = self.turned_s
                    self._opened_s = self._opened_s or self.turned_s
                    self._open[source.name] = self._open.get(source.name, 0) + self._send(source, portion)
        elif self.turned_s > self._opened_s + AWAY_S:
            self._beats.deaf()
        return settled or took

    def _may_take(self) -> bool:
        """Kafka says only that it has everything, not what of it: so now and then that has to be waited for."""
        if not self._open:
            return True
        if self.turned_s < self._took_s + GATHERED_S:
            return False
        return self.turned_s < self._opened_s + OPEN_S and sum(self._open.values()) < MOST

    def _settle(self) -> bool:
        """Let the sources forget what was taken, if Kafka has all of it. librdkafka is heard in any case."""
        self._sender.turn()
        if not self._open or self.waits:
            return False
        for source in self._sources:
            if source.name in self._open:
                source.acknowledge()
                self.tallies[source.name].events += self._open[source.name]
        self._open.clear()
        self._opened_s = 0.0
        return True

    def _send(self, source: Source, portion: Portion) -> int:
        """How many events of it go to Kafka."""
        for messages in portion.messages:
            self._publish(messages)
            self._beats.spoke(source.name)
        self.tallies[source.name].refused += len(portion.refused)
        self._refusals.say(source.name, portion.refused)
        return sum(len(messages.values) for messages in portion.messages)

    def _publish(self, messages: Messages) -> None:
        topic = topic_of_event(messages.event).full_name(self._prefix)
        self._sent += len(messages.values)
        parcel = Parcel(topic, messages.keys, messages.values, int(time.time() * 1_000))
        spans.send(self._sender, parcel, self._traces)

    def _look(self) -> None:
        """Take the figures; let the engines' hearts be seen, unless Kafka does not take even what was sent before."""
        for source in self._sources:
            self.tallies[source.name].figures = source.figures()
            self._refusals.say(source.name, ())
        if not self._open and not self.waits and (found := self._beats.of(self._sources)) is not None:
            self._publish(found)
