"""What a sender of webhooks is answered, and what comes of each event of a request."""

import gzip
import json
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from producers.webhooks import app as receiving
from producers.webhooks import tokens
from producers.webhooks.app import PATH, Receiver
from producers.webhooks.prices import Price
from sentio.config import WebhookSettings, load
from sentio.errors import Retryable, SettingError
from tests.webhooks import BONK, SECRET, SOL, bought, signature, toml

MOST_BYTES = 10_000
GIVEN = {"Authorization": SECRET, "Content-Type": "application/json"}


class Intake:
    """Keeps everything at once, but for what it was told."""

    def __init__(self) -> None:
        self.kept: dict[str, Price] = {}
        self.refusal: str | None = None
        self.silent = False

    def keep(self, prices: Sequence[Price]) -> Future[int]:
        if self.refusal:
            raise Retryable(self.refusal)
        done: Future[int] = Future()
        if not self.silent:
            new = {price.signature: price for price in prices if price.signature not in self.kept}
            self.kept |= new
            done.set_result(len(new))
        return done


class Letters:
    def __init__(self) -> None:
        self.sent: list[tuple[bytes, int, str | None, str]] = []

    def send(self, event: bytes, *, index: int, signature: str | None, reason: str) -> None:
        self.sent.append((event, index, signature, reason))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def intake() -> Intake:
    return Intake()


@pytest.fixture
def letters() -> Letters:
    return Letters()


@pytest.fixture
async def client(intake: Intake, letters: Letters, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    path = tmp_path / "tokens.toml"
    path.write_text(toml())
    settings = WebhookSettings(
        webhook_secret=SecretStr(SECRET), webhook_tokens=path, webhook_body_bytes=MOST_BYTES, spool=tmp_path
    )
    receiver = Receiver(settings, intake, letters)  # type: ignore[arg-type] # stand-ins
    transport = httpx.ASGITransport(app=receiver.app())
    async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as made:
        yield made


def body(*events: object) -> bytes:
    return json.dumps(events).encode()


@pytest.mark.anyio
async def test_the_good_events_of_a_request_are_kept_and_the_bad_ones_named(
    client: httpx.AsyncClient, intake: Intake, letters: Letters
) -> None:
    bad = bought(BONK, -1, 1, number=2)
    good = [bought(BONK, 5, 1, number=number) for number in (1, 3)]
    answer = await client.post(
        PATH, content=body(good[0], bad, good[1], bought(BONK, 1, 1, type="NFT_SALE")), headers=GIVEN
    )

    assert answer.status_code == 200
    reason = "tokenTransfers[1]: tokenAmount is -1, not a finite number above 0, up to 10^20"
    assert answer.json() == {
        "accepted": 2,
        "repeated": 0,
        "ignored": {"no_swap": 1},
        "refused": [{"index": 1, "signature": signature(2), "reason": reason}],
        "refused_in_all": 1,
    }
    assert list(intake.kept) == [signature(1), signature(3)]
    assert letters.sent == [(json.dumps(bad).encode(), 1, signature(2), reason)]
    again = await client.post(PATH, content=body(*good), headers=GIVEN)
    assert (again.json()["accepted"], again.json()["repeated"]) == (0, 2)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "bad", [{"signature": "\ud800"}, {"tokenTransfers": [], "events": {"swap": {"tokenInputs": 5}}}]
)
async def test_an_event_of_odd_json_costs_only_itself(
    client: httpx.AsyncClient, intake: Intake, letters: Letters, bad: dict[str, Any]
) -> None:
    content = body(bought(BONK, 5, 1, number=1), bought(BONK, 5, 1, number=2, **bad), bought(BONK, 5, 1, number=3))
    answer = await client.post(PATH, content=content, headers=GIVEN)
    assert answer.status_code == 200
    assert (answer.json()["accepted"], [each["index"] for each in answer.json()["refused"]]) == (2, [1])
    assert (len(intake.kept), len(letters.sent)) == (2, 1)


@pytest.mark.anyio
async def test_a_quote_is_priced_before_it_is_used_whatever_the_order_in_the_array(
    client: httpx.AsyncClient, intake: Intake
) -> None:
    in_sol = bought(BONK, 1_000, 1, SOL, number=2)
    await client.post(PATH, content=body(in_sol, bought(SOL, 1, 150, number=1)), headers=GIVEN)
    assert [str(price.usd) for price in intake.kept.values()] == ["150.0000000000", "0.1500000000"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        ({"Authorization": "another secret of the tests"}, 401, "SENTIO_WEBHOOK_SECRET"),
        ({"Authorization": f"Bearer {SECRET}"}, 401, "SENTIO_WEBHOOK_SECRET"),
        ({"Authorization": ""}, 401, "SENTIO_WEBHOOK_SECRET"),
        ({"Content-Type": "text/plain"}, 415, "the content is text/plain, not application/json"),
        ({"Content-Type": ""}, 415, "the content is of no type"),
        ({"Content-Type": "application/json; charset=utf-8"}, 200, "accepted"),
        ({"Content-Encoding": "br"}, 415, "otherwise than by gzip"),
        ({"Content-Encoding": "gzip"}, 400, "not gzip"),
    ],
)
async def test_headers_decide_before_anything_is_read(
    client: httpx.AsyncClient, headers: dict[str, str], status: int, said: str
) -> None:
    answer = await client.post(PATH, content=body(bought(BONK, 5, 1)), headers=GIVEN | headers)
    assert answer.status_code == status
    assert said in answer.text


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"[", 400),
        (b"\xff\xfe", 400),
        (b'{"signature":"x"}', 400),
        (b"null", 400),
        (b"[" * 9_000, 400),
        (b"[]", 200),
        (b" " * (MOST_BYTES - 2) + b"[]", 200),
        (b" " * (MOST_BYTES - 1) + b"[]", 413),
    ],
)
async def test_bodies_that_are_no_array_or_too_large_are_refused_as_a_whole(
    client: httpx.AsyncClient, content: bytes, status: int
) -> None:
    assert (await client.post(PATH, content=content, headers=GIVEN)).status_code == status
    packed = await client.post(PATH, content=gzip.compress(content), headers=GIVEN | {"Content-Encoding": "gzip"})
    assert packed.status_code == status


