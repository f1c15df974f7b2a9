"""The watcher's process: rounds, meters, alerts, and what the owner's page is told of them."""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from gateway.database import pool
from gateway.watch import document, figures, judging, told
from gateway.watch.alarms import RULES, Alarms
from gateway.watch.book import beginning
from gateway.watch.meters import Meters
from gateway.watch.probe import Probe
from gateway.watch.record import Record
from gateway.watch.rounds import Rounds
from gateway.watch.sending import Target, targets
from sentio import log, metrics
from sentio.config import WatchSettings
from sentio.database import migrate
from sentio.errors import Retryable, SettingError
from sentio.stopping import on_stop

AGAIN_S = 1.0
STALLED_S = 60.0
LOOK_S = 0.5
CONNECTIONS = 2


class Watcher:
    """Everything that the process does, until ``stop``."""

    def __init__(self, settings: WatchSettings, stop: threading.Event) -> None:
        """Raises `SettingError` for an address that is none."""
        self._settings = settings
        self._stop = stop
        since = beginning()
        urls = [url.strip() for url in settings.watch_streams.split(",") if url.strip()]
        for url in urls:
            if not url.startswith(("ws://", "wss://")):
                raise SettingError(f"SENTIO_WATCH_STREAMS: {url}: an address is ws://... or wss://...")
        self._probes = [
            Probe(url, prefix=settings.topic_prefix, token_file=settings.watch_token_file, since=since) for url in urls
        ]
        self._targets: Sequence[Target] = targets(settings)
        self._alarms = Alarms(settings.alert_runbooks)
        self._record = Record(settings)
        self._pool = pool(settings.database, name="sentio-watcher", size=CONNECTIONS)
        self._meters = Meters(settings, self._pool)
        self._rounds = Rounds(settings, self._pool, self._probes)
        self._minute = _minute_of(datetime.now(UTC))
        self._once = log.OncePer()
        self._broken: BaseException | None = None
        """What ended the meters: a bug that must not leave a watcher that looks well."""

        self._told: dict[str, Any] | None = None
        """What is kept of who was told what; None: the database has not been asked yet."""

        self.turned_s = time.monotonic()
        self.ready = False

    def run(self) -> None:
        """Until stopped; an outage of Kafka or the database is waited out, and is an alert."""
        for probe in self._probes:
            probe.start()
        looking = threading.Thread(target=self._look, name="meters", daemon=True)
        looking.start()
        try:
            while not self._stop.is_set():
                began_s = time.monotonic()
                try:
                    if self._told is None:
                        migrate(self._settings.database)
                        self._told = self._record.told_before()
                        told.resume(self._told, self._alarms, self._targets)
                    self._round()
                except Retryable as failure:
                    self._missed(str(failure))
                self.turned_s = time.monotonic()
                took_s = self.turned_s - began_s
                # A day of many fills takes the database a while to sum up: it rests for as long.
                self._stop.wait(
                    max(self._settings.watch_every_s - took_s, min(took_s, self._settings.watch_every_s * 10))
                )
        finally:
            self._stop.set()
            for probe in self._probes:
                probe.stop()
            looking.join(1)
            for target in self._targets:
                target.stop(1)
            with suppress(Retryable):
                self._keep_told()
            self._rounds.close()
            self._record.close()
            self._pool.close()

    def _look(self) -> None:
        """Lag takes its time when all are behind: comparisons do not wait for it."""
        try:
            while not self._stop.wait(LOOK_S):
                self._meters.look()
        except BaseException as failure:  # noqa: BLE001 - raised by the next round
            self._broken = failure

    def _round(self) -> None:
        if self._broken is not None:
            raise self._broken
        ended = self._rounds.run()
        wrong = dict(self._meters.wrong)
        if not ended:
            wrong["engine"] = "the engine's words are still being read"
        self._judge("; ".join(wrong.values()) or None)
        self._keep_told()
        now = datetime.now(UTC)
        known = self._meters.known
        self._record.now(
            now,
            document.present(
                self._rounds, known, at=now, wrong=wrong, alerts=self._alarms.active, targets=self._targets
            ),
        )
        if (minute := _minute_of(now)) != self._minute:
            counts = {probe.url: probe.minute() for probe in self._probes}
            self._record.minute(self._minute, document.minute(self._rounds, known, counts))
            self._minute = minute
        figures.show(self._rounds.sides, self._rounds.differing, known, self._rounds.heard)
        figures.ROUNDS.labels("done").inc()
        self.ready = True
        self._once.reset()

    def _missed(self, why: str) -> None:
        if self._once.due("round"):
            log.get().warning("waiting, will try again", cause=why)
        figures.ROUNDS.labels("missed").inc()
        self.ready = False
        self._rounds.close()
        self._judge(why)
        with suppress(Retryable):
            self._keep_told()
        self._stop.wait(AGAIN_S)

    def _keep_told(self) -> None:
        if self._told is not None and (now := told.kept(self._alarms, self._targets)) != self._told:
            self._record.told(now)
            self._told = now

    def _judge(self, blind: str | None) -> None:
        """What begins and what ends is said."""
        lines = judging.wrong(
            self._settings,
            differing=self._rounds.differing,
            known=self._meters.known,
            probes=self._rounds.heard,
            late_s=self._rounds.late_s,
            blind=blind,
        )
        if self._told is None:  # what had begun before is not known: of the rest nothing is said yet
            lines = {rule: line for rule, line in lines.items() if rule == "blind"}
        for notice in self._alarms.step(lines, time.monotonic()):
            log.get().warning(f"alert: {notice.alert} {notice.state}", summary=notice.summary, runbook=notice.runbook)
            for target in self._targets:
                target.put(notice)
        active = {one.alert for one in self._alarms.active}
        for rule in RULES:
            figures.ALERTS.labels(rule.name).set(rule.name in active)
        for target in self._targets:
            figures.UNSENT.labels(target.name).set(target.waiting)
            figures.LOST.labels(target.name).set(target.dropped)


def _minute_of(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)


def main(settings: WatchSettings) -> None:
    """Watch until SIGTERM or SIGINT."""
    log.configure(settings.log_level, process="watcher")
    stop = threading.Event()
    on_stop(stop.set)
    watcher = Watcher(settings, stop)
    if settings.metrics_port is not None:
        metrics.serve(
            settings.metrics_port,
            live=lambda: time.monotonic() - watcher.turned_s < STALLED_S,
            ready=lambda: watcher.ready,
        )
    watcher.run()
