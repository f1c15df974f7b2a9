"""The owner's page in Chromium, on a whole platform: its figures are the database's, and what differs shows soon."""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiosmtpd.controller import Controller
from playwright.sync_api import Page, expect, sync_playwright
from pydantic import SecretStr

from gateway.dashboard.routes import FILES
from sentio.config import RestSettings, load
from sentio.stack.processes import free_port
from sentio.testing.servers import Kafka, fresh_database, fresh_prefix
from tests.javascript import needs
from tests.pipeline import rows, until
from tests.rest import served
from tests.tokens import edwards, keys_file
from tests.watched import ACCOUNT, Watched, day, watched

SIGNER = edwards("now")
PATIENCE_MS = 60_000
SEEN_WITHIN_MS = 5_000


class Inbox:
    """What a mail server was given."""

    def __init__(self) -> None:
        self.mails: list[Message] = []

    async def handle_DATA(self, server: object, session: object, envelope: Any) -> str:  # noqa: ARG002, N802 - aiosmtpd's
        self.mails.append(message_from_bytes(envelope.content))
        return "250 taken"


class Hook(BaseHTTPRequestHandler):
    """Refuses the first message, and takes the others."""

    posts: list[dict[str, Any]]
    refused = 0

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not type(self).refused:
            type(self).refused += 1
            self.send_error(503)
            return
        self.posts.append(body)
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """No news."""


class Owner:
    """A platform, its page, and where its alerts go."""

    def __init__(self, platform: Watched, rest: httpx.Client, inbox: Inbox, hook: type[Hook]) -> None:
        self.platform = platform
        self.rest = rest
        self.inbox = inbox
        self.hook = hook