@pytest.mark.anyio
async def test_a_small_body_that_unpacks_to_much_is_refused(client: httpx.AsyncClient) -> None:
    bomb = gzip.compress(b" " * 1_000_000 + b"[]")
    assert len(bomb) < MOST_BYTES
    for content, status in ((bomb, 413), (gzip.compress(b"[]")[:-4], 400)):
        answer = await client.post(PATH, content=content, headers=GIVEN | {"Content-Encoding": "gzip"})
        assert answer.status_code == status


@pytest.mark.anyio
async def test_all_members_of_a_gzip_body_are_read_as_one_within_its_limit(
    client: httpx.AsyncClient, intake: Intake
) -> None:
    content = body(bought(BONK, 5, 1, number=1), bought(BONK, 5, 1, number=2))
    members = gzip.compress(content[:700]) + gzip.compress(content[700:])
    too_much = gzip.compress(b" " * MOST_BYTES) + gzip.compress(b"[]")
    for packed, status in ((members, 200), (too_much, 413), (members + b"more", 400), (members[:-4], 400)):
        answer = await client.post(PATH, content=packed, headers=GIVEN | {"Content-Encoding": "gzip"})
        assert answer.status_code == status, answer.text
    assert list(intake.kept) == [signature(1), signature(2)]


@pytest.mark.anyio
async def test_prices_that_are_not_safe_are_answered_with_503_and_when_to_come_back(
    client: httpx.AsyncClient, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "ANSWER_S", 0.05)
    good = body(bought(BONK, 5, 1))
    intake.silent = True
    late = await client.post(PATH, content=good, headers=GIVEN)
    intake.silent, intake.refusal = False, "no room"
    full = await client.post(PATH, content=good, headers=GIVEN)
    nothing_to_keep = await client.post(PATH, content=body("bad"), headers=GIVEN)

    assert [answer.status_code for answer in (late, full, nothing_to_keep)] == [503, 503, 200]
    assert {answer.headers["retry-after"] for answer in (late, full)} == {"1"}
    assert full.text == "no room\n"


@pytest.mark.anyio
async def test_other_methods_and_paths_are_not_there(client: httpx.AsyncClient) -> None:
    assert (await client.get(PATH, headers=GIVEN)).status_code == 405
    assert (await client.post("/", content=b"[]", headers=GIVEN)).status_code == 404


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SENTIO_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("SENTIO_WEBHOOK_TOKENS", str(tmp_path / "tokens.toml"))
    return monkeypatch


def test_missing_settings_are_named_and_a_secret_is_never_shown(environment: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingError, match="SENTIO_SPOOL is not set"):
        receiving.main(load(WebhookSettings))
    environment.setenv("SENTIO_WEBHOOK_SECRET", "tooshort")
    environment.delenv("SENTIO_WEBHOOK_TOKENS")
    with pytest.raises(SettingError) as caught:
        load(WebhookSettings)
    assert "SENTIO_WEBHOOK_SECRET=...: " in str(caught.value)
    assert "SENTIO_WEBHOOK_TOKENS is not set (" in str(caught.value)
    assert "tooshort" not in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("tokens = [", "Invalid value"),
        ('[[tokens]]\nsymbol = "A"\n', r"tokens\.0\.mint: Field required"),
        (toml().replace("decimals = 9", "decimals = 90"), r"tokens\.0\.decimals: Input should be less than"),
        (toml().replace("decimals = 9", "decimal = 9"), r"tokens\.0\.decimals: Field required"),
        (toml().replace('"1"', '"-1"'), r"tokens\.1\.usd: Input should be greater than 0"),
        (toml().replace('"1"', '"1.00000000001"'), r"tokens\.1\.usd: Decimal input should have no more than 10"),
        (toml().replace("USDT", "USDC"), "the symbol USDC is there twice"),
        (toml().replace('usd = "1"\n', ""), "no token has usd"),
    ],
)
def test_a_file_of_tokens_is_refused_with_the_place_in_it(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "tokens.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingError, match=rf"SENTIO_WEBHOOK_TOKENS=.*tokens\.toml: {said}.*docs/webhooks\.md"):
        tokens.read(path)
