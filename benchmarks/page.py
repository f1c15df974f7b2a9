"""How soon the owner's page is there: Chromium on a whole platform that has a day behind it."""

import json
import os
import shutil
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

import psycopg
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from benchmarks import programs
from benchmarks.goals import Goal
from benchmarks.stage import PARTITIONS, Stage
from benchmarks.webhooks import address, percentile
from producers.publisher import EventPublisher
from producers.simulator import events
from schemas.events import TradeExecuted
from sentio.config import PublisherSettings, load

NAME = "page"
TITLE = "The owner's page: how soon it is there"
NOTES = """A simulated trading day of 390 minutes behind it, and 24 hours of the watcher's minutes; store, aggregates,
stream, watcher and rest run on the same machine, and Chromium too. Each load is 15 times a round, in milliseconds from
the start of the navigation: `first_paint` the first contentful paint, `figures` the account's figures, `whole` the
chart, the heat map and the trades of the page's own client besides; each the median, `figures_p95` the 95th percentile.
`kilobytes` come over the wire for a page, `requests` are asked before it is whole; `load` is the machine's load average
meanwhile, of all that runs on it. *Again* is with the browser's cache, *4G* with 60 ms added to each request and
9 Mbit/s."""
PROFILE = """Up to the figures it is Chromium's start of a page and the round trips: the page, nine small files, one
answer. Behind them it is layout and the drawing of charts; of the scripts' time uPlot has the most."""
LOADS = EVENTS = 15
GOALS = [
    Goal(f"{who}: figures within a second", at_most_us=1_000.0, unit="ms", part="figures", who=f"sentio: {who}")
    for who in ("desktop", "phone", "phone, 4G")
]
DAY = date(2025, 10, 10)
READY_S = 120.0
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}

Figures = dict[str, float]


@dataclass(frozen=True)
class Case:
    """One kind of visitor."""

    who: str
    viewport: dict[str, int]
    again: bool = False
    """With what the browser kept of the visit before."""

    slow: bool = False
    """Over a line such as a phone has."""


CASES = (
    Case("desktop", DESKTOP),
    Case("desktop, again", DESKTOP, again=True),
    Case("phone", PHONE),
    Case("phone, 4G", PHONE, slow=True),
)

# Noted by the page itself, at the first frame that shows it.
_NOTE = """
const shown = {
  figures: () => document.querySelector("dd[data-figure=equity][data-value]:not([data-value=''])"),
  whole: () => document.querySelector("#equity-chart canvas") && document.querySelector("#heat[data-minutes]")
    && document.querySelector("#trades tbody td + td"),
};
const at = {};
window.seen = new Promise((resolve, reject) => {
  const look = () => {
    for (const [name, is] of Object.entries(shown)) {
      if (!(name in at) && document.body && is()) at[name] = performance.now();
    }
    if (Object.keys(at).length === 2) resolve(at);
    else requestAnimationFrame(look);
  };
  look();
  setTimeout(() => reject(new Error(`not whole, only ${Object.keys(at)}`)), 30_000);
});
"""
_READ = """async () => {
  const at = await window.seen;
  const files = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
  return {
    first_paint: performance.getEntriesByName("first-contentful-paint")[0].startTime,
    ...at,
    kilobytes: files.reduce((sum, one) => sum + one.transferSize, 0) / 1000,
    requests: files.length,
  };
}"""
_MINUTES = """
    insert into watch_minutes (minute_at, document)
    select date_trunc('minute', now()) - minute * interval '1 minute', %s::json from generate_series(1, 1439) as minute
    on conflict do nothing
"""


def rows(stage: Stage, rounds: int) -> list[dict[str, Any]]:
    """A row for each kind of visitor."""
    if (chromium := shutil.which("chromium")) is None:
        return [{"who": f"sentio: {case.who}", "why": "no chromium here"} for case in CASES]
    with platform(stage) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        done = [[loads(browser, url, case) for case in CASES] for _ in range(rounds)]
        browser.close()
    found = [row(case.who, [one for each in done for one in each[place]]) for place, case in enumerate(CASES)]
    for each in found:
        stage.say(f"  {each['who']}: {each['parts']}")
    return found


