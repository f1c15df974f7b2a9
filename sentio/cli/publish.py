"""`sentio play`, `simulate`: events into the log from a recording or a simulated engine."""

import json
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentio.errors import Retryable, SettingError

if TYPE_CHECKING:
    from producers.source import Source

Speed = Annotated[str, typer.Option(help="1 is real time, 60 a minute a second, or max.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Count bad lines and go on, instead of stopping before.")]


def play(
    session: Annotated[Path, typer.Option(help="Folder of a recorded day, or a day's results file.")],
    speed: Speed = "max",
    *,
    skip_bad: SkipBad = False,
) -> None:
    """Publish a recorded day. Started again after a crash it goes on where the log ends."""
    _play(session, 0, speed, skip_bad=skip_bad)


def simulate(
    seed: Annotated[int, typer.Option(help="The same seed gives the same day.")] = 42, speed: Speed = "max"
) -> None:
    """Publish a day of a simulated engine."""
    _play(None, seed, speed, skip_bad=False)


def parse_speed(text: str) -> float | None:
    """The factor, None for max; raises `SettingError`."""
    try:
        speed = None if text == "max" else float(text)
    except ValueError:
        speed = 0.0
    if speed is not None and not 0 < speed < float("inf"):
        raise SettingError(f"--speed {text}: a number above zero, or max")
    return speed


def _play(path: Path | None, seed: int, speed_text: str, *, skip_bad: bool) -> None:
    from producers.figures import show
    from producers.player import NAME, play, sequences_on_log
    from producers.publisher import EventPublisher
    from producers.source import open_source
    from sentio import log, metrics
    from sentio.cli.starting import start
    from sentio.config import PublisherSettings, load
    from sentio.stopping import on_stop

    speed = parse_speed(speed_text)
    # Without a spool: the source is what is durable, and two places to go on from would disagree.
    settings = load(PublisherSettings, spool=None)
    start(settings, process="play")
    bad: list[str] = []
    source: Source = open_source(path, seed=seed, skip_bad=skip_bad, on_bad=lambda line: _note(bad, line))
    stop = threading.Event()
    on_stop(stop.set)
    already = _until_it_answers(lambda: sequences_on_log(settings, f"{NAME}@{source.id}", stop=stop), stop)
    if stop.is_set():
        return
    publisher = EventPublisher(settings, name=NAME, source=source.id, already=already)
    if settings.metrics_port is not None:
        show(publisher)
        metrics.serve(
            settings.metrics_port,
            live=lambda: publisher.failure is None,
            ready=lambda: not publisher.counters().spooled_bytes,
        )
    log.get().info("playing", source=source.name, producer=publisher.producer, on_log_already=len(already))
    try:
        play(source.events(), publisher, speed=speed, stop=stop)
    finally:
        while publisher.counters().waiting and not stop.is_set():
            stop.wait(0.01)
        # Asked to stop, it does so within seconds: what the log lacks is played at the next start.
        counters = publisher.close(timeout_s=2)
    print(
        json.dumps({"source": source.name, "producer": publisher.producer, **asdict(counters), "bad_lines": len(bad)})
    )


def _until_it_answers(ask: Callable[[], frozenset[int]], stop: threading.Event) -> frozenset[int]:
    """What ``ask`` gives once Kafka answers, or nothing when asked to stop before."""
    from sentio import log

    once = log.OncePer()
    while not stop.is_set():
        try:
            return ask()
        except Retryable as failure:
            if once.due("kafka"):
                log.get().warning("waiting, will try again", cause=str(failure))
            stop.wait(0.5)
    return frozenset()


def _note(bad: list[str], line: str) -> None:
    from sentio import log

    bad.append(line)
    log.get().warning("left out", line=line)