@pytest.fixture(scope="module")
def owner(kafka_server: str, database_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    needs("chromium")
    if not (FILES / "vendor/uPlot.js").exists():
        pytest.fail("missing: gateway/dashboard/page/vendor ('make setup' with npm)")
    kafka, inbox = Kafka(kafka_server, fresh_prefix()), Inbox()
    hook = type("HookOfThis", (Hook,), {"posts": []})
    keys = keys_file(tmp_path_factory.mktemp("keys"), SIGNER)
    token = keys.with_name("token")
    token.write_text(SIGNER.token("*", user="probe", lasts_s=600))
    with ExitStack() as stack:
        server = ThreadingHTTPServer(("127.0.0.1", 0), hook)
        stack.callback(server.server_close)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stack.callback(server.shutdown)
        mail = Controller(inbox, hostname="127.0.0.1", port=free_port(None))
        mail.start()
        stack.callback(mail.stop)
        database = stack.enter_context(fresh_database(database_server))
        platform = stack.enter_context(
            watched(
                kafka,
                database,
                auth_keys=keys,
                watch_every_s=0.5,
                watch_token_file=token,
                alert_webhook=f"http://127.0.0.1:{server.server_port}/alerts",
                alert_mail_to="owner@example.com",
                alert_smtp=f"127.0.0.1:{mail.port}",
                alert_runbooks="https://runbooks.example.com/",
            )
        )
        rest = stack.enter_context(
            served(load(RestSettings, database=SecretStr(database), auth_keys=keys, rest_stream=platform.stream_url))
        )
        platform.publish(day())
        until(platform.agreed, timeout_s=90)
        yield Owner(platform, rest, inbox, hook)


@pytest.fixture(scope="module")
def page(owner: Owner) -> Iterator[Page]:
    """The page, signed in, on a phone."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.set_default_timeout(PATIENCE_MS)
        problems: list[str] = []
        page.on("pageerror", lambda failure: problems.append(str(failure)))
        page.goto(f"{owner.rest.base_url}/owner/")
        page.fill("#token", SIGNER.token("*"))
        page.press("#token", "Enter")
        page.wait_for_selector("#refusal:has-text('is no owner')")  # a token of a client is not enough
        page.fill("#token", SIGNER.token("*", owner=True, lasts_s=600))
        page.click("button[type=submit]")
        page.wait_for_selector("#compared-body tr")
        yield page
        browser.close()
        assert problems == []


def test_figures_on_the_page_are_those_of_the_database(owner: Owner, page: Page) -> None:
    database = owner.platform.database
    [(equity, held)] = rows(database, "select equity, open_positions from performance order by minute_at desc limit 1")
    [(realized, fills)] = rows(database, "select sum(realized_pnl), count(*) from trades")
    [(drawdown,)] = rows(
        database, "select max_drawdown from statistics where kind = 'DAY' and strategy = '*' and symbol = '*'"
    )
    tiles = {
        tile.get_attribute("data-figure"): tile.get_attribute("data-value") for tile in page.query_selector_all("dd")
    }
    assert {name: float(value or "nan") for name, value in tiles.items()} == {
        "equity": float(equity),
        "drawdown": float(drawdown),
        "open_positions": held,
        "realized_pnl": float(realized),
    }
    assert page.text_content("dd[data-figure=equity]") == f"{equity:,.2f}"
    assert page.text_content("tr[data-figure=fills] td") == str(fills)
    # Eight figures by three, less the three that aggregates does not keep, and two of this page's own.
    expect(page.locator("#compared .same")).to_have_count(23, timeout=PATIENCE_MS)
    # What this page heard itself, as a client of the stream.
    expect(page.locator("#trades tbody tr")).to_have_count(fills, timeout=PATIENCE_MS)
    assert (
        page.get_attribute("tr[data-figure=equity] [data-side='this page']", "data-value") == f"{equity.normalize():f}"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing is wider than the phone"
    assert page.query_selector("#equity-chart canvas"), "the chart is drawn"


def test_an_injected_divergence_is_on_the_page_within_five_seconds_and_owners_are_told(
    owner: Owner, page: Page
) -> None:
    page.evaluate(
        "() => { window.seen = new Promise((resolve) => new MutationObserver(() => {"
        "  if (document.querySelector('tr[data-difference]')) resolve(Date.now());"
        "}).observe(document.body, { childList: true, subtree: true })) }"
    )
    injected_ms = page.evaluate("Date.now()")
    owner.platform.execute(
        "update performance set equity = equity - 5000 where minute_at = (select max(minute_at) from performance)"
    )
    seen_ms = page.evaluate("window.seen")
    assert seen_ms - injected_ms < SEEN_WITHIN_MS
    assert "-5,000.00" in (page.text_content("tr[data-difference^='equity']") or "")
    page.wait_for_selector("#alerts a[href='https://runbooks.example.com/divergence.md']")
    # The webhook refused at first: it is tried again.
    until(lambda: [one["state"] for one in owner.hook.posts if one["alert"] == "divergence"] == ["begin"])
    until(lambda: [one for one in owner.inbox.mails if "divergence begins" in one["Subject"]])
    owner.platform.execute(
        "update performance set equity = equity + 5000 where minute_at = (select max(minute_at) from performance)"
    )
    page.wait_for_selector("#alerts:not(.bad)")
    until(lambda: [one["state"] for one in owner.hook.posts if one["alert"] == "divergence"] == ["begin", "end"])
    [mail] = [one for one in owner.inbox.mails if "divergence begins" in one["Subject"]]
    assert mail["To"] == "owner@example.com"
    assert f"equity of {ACCOUNT}" in mail.get_payload()


def test_replays_are_on_the_page_and_a_table_under_a_chart_has_all_of_it_once_it_is_opened(
    owner: Owner, page: Page
) -> None:
    owner.platform.execute(
        "insert into replays values ('20251010-093000-abcdef', 'ops-3', 'trades.executed', 'topic:trial', 'failed',"
        " 'the broker is gone', 200, 50, 41, now(), now()), ('20251010-093500-abcdef', 'ops-3', 'trades.executed',"
        " 'count', 'running', null, 200, 199, 199, now() + interval '1 s', now())"
    )
    expect(page.locator("#replays tbody tr")).to_have_count(2, timeout=PATIENCE_MS)
    shown = [
        [cell.text_content() for cell in row.query_selector_all("th, td")]
        for row in page.query_selector_all("#replays tbody tr")
    ]
    assert [row[:4] + row[5:] for row in shown] == [
        ["20251010-093500-abcdef", "interrupted", "99 %", "199", "trades.executed", "count", "ops-3", ""],
        [
            "20251010-093000-abcdef",
            "failed",
            "25 %",
            "41",
            "trades.executed",
            "topic:trial",
            "ops-3",
            "the broker is gone",
        ],
    ]
    assert page.locator("#equity-table tr").count() == 0
    page.click("details:has(#equity-table) summary")
    equities = rows(owner.platform.database, "select equity from performance order by minute_at desc")
    cells = page.locator("#equity-table tbody td")
    expect(cells).to_have_count(len(equities), timeout=PATIENCE_MS)
    assert cells.all_text_contents() == [f"{equity:,.2f}" for (equity,) in equities]


def test_minutes_are_given_as_the_watcher_wrote_them(owner: Owner) -> None:
    [(at, document)] = until(lambda: rows(owner.platform.database, "select * from watch_minutes limit 1"), timeout_s=90)
    signed = {"Authorization": f"Bearer {SIGNER.token('*', owner=True)}"}
    said = owner.rest.get("/owner/minutes", params={"since": at.isoformat()}, headers=signed).json()["minutes"]
    assert datetime.fromisoformat(said[0].pop("at")) == at
    assert said[0] == document


def test_only_an_owner_reads_what_is_under_the_page(owner: Owner) -> None:
    for path in ("state", "minutes?since=2025-10-10T00:00:00Z", f"equity?account={ACCOUNT}&day=2025-10-10"):
        by_token = {
            token: owner.rest.get(f"/owner/{path}", headers={"Authorization": f"Bearer {token}"} if token else {})
            for token in ("", SIGNER.token("*"), SIGNER.token("*", owner=True))
        }
        assert [answer.status_code for answer in by_token.values()] == [401, 403, 200], path
    files = owner.rest.get("/owner/")
    assert "default-src 'none'" in files.headers["Content-Security-Policy"]
    assert owner.rest.get("/owner/../routes.py").status_code == 404
    assert Path(FILES, "index.html").read_text() == files.text


def differences(platform: Watched) -> set[tuple[str, str]]:
    return {(one["figure"], one["side"]) for one in platform.document()["differences"]}


@pytest.mark.parametrize(
    ("meddle", "mend", "found"),
    [
        (
            "update trades set price = price + 1 where event_id = (select max(event_id::text)::uuid from trades)",
            "update trades set price = price - 1 where event_id = (select max(event_id::text)::uuid from trades)",
            {("notional", "store")},
        ),
        (
            "update performance set equity = equity - 5000 where minute_at = (select max(minute_at) from performance)",
            "update performance set equity = equity + 5000 where minute_at = (select max(minute_at) from performance)",
            {("equity", "store"), ("drawdown", "store")},
        ),
        (
            "update windows set fills = fills + 1 where kind = 'DAY' and strategy = '*' and symbol = '*'",
            "update windows set fills = fills - 1 where kind = 'DAY' and strategy = '*' and symbol = '*'",
            {("fills", "aggregates")},
        ),
        (
            "update positions set mark = mark * 2, quantity = 7",
            "delete from positions",  # the day ended with nothing held
            {("exposure", "store")},
        ),
    ],
    ids=["trades", "performance", "windows", "positions"],
)
def test_a_changed_row_is_a_difference_of_the_figures_made_of_it(
    owner: Owner, meddle: str, mend: str, found: set[Any]
) -> None:
    owner.platform.execute(meddle)
    until(lambda: found <= differences(owner.platform))
    assert differences(owner.platform) == found
    owner.platform.execute(mend)
    until(owner.platform.agreed)
