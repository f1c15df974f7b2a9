"""The engine of the chaos test, a process of its own: publishes durably at a steady pace until it is asked to stop.

Run as ``python -m tests.chaos.publish REPORT SEED BASE PACE``; SENTIO_SPOOL names the spool. Every line of REPORT is a
JSON document of what became of the events so far, so that whoever kills this process knows what it had promised. PACE
is a file that says how many events a second are wanted at the moment.
"""

import json
import sys
import threading
import time
from datetime import datetime
from itertools import islice
from pathlib import Path
from random import Random

from producers.publisher import Counters, EventPublisher
from sentio import log
from sentio.config import PublisherSettings, load
from sentio.stopping import on_asked
from tests.chaos.market import events

TURN_S = 0.02
TURN_EVENTS = 200
"""At most so many at once: after a stall the pace is not made up for."""

CLOSE_S = 60.0


def main(report: Path, seed: str, base: datetime, pace: Path) -> None:
    log.configure(process="publisher")
    stop = threading.Event()
    on_asked(stop.set)
    publisher = EventPublisher(load(PublisherSettings), name="engine", durable=True)
    stream = events(Random(seed), base)
    with report.open("a") as file:

        def say(counters: Counters) -> None:
            line = {
                "producer": publisher.producer,
                "published": counters.published,
                "acknowledged": counters.acknowledged,
                "failed": counters.failed,
                "waiting": counters.waiting,
            }
            file.write(json.dumps(line) + "\n")
            file.flush()

        before_s = time.monotonic()
        while not stop.wait(TURN_S):
            now_s = time.monotonic()
            for event in islice(stream, min(TURN_EVENTS, round((now_s - before_s) * float(pace.read_text())))):
                publisher.publish(event)
            before_s = now_s
            say(publisher.counters())
        say(publisher.close(CLOSE_S))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], datetime.fromisoformat(sys.argv[3]), Path(sys.argv[4]))
