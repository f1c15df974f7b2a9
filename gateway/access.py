"""Who may read what: tokens (JWT), the keys they are signed with, and the channels they grant.

A token has `sub` (the user), `exp`, and `channels`: a list of patterns; with `"owner": true` it reads the owner's
channels too. Where no keys are set, all may read all.
"""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import jwt

from sentio import log
from sentio.config import AccessSettings
from sentio.errors import SettingError

ALGORITHMS = ("HS256", "RS256", "EdDSA")
LEEWAY_S = 5.0  # between our clock and that of who signs
LAST_S = 7_258_118_400  # the end of 2199; later clocks have gone wrong
LONGEST_TOKEN = 8_192
LONGEST_NAME = 128
FEWEST_SECRET_BYTES = 32
LOOK_S = 10.0  # between two looks at the file of keys


class Unwelcome(Exception):
    """The token is none of ours, or no longer good; the message says which."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What someone may read."""

    user: str | None
    """None: whoever it is."""

    channels: tuple[str, ...]
    """Patterns: a channel with all its narrower ones ("trades"), one of those ("positions.a"), or with * at the end."""

    owner: bool = False
    owners: tuple[str, ...] = ()
    """Channels, with all their narrower ones, that only an owner reads."""

    until_s: float | None = None
    """Unix time at which it ends."""

    def reads(self, channel: str) -> bool:
        """Whether a channel, by its name ("trades.TQQQ"), is granted."""
        return _covered(channel, self.channels) and (self.owner or channel.partition(".")[0] not in self.owners)


class Access:
    """Gives grants for tokens. Reads the keys again when their file changes."""

    def __init__(self, settings: AccessSettings) -> None:
        self._path = settings.auth_keys
        self._owners = _patterns(settings.auth_owner)
        self._issuer = settings.auth_issuer
        self._audience = settings.auth_audience
        self.anonymous = (
            Grant(None, _patterns(settings.auth_anonymous), owners=self._owners) if self._path else Grant(None, ("*",))
        )
        """What who shows no token may read."""

        self._keys: list[jwt.PyJWK] = []
        self._changed_ns = 0
        self._looked_s = float("-inf")
        self._once = log.OncePer()
        if self._path:
            self._keys = _keys(self._path)
            self._changed_ns = self._path.stat().st_mtime_ns

    @property
    def open(self) -> bool:
        """No keys are set: all may read all."""
        return self._path is None

    def grant(self, token: str | None) -> Grant:
        """What a token grants, or `anonymous` without one; raises `Unwelcome`."""
        if token is None:
            return self.anonymous
        if self._path is None:
            raise Unwelcome("no tokens are asked for here: SENTIO_AUTH_KEYS is not set")
        if len(token) > LONGEST_TOKEN:
            raise Unwelcome(f"a token has at most {LONGEST_TOKEN} characters")
        self._look()
        said = self._said(token)
        user, channels, owner = said.get("sub"), said.get("channels", []), said.get("owner", False)
        if not isinstance(user, str) or not 0 < len(user) <= LONGEST_NAME:
            raise Unwelcome(f"sub is a name of 1 to {LONGEST_NAME} characters")
        if not isinstance(channels, list) or not all(isinstance(one, str) for one in channels):
            raise Unwelcome("channels is a list of patterns")
        until_s = float(str(said["exp"]))
        if until_s > LAST_S:
            raise Unwelcome("exp is beyond 2199")
        return Grant(user, (*channels, *self.anonymous.channels), owner is True, self._owners, until_s)

    def _said(self, token: str) -> dict[str, object]:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError as failure:
            raise Unwelcome("this is no JWT") from failure
        wanted = header.get("kid")
        keys = [
            key
            for key in self._keys
            # The key says how it signs, not the token: else a public key could be passed off as a secret.
            if key.algorithm_name == header.get("alg") and wanted in (None, key.key_id)
        ]
        why = "none of the keys signed it"
        for key in keys:
            try:
                found: dict[str, object] = jwt.decode(
                    token,
                    key,
                    algorithms=[key.algorithm_name],
                    issuer=self._issuer,
                    audience=self._audience,
                    leeway=LEEWAY_S,
                    options={"require": ["exp", "sub"], "verify_aud": self._audience is not None},
                )
            except jwt.InvalidSignatureError:
                continue
            except jwt.InvalidTokenError as failure:
                why = str(failure)
            else:
                return found
        raise Unwelcome(why)

    def _look(self) -> None:
        """Keys are changed without a restart; a file that cannot be used changes nothing."""
        now_s = time.monotonic()
        if self._path is None or now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        try:
            changed_ns = self._path.stat().st_mtime_ns
            if changed_ns != self._changed_ns:
                self._keys = _keys(self._path)
                self._changed_ns = changed_ns
                log.get().info("keys read again", keys=len(self._keys))
        except (OSError, SettingError) as failure:
            if self._once.due(str(failure)):
                log.get().error("the keys cannot be read again; those of before stay", cause=str(failure))


def _keys(path: Path) -> list[jwt.PyJWK]:
    """Of a JWKS file; raises `SettingError`."""
    try:
        keys = jwt.PyJWKSet.from_dict(json.loads(path.read_text())).keys
    except (OSError, ValueError, jwt.PyJWTError) as failure:
        raise SettingError(f"SENTIO_AUTH_KEYS={path}: {failure}; it is a JWKS file") from failure
    for key in keys:
        if key.algorithm_name not in ALGORITHMS:
            raise SettingError(f"SENTIO_AUTH_KEYS={path}: {key.algorithm_name} is none of {', '.join(ALGORITHMS)}")
        if key.key_type == "oct" and len(key.key) < FEWEST_SECRET_BYTES:
            raise SettingError(f"SENTIO_AUTH_KEYS={path}: a secret has {FEWEST_SECRET_BYTES} bytes or more")
    return keys


def _patterns(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _covered(channel: str, patterns: Iterable[str]) -> bool:
    return any(
        channel.startswith(pattern[:-1])
        if pattern.endswith("*")
        else channel == pattern or channel.startswith(f"{pattern}.")
        for pattern in patterns
    )