def row(who: str, done: Sequence[Figures]) -> dict[str, Any]:
    """Medians of all loads."""
    parts = {name: statistics.median(each[name] for each in done) for name in done[0]}
    parts["figures_p95"] = percentile(sorted(each["figures"] for each in done), 0.95)
    return {
        "who": f"sentio: {who}",
        "cpu_us_per_event": None,
        "wall_us_per_event": None,
        "parts": {name: round(value, 1) for name, value in parts.items()},
    }


def loads(browser: Browser, url: str, case: Case) -> list[Figures]:
    """Of `LOADS` visits; the first of a round, which nobody else's cache has warmed, is not counted."""
    found = []
    with browser.new_context(viewport=case.viewport) as kept:  # type: ignore[arg-type] # it has a type of its own
        for _ in range(LOADS + 1):
            with ExitStack() as stack:
                context = kept
                if not case.again:
                    context = stack.enter_context(browser.new_context(viewport=case.viewport))  # type: ignore[arg-type] # a mapping is what it takes
                found.append(_visit(context, url, case))
    return found[1:]


def _visit(context: BrowserContext, url: str, case: Case) -> Figures:
    page: Page = context.new_page()
    if case.slow:
        line = {"offline": False, "latency": 60, "downloadThroughput": 9e6 / 8, "uploadThroughput": 2e6 / 8}
        context.new_cdp_session(page).send("Network.emulateNetworkConditions", line)
    page.add_init_script(_NOTE)
    page.goto(url, wait_until="commit")
    figures: Figures = page.evaluate(_READ)
    page.close()
    return figures | {"load": os.getloadavg()[0]}


@contextmanager
def platform(stage: Stage) -> Iterator[str]:
    """Address of the page of a platform that has told and compared a day."""
    with stage.fresh_log(house=True) as log, stage.fresh_database() as database, ExitStack() as stack:
        common = {
            "SENTIO_KAFKA": stage.kafka,
            "SENTIO_TOPIC_PREFIX": log.prefix,
            "SENTIO_DATABASE": database,
            "SENTIO_PARTITIONS": str(PARTITIONS),
        }

        def run(name: str, **more: str) -> programs.Program:
            command = [sys.executable, "-m", "sentio", "run", name]
            return stack.enter_context(programs.started(stage, f"page-{name}", command, common | more))

        run("store")
        run("aggregates")
        stream = address(run("stream", SENTIO_STREAM_PORT="0"))
        watcher = run("watcher", SENTIO_WATCH_STREAMS=stream, SENTIO_WATCH_HOURS="never")
        rest = run("rest", SENTIO_REST_PORT="0", SENTIO_REST_STREAM=stream, SENTIO_REST_REQUESTS="0")
        fills = _publish(stage, log.prefix)
        with psycopg.connect(database, autocommit=True) as connection:
            watcher.wait(lambda: _agreed(connection, fills), what="through with the day", limit_s=READY_S)
            connection.execute(_MINUTES, [json.dumps(_minute(stream))])
        yield f"{address(rest)}/owner/"


def _publish(stage: Stage, prefix: str) -> int:
    """A day; how many fills it has."""
    day = list(events(seed=7, day=DAY))
    with EventPublisher(load(PublisherSettings, kafka=stage.kafka, topic_prefix=prefix), name="engine") as publisher:
        for event in day:
            publisher.publish(event)
    return sum(isinstance(event, TradeExecuted) for event in day)


def _agreed(connection: psycopg.Connection, fills: int) -> bool:
    """Whether all three sides have said so many."""
    row = connection.execute("select document from watch_now").fetchone()
    accounts = row[0]["accounts"] if row else []
    said = [side.get("fills") for side in accounts[0]["sides"].values()] if accounts else []
    return said == [str(fills)] * 3


def _minute(gateway: str) -> dict[str, Any]:
    """As the watcher writes them of a busy minute (`gateway.watch.document.minute`)."""
    topics = ("trades.executed", "signals.generated", "positions.updated", "performance.minute", "prices.minute")
    return {
        "latency": {gateway: [0, 4, 12, 80, 160, 90, 20, 4, 1, 0, 0, 0, 0]},
        "percentiles": {gateway: [14.2, 88.1]},
        "topics": dict.fromkeys(topics, 12.5),
        "dead": 0,
        "lag_s": {"store": 0.1, "aggregates": 0.1},
        "differing": 0,
    }
