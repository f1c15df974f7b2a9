"""Tokens: whose are taken, what they grant, and that nothing else is."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import jwt
import pytest

from gateway import access
from gateway.access import Access, Grant, Unwelcome
from sentio.config import AccessSettings, load
from sentio.errors import SettingError
from tests.tokens import Signer, edwards, keys_file, rsa_key, secret

SIGNERS = [secret(), rsa_key("r"), edwards("e")]


def accessed(folder: Path, *signers: Signer, **settings: Any) -> Access:
    return Access(load(AccessSettings, auth_keys=keys_file(folder, *(signers or SIGNERS)), **settings))


@pytest.mark.parametrize("signer", SIGNERS, ids=lambda signer: signer.algorithm)
def test_a_token_of_each_kind_of_key_is_taken(tmp_path: Path, signer: Signer) -> None:
    grant = accessed(tmp_path).grant(signer.token("trades", user="bob", lasts_s=60))
    assert (grant.user, grant.owner, grant.reads("trades.SPY"), grant.reads("signals")) == ("bob", False, True, False)
    assert grant.until_s is not None


@pytest.mark.parametrize(
    ("patterns", "channel", "reads"),
    [
        (["trades"], "trades", True),
        (["trades"], "trades.SPY", True),
        (["trades"], "tradesmen", False),
        (["trades.SPY"], "trades.SPY", True),
        (["trades.SPY"], "trades", False),
        (["trades.SPY"], "trades.SPYG", False),
        (["positions.paper-*"], "positions.paper-1", True),
        (["positions.paper-*"], "positions.live-1", False),
        (["*"], "signals", True),
        (["*"], "engine", False),
        (["engine"], "engine.e1", False),
        ([], "trades", False),
        ([""], "trades", False),
    ],
)
def test_patterns_grant_channels(tmp_path: Path, patterns: list[str], channel: str, reads: bool) -> None:  # noqa: FBT001 - a case of the table
    found = accessed(tmp_path)
    assert found.grant(SIGNERS[0].token(*patterns)).reads(channel) is reads
    assert found.grant(SIGNERS[0].token(*patterns, owner=True)).reads("engine.e1") is (
        "engine" in patterns or "*" in patterns
    )


def test_without_keys_all_may_read_all() -> None:
    found = Access(load(AccessSettings))
    assert found.grant(None).reads("engine")
    with pytest.raises(Unwelcome, match="SENTIO_AUTH_KEYS"):
        found.grant(SIGNERS[0].token("*"))


def test_who_shows_no_token_reads_what_is_public_and_so_does_who_shows_one(tmp_path: Path) -> None:
    found = accessed(tmp_path, auth_anonymous="signals, trades.SPY,engine")
    for grant in (found.grant(None), found.grant(SIGNERS[0].token())):
        assert [grant.reads(name) for name in ("signals", "trades.SPY", "trades", "engine")] == [
            True,
            True,
            False,
            False,
        ]
    assert not accessed(tmp_path).grant(None).reads("signals")


def forged(algorithm: str, key: Any, **header: Any) -> str:
    return jwt.encode({"sub": "eve", "exp": 2_000_000_000, "channels": ["*"]}, key, algorithm, header)


def unsigned() -> str:
    parts = ({"alg": "none"}, {"sub": "eve", "exp": 2_000_000_000, "channels": ["*"]})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


def public_as_secret() -> str:
    """The oldest trick: the public key, which all know, as the secret of HS256."""
    key = base64.urlsafe_b64decode(SIGNERS[2].public["x"] + "==")
    return forged("HS256", key, kid="e")


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (lambda: SIGNERS[0].token("*", lasts_s=-60), "expired"),
        (lambda: SIGNERS[0].token("*", nbf=2_000_000_000), "not yet valid"),
        (lambda: SIGNERS[0].token("*", exp=None), "exp"),
        (lambda: SIGNERS[0].token("*", exp="soon"), "exp|Expiration"),
        (lambda: SIGNERS[0].token("*", exp=10**12), "2199"),
        (lambda: SIGNERS[0].token("*", sub=None), "sub"),
        (lambda: SIGNERS[0].token("*", sub=""), "sub"),
        (lambda: SIGNERS[0].token("*", sub=7), "[Ss]ub"),
        (lambda: SIGNERS[0].token("*", channels="*"), "list"),
        (lambda: SIGNERS[0].token("*", channels=[1]), "list"),
        (lambda: SIGNERS[0].token("*", padding="x" * 9_000), "8192"),
        (lambda: SIGNERS[1].token("*")[:-4], "none of the keys|JWT"),
        (lambda: rsa_key("r").token("*"), "none of the keys"),
        (lambda: rsa_key("unknown").token("*"), "none of the keys"),
        (lambda: secret(key=b"another secret of thirty-two bytes").token("*"), "none of the keys"),
        (public_as_secret, "none of the keys"),
        (unsigned, "none of the keys"),
        (lambda: "nonsense", "no JWT"),
        (lambda: "", "no JWT"),
        (lambda: "é.é.é", "no JWT"),
    ],
)
def test_no_other_token_is_taken(tmp_path: Path, token: Any, why: str) -> None:
    with pytest.raises(Unwelcome, match=why):
        accessed(tmp_path).grant(token())


def test_an_owner_is_one_only_where_it_says_true(tmp_path: Path) -> None:
    for word in ("true", 1, ["x"]):
        assert not accessed(tmp_path).grant(SIGNERS[0].token("*", owner=word)).owner


def test_issuer_and_audience_are_asked_for_where_set(tmp_path: Path) -> None:
    found = accessed(tmp_path, auth_issuer="app", auth_audience="stream")
    assert found.grant(SIGNERS[0].token("*", iss="app", aud=["stream", "rest"])).user == "ann"
    refused: list[dict[str, Any]] = [
        {"iss": "app"},
        {"aud": "stream"},
        {"iss": "other", "aud": "stream"},
        {"iss": "app", "aud": "x"},
    ]
    for claims in refused:
        with pytest.raises(Unwelcome):
            found.grant(SIGNERS[0].token("*", **claims))
    assert accessed(tmp_path).grant(SIGNERS[0].token("*", aud="anything")).user == "ann"


def test_keys_change_without_a_restart_and_a_broken_file_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "LOOK_S", 0.0)
    old, new = edwards("old"), edwards("new")
    found = accessed(tmp_path, old)
    path = tmp_path / "keys.json"
    path.write_text("{")
    os.utime(path, ns=(1, 1))
    assert found.grant(old.token("*")).user == "ann"
    keys_file(tmp_path, new)
    os.utime(path, ns=(2, 2))
    assert found.grant(new.token("*")).user == "ann"
    with pytest.raises(Unwelcome):
        found.grant(old.token("*"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "No such file"),
        ("{", "JWKS"),
        ('{"keys": []}', "JWKS"),
        (json.dumps({"keys": [secret(key=b"short").public]}), "32 bytes"),
        (json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}), "JWKS|ES256"),
    ],
)
def test_keys_that_cannot_be_used_are_said_at_the_start(tmp_path: Path, text: str | None, why: str) -> None:
    path = tmp_path / "keys.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingError, match=f"(?s)SENTIO_AUTH_KEYS.*({why})"):
        Access(load(AccessSettings, auth_keys=path))


def test_a_grant_says_nothing_of_its_token() -> None:
    assert "token" not in {name.lower() for name in Grant.__slots__}
