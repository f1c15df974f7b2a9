"""The words of Pusher's protocol (versions 5 to 7): what a client may say, what it is told, error codes. No I/O.

https://pusher.com/docs/channels/library_auth_reference/pusher-websockets-protocol/
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from gateway.stream.protocol import CLOSE_RESTART
from gateway.wire import dumps

PREFIX = "/app/"
PROTOCOLS = range(5, 8)
"""7 is the newest. 6 and 5 know no `activity_timeout`, and ignore it."""

ACTIVITY_S = 120
"""Silence after which a client pings; Pusher's own figure."""

MAX_REQUEST_BYTES = 64 * 1024

# 40xx: do not come back as you are. 41xx: after a second or more. 42xx: at once.
NO_APP = 4001
NO_PATH = 4005
BAD_VERSION = 4006
OTHER_VERSION = 4007
NO_VERSION = 4008
UNAUTHORIZED = 4009
OVER_CAPACITY = 4100
RECONNECT = 4200
NO_CLIENT_EVENTS = 4301


FIRST_TO_RETURN = 4500
"""Of the stream's own codes: those below are for who shall not come back."""


class Refused(Exception):
    """A handshake that is not let in."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Malformed(Exception):
    """A frame that is none of this protocol."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    channel: str
    auth: str | None = None
    channel_data: str | None = None


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    channel: str


@dataclass(frozen=True, slots=True)
class Ping:
    pass


@dataclass(frozen=True, slots=True)
class Pong:
    pass


@dataclass(frozen=True, slots=True)
class ClientEvent:
    """Something for the other clients."""

    name: str


Said = Subscribe | Unsubscribe | Ping | Pong | ClientEvent


def key_of(target: str) -> str | None:
    """The app that a handshake names; None when its path is none of Pusher's. Raises `Refused`."""
    path, _, query = target.partition("?")  # `urlsplit` refuses some paths
    if not path.startswith(PREFIX):
        return None
    key = path.removeprefix(PREFIX)
    if not key or "/" in key:
        raise Refused(NO_PATH, f"{PREFIX}KEY is the path, and nothing behind it")
    versions = parse_qs(query).get("protocol")
    if versions is None:
        raise Refused(NO_VERSION, "no protocol version supplied: add ?protocol=7")
    if len(versions) > 1 or not (versions[0].isascii() and versions[0].isdigit()) or len(versions[0]) > len("1000"):
        raise Refused(BAD_VERSION, "protocol is one number, such as 7")
    if int(versions[0]) not in PROTOCOLS:
        raise Refused(
            OTHER_VERSION, f"protocol {versions[0]} is not spoken here; {PROTOCOLS[0]} to {PROTOCOLS[-1]} are"
        )
    return key


def parse(text: str | bytes) -> Said:
    """What a client's frame says; raises `Malformed`."""
    if isinstance(text, bytes):
        raise Malformed("send text frames, not binary ones")
    # A character is one byte or more, so a long text need not be encoded to be measured.
    if len(text) > MAX_REQUEST_BYTES or len(text.encode()) > MAX_REQUEST_BYTES:
        raise Malformed(f"a message has at most {MAX_REQUEST_BYTES} bytes")
    said = _object(text)
    if said is None:
        raise Malformed('a message is an object: {"event":"pusher:subscribe","data":{"channel":"trades"}}')
    match said.get("event"):
        case "pusher:ping":
            return Ping()
        case "pusher:pong":
            return Pong()
        case "pusher:subscribe":
            data = _data(said)
            extra = data.get("channel_data")  # an object with old clients, and then signed by nobody
            return Subscribe(_channel(data), _auth(data), extra if isinstance(extra, str) else None)
        case "pusher:unsubscribe":
            return Unsubscribe(_channel(_data(said)))
        case str() as name if name.startswith("client-"):
            return ClientEvent(name)
        case name:
            raise Malformed(f"no such event: {str(name)[:64]!r}")


def _object(value: object) -> dict[str, Any] | None:
    """An object, or the text of one: Pusher writes ``data`` as text, its clients as an object."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _data(said: Mapping[str, Any]) -> dict[str, Any]:
    data = _object(said.get("data"))
    if data is None:
        raise Malformed("data is an object with a channel")
    return data


def _channel(data: Mapping[str, Any]) -> str:
    channel = data.get("channel")
    if not isinstance(channel, str) or not channel:
        raise Malformed("channel is a name")
    return channel


def _auth(data: Mapping[str, Any]) -> str | None:
    auth = data.get("auth")
    if auth is not None and not isinstance(auth, str):
        raise Malformed("auth is a text: KEY:SIGNATURE")
    return auth


def connection_established(socket_id: str) -> bytes:
    return _event("pusher:connection_established", {"socket_id": socket_id, "activity_timeout": ACTIVITY_S})


def pong() -> bytes:
    return _event("pusher:pong", {})


def error(code: int | None, message: str) -> bytes:
    """Its data is an object, not the text of one: so Pusher has it, and so its clients read it."""
    return dumps({"event": "pusher:error", "data": {"code": code, "message": message}}).encode()


def subscription_succeeded(channel: str) -> bytes:
    return _event("pusher_internal:subscription_succeeded", {}, channel)


def subscription_error(channel: str, status: int, message: str) -> bytes:
    """The channel is not subscribed. In the form in which pusher-js tells what an app's own server refused."""
    kind = "AuthError" if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN} else "ChannelError"
    return _event("pusher:subscription_error", {"type": kind, "error": message, "status": status}, channel)


def channel_event(name: str, channel: str, data: str) -> bytes:
    """``data`` is JSON, and goes as text."""
    return f'{{"event":"{name}","channel":{dumps(channel)},"data":{dumps(data)}}}'.encode()


def close_code(code: int) -> int:
    """Pusher's code for one of the stream's (`gateway.stream.protocol`), with the same answer to when to come back."""
    if code == CLOSE_RESTART:
        return RECONNECT
    return UNAUTHORIZED if code < FIRST_TO_RETURN else OVER_CAPACITY


def _event(name: str, data: Mapping[str, Any], channel: str | None = None) -> bytes:
    event = {"event": name, "data": dumps(data)}
    return dumps(event if channel is None else {**event, "channel": channel}).encode()
