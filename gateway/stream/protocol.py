"""The words of the stream: what clients may say, what the gateway answers, error and close codes. No I/O."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from gateway.access import LONGEST_TOKEN
from gateway.stream.channels import Channel, UnknownChannel, parse, served
from gateway.stream.delivery import Wishes
from gateway.wire import dumps, now_text, time_text

VERSION = 1
MAX_REQUEST_BYTES = 64 * 1024
MAX_ID_LENGTH = 128
MAX_ID = 1 << 53
MAX_CHANNELS = 200
MAX_TIME_LENGTH = 40
FIRST_TIME, LAST_TIME = datetime(1970, 1, 2, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC)
BAD_IN_A_ROW = 10
RETRY_S = 5

# 44xx: do not come back as you are. 45xx, and the registered 1012 "service restart": come back with your cursors.
CLOSE_BAD_REQUESTS = 4400
CLOSE_EXPIRED = 4401
CLOSE_DISCONNECTED = 4403
CLOSE_TOO_MANY_REQUESTS = 4429
CLOSE_SLOW = 4508
CLOSE_RESTART = 1012

ErrorCode = Literal[
    "bad_json",
    "bad_request",
    "too_large",
    "unknown_op",
    "unknown_channel",
    "too_many_channels",
    "too_many_requests",
    "too_many_connections",
    "forbidden",
    "unauthorized",
    "unavailable",
]
Id = int | str | None


class Refused(Exception):
    """A request that cannot be followed; becomes an error frame."""

    def __init__(self, code: ErrorCode, message: str, request_id: Id = None, **more: Any) -> None:
        super().__init__(message)
        self.code = code
        self.request_id = request_id
        self.more = more


@dataclass(frozen=True, slots=True)
class Request:
    """One operation of a client."""

    op: Literal["subscribe", "unsubscribe", "ping", "auth"]
    id: Id = None
    channels: tuple[Channel, ...] = ()
    cursors: Mapping[str, str] = field(default_factory=dict)
    """By channel name."""

    since: datetime | None = None
    """When channels without a cursor begin, UTC; None: with a snapshot."""

    wishes: Wishes = field(default_factory=Wishes)
    token: str = ""


def parse_request(text: str | bytes) -> Request:
    """What a client's frame asks; raises `Refused`."""
    if isinstance(text, bytes):
        raise Refused("bad_json", "send text frames, not binary ones")
    # A character is one byte or more, so a long text need not be encoded to be measured.
    if len(text) > MAX_REQUEST_BYTES or len(text.encode()) > MAX_REQUEST_BYTES:
        raise Refused("too_large", f"a request has at most {MAX_REQUEST_BYTES} bytes")
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as failure:
        raise Refused("bad_json", "this is not JSON") from failure
    if not isinstance(said, dict):
        raise Refused("bad_request", 'a request is an object: {"id":1,"op":"subscribe","channels":["trades"]}')
    request_id = _id(said.get("id"))
    match said.get("op"):
        case "ping":
            return Request("ping", request_id)
        case "subscribe":
            channels = _channels(said, request_id)
            cursors = _cursors(said, channels, request_id)
            since = _since(said, request_id)
            return Request("subscribe", request_id, channels, cursors, since, _wishes(said, request_id))
        case "unsubscribe":
            return Request("unsubscribe", request_id, _channels(said, request_id))
        case "auth":
            return Request("auth", request_id, token=_token(said, request_id))
        case op:
            raise Refused("unknown_op", f"op is subscribe, unsubscribe, auth or ping, not {str(op)[:32]!r}", request_id)


def _id(value: object) -> Id:
    if value is None or (isinstance(value, str) and len(value) <= MAX_ID_LENGTH):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_ID:
        return value
    raise Refused("bad_request", f"id is an integer up to 2^53 or a string of up to {MAX_ID_LENGTH} characters")


def _channels(said: Mapping[str, Any], request_id: Id) -> tuple[Channel, ...]:
    names = said.get("channels")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise Refused("bad_request", "channels is a list of one name or more", request_id)
    if len(names) > MAX_CHANNELS:
        raise Refused("too_many_channels", f"at most {MAX_CHANNELS} channels a connection", request_id)
    try:
        return tuple(parse(name) for name in dict.fromkeys(names))
    except UnknownChannel as failure:
        raise Refused("unknown_channel", str(failure), request_id) from failure


