"""The watcher's probe on a gateway that plays a script: what it has not heard as a whole it does not speak of."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.stream.protocol import CLOSE_EXPIRED
from gateway.watch import probe as probing
from gateway.watch.book import beginning
from gateway.watch.probe import CHANNELS, Heard, Probe
from tests.pipeline import until
from tests.scripted import Answer, Guest, scripted

pytestmark = pytest.mark.anyio

BEGIN = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


@asynccontextmanager
async def probed(
    url: str, token_file: Path | None = None, *, since: datetime = BEGIN, after_s: float = 0.0
) -> AsyncIterator[Probe]:
    """``after_s``: how long it is there before it is started."""
    probe = Probe(url, prefix="sentio", token_file=token_file, since=since)
    await asyncio.sleep(after_s)
    probe.start()
    try:
        yield probe
    finally:
        await asyncio.to_thread(probe.stop)


async def heard(probe: Probe, fills: int) -> Heard:
    def now() -> Heard | None:
        found = probe.heard()
        account = found.figures.get("paper")
        return found if account and account.fills == fills else None

    found: Heard = await asyncio.to_thread(until, now)
    return found


async def test_it_hears_everything_from_where_it_was_told_and_counts_once(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("of an owner\n")

    async def act(guest: Guest) -> None:
        request = await guest.subscribed()
        assert (request["channels"], request["conflate"]) == (list(CHANNELS), False)
        assert datetime.fromisoformat(request["from"]) == BEGIN
        for number, prev in ((1, None), (2, 1), (3, 2)):
            await guest.update(number, prev)
        await guest.close(1012)

    async def again(guest: Guest) -> None:
        assert (await guest.subscribed())["cursor"] == {"trades": "c3"}
        await guest.update(4, 3)
        await guest.stay()

    async with scripted(act, again) as server, probed(server.url, tmp_path / "token") as probe:
        found = await heard(probe, 4)
        assert found.offsets == {("sentio.trades.executed", 0): 5}
        assert (found.state, found.since, found.p50_ms) == ("open", BEGIN, None)
    assert server.tokens == ["of an owner"] * 2


async def test_what_a_gateway_does_not_read_again_is_asked_for_from_a_later_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probing, "GAP_S", 0.01)
    asked = []

    async def refuse(guest: Guest) -> None:
        asked.append(datetime.fromisoformat((await guest.subscribed())["from"]))
        await guest.update(1)
        await guest.say(type="resume_failed", channel="trades", reason="too_much", message="more than it reads")
        await guest.stay()

    async def accept(guest: Guest) -> None:
        asked.append(datetime.fromisoformat((await guest.subscribed())["from"]))
        await guest.update(7)
        await guest.stay()

    async with scripted(refuse, refuse, accept) as server, probed(server.url) as probe:
        await asyncio.to_thread(until, lambda: probe.heard().offsets == {("sentio.trades.executed", 0): 8})
        found = await heard(probe, 1)
        assert asked == sorted(set(asked))
        assert found.since.replace(microsecond=0) == asked[2].replace(microsecond=0)


async def test_an_end_that_coming_back_would_not_mend_is_said_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "AGAIN_S", 0.01)

    async def act(guest: Guest) -> None:
        await guest.subscribed()
        await guest.update(1)
        await guest.stay()

    async with scripted(Answer(401, {}, "none of the keys signed it"), act) as server, probed(server.url) as probe:
        await heard(probe, 1)
        assert probe.heard().state == "open"


async def test_a_token_that_ended_is_followed_by_the_one_that_is_in_its_file_by_then(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("of yesterday\n")

    async def end(guest: Guest) -> None:
        await guest.subscribed()
        token.write_text("of today\n")
        await guest.close(CLOSE_EXPIRED)

    async def act(guest: Guest) -> None:
        await guest.subscribed()
        await guest.update(1)
        await guest.stay()

    async with scripted(end, act) as server, probed(server.url, token) as probe:
        await heard(probe, 1)
    assert server.tokens == ["of yesterday", "of today"]


async def test_a_probe_of_weeks_ago_that_begins_anew_asks_for_no_more_than_a_new_one_would() -> None:
    async def act(guest: Guest) -> None:
        assert datetime.fromisoformat((await guest.subscribed())["from"]) == beginning()
        await guest.update(1)
        await guest.stay()

    async with scripted(act) as server, probed(server.url, since=BEGIN - timedelta(days=20)) as probe:
        assert (await heard(probe, 1)).since == beginning()