def _cursors(said: Mapping[str, Any], channels: Iterable[Channel], request_id: Id) -> dict[str, str]:
    cursors = said.get("cursor")
    if cursors is None:
        return {}
    named = {channel.name for channel in channels}
    if (
        not isinstance(cursors, dict)
        or not cursors.keys() <= named
        or not all(isinstance(cursor, str) for cursor in cursors.values())
    ):
        raise Refused("bad_request", 'cursor is an object of {"channel":"cursor"} for channels named here', request_id)
    return cursors


def _since(said: Mapping[str, Any], request_id: Id) -> datetime | None:
    text = said.get("from")
    if text is None:
        return None
    try:
        since = datetime.fromisoformat(text) if isinstance(text, str) and len(text) <= MAX_TIME_LENGTH else None
    except ValueError:
        since = None
    if since is None or since.tzinfo is None or not FIRST_TIME <= since <= LAST_TIME:
        message = 'from is a time with its zone, such as "2026-11-19T14:30:00Z"'
        raise Refused("bad_request", message, request_id)
    return since.astimezone(UTC)


def _wishes(said: Mapping[str, Any], request_id: Id) -> Wishes:
    latency, conflate = said.get("latency"), said.get("conflate")
    if latency not in (None, "lowest"):
        raise Refused("bad_request", 'latency is "lowest", or left out', request_id)
    if conflate is not None and not isinstance(conflate, bool):
        raise Refused("bad_request", "conflate is false for every message, or left out", request_id)
    return Wishes(latency, conflate)


def _token(said: Mapping[str, Any], request_id: Id) -> str:
    token = said.get("token")
    if not isinstance(token, str) or not 0 < len(token) <= LONGEST_TOKEN:
        raise Refused("bad_request", f"token is a JWT of up to {LONGEST_TOKEN} characters", request_id)
    return token


def greeting(heartbeat_s: float) -> bytes:
    return _frame(
        type="greeting",
        version=VERSION,
        server_at=now_text(),
        heartbeat_s=heartbeat_s,
        channels=list(served()),
        max_request_bytes=MAX_REQUEST_BYTES,
    )


def ack(request_id: Id, channels: Iterable[Channel]) -> bytes:
    return _frame(type="ack", id=request_id, channels=[channel.name for channel in channels])


def authorized(request_id: Id, user: str | None, until_s: float | None) -> bytes:
    """The token is taken; it is good until then (Unix time)."""
    until = None if until_s is None else time_text(datetime.fromtimestamp(until_s, UTC))
    return _frame(type="ack", id=request_id, user=user, expires_at=until)


def forbidden(request_id: Id, channel: Channel) -> bytes:
    """The channel is not subscribed (any more)."""
    return error(request_id, "forbidden", f"{channel.name} is not granted to you", channel=channel.name)


def pong(request_id: Id) -> bytes:
    return _frame(type="pong", id=request_id, at=now_text())


def error(request_id: Id, code: ErrorCode, message: str, **more: Any) -> bytes:
    return _frame(type="error", id=request_id, code=code, message=message, **more)


def unavailable(request_id: Id, channel: Channel, message: str) -> bytes:
    """The channel is not subscribed; the client may ask again."""
    return error(request_id, "unavailable", message, channel=channel.name, retry_s=RETRY_S)


def draining(reconnect_in_s: float) -> bytes:
    """The gateway is being stopped; it closes this connection after so many seconds."""
    return _frame(type="draining", at=now_text(), reconnect_in_s=round(reconnect_in_s, 3))


def heartbeat(cursors: Mapping[str, str]) -> bytes:
    """Says the gateway lives, and where each live channel stands even when nothing happens on it."""
    return _frame(type="heartbeat", at=now_text(), cursors=dict(cursors))


def resume_failed(channel: Channel, reason: str, message: str) -> bytes:
    return _frame(type="resume_failed", channel=channel.name, reason=reason, message=message)


def snapshot(channel: Channel, cursor: str, documents: Iterable[str], *, truncated: bool) -> bytes:
    """``documents`` are JSON objects."""
    what = f'"channel":{channel.text},"cursor":"{cursor}","truncated":{dumps(truncated)}'
    head = f'{{"type":"snapshot",{what},"data":['
    return (head + ",".join(documents) + "]}").encode()


def update(channel: Channel, *, partition: int, offset: int, prev: int | None, cursor: str, body: str) -> bytes:
    """One event; ``body`` is what is the same on every channel (`gateway.stream.ring.Page.body`)."""
    previous = "null" if prev is None else f'"{partition}:{prev}"'
    return (
        f'{{"type":"update","channel":{channel.text},"seq":"{partition}:{offset}","prev":{previous},'
        f'"cursor":"{cursor}",{body}}}'
    ).encode()


def _frame(**fields: Any) -> bytes:
    return dumps(fields).encode()
