"""docs/asyncapi.yaml says what the gateway takes and gives: every frame, every code, and examples that are true."""

import inspect
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast, get_args

import fastjsonschema
import pytest
import yaml

from gateway.stream import protocol
from gateway.stream.channels import parse, served
from gateway.stream.protocol import ErrorCode
from sentio_client import Gap, Item, Resumed, Snapshot, Update
from sentio_client.channels import Channels
from tests.unit.test_client import body_of, event_of

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT: dict[str, Any] = yaml.safe_load((DOCS / "asyncapi.yaml").read_text())
MESSAGES: Mapping[str, Any] = DOCUMENT["components"]["messages"]
EXAMPLES = [
    pytest.param(name, example["payload"], id=f"{name}: {example['name']}")
    for name, message in MESSAGES.items()
    for example in message["examples"]
]
TRADES = parse("trades")


def said_by(operation: str) -> set[str]:
    return {one["$ref"].rpartition("/")[2] for one in DOCUMENT["operations"][operation]["messages"]}


def at(reference: str) -> Any:
    """What a $ref leads to."""
    file, _, path = reference.partition("#")
    found = json.loads((DOCS / file).read_text()) if file else DOCUMENT
    for key in path.strip("/").split("/"):
        found = found[key]
    return found


def whole(schema: Any) -> Any:
    """Without references, and without room for fields that it does not name."""
    if isinstance(schema, list):
        return [whole(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return whole(at(schema["$ref"]))
    closed = {"additionalProperties": False} if "properties" in schema else {}
    return {**closed, **{key: whole(value) for key, value in schema.items()}}


def checks() -> dict[str, Callable[[Any], Any]]:
    return {name: fastjsonschema.compile(whole(message["payload"])) for name, message in MESSAGES.items()}


CHECKS = checks()


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for one in part:
            yield from references(one)


def composed() -> Iterator[bytes]:
    """Every kind of frame, as the code writes it."""
    yield protocol.greeting(15.0)
    yield protocol.ack(1, [TRADES])
    yield protocol.authorized("a", "ann", time.time())
    yield protocol.authorized(None, None, None)
    yield protocol.pong(None)
    yield from (protocol.error(1, code, "why") for code in get_args(ErrorCode))
    yield protocol.unavailable(1, TRADES, "why")
    yield protocol.forbidden(1, TRADES)
    yield protocol.heartbeat({"trades": "cursor"})
    yield protocol.resume_failed(TRADES, "expired", "why")
    for name, topic in served().items():
        body = body_of(event_of(topic.event), 1)
        for prev in (None, 1):
            yield protocol.update(parse(name), partition=0, offset=2, prev=prev, cursor="cursor", body=body)
        document = json.dumps(json.loads(f"{{{body}}}")["data"])
        yield protocol.snapshot(parse(name), "cursor", [document], truncated=False)


@pytest.mark.parametrize("frame", list(composed()), ids=lambda frame: json.loads(frame)["type"])
def test_frames_have_the_fields_of_the_document_and_no_others(frame: bytes) -> None:
    said = json.loads(frame)
    CHECKS[said["type"]](said)


def test_every_frame_that_the_code_writes_is_in_the_document() -> None:
    source = inspect.getsource(protocol)
    written = set(re.findall(r'type="(\w+)"|"type":"(\w+)"', source))
    assert {one or other for one, other in written} <= said_by("tell")
    assert said_by("tell") | said_by("request") == MESSAGES.keys()


def test_every_error_and_every_close_code_is_in_the_document_and_on_the_page() -> None:
    errors = MESSAGES["error"]["payload"]["properties"]["code"]["enum"]
    closes = DOCUMENT["channels"]["stream"]["x-close-codes"]
    ours = {value for name, value in vars(protocol).items() if name.startswith("CLOSE_")}
    page = (DOCS / "stream-protocol.md").read_text()

    assert set(get_args(ErrorCode)) <= set(errors)
    assert ours <= closes.keys()
    assert all(f"`{code}`" in page for code in get_args(ErrorCode))
    assert all(str(code) in page for code in ours)


def test_every_reason_of_a_failed_resume_is_in_the_document() -> None:
    folder = Path(protocol.__file__).parent
    sources = "".join(path.read_text() for path in folder.glob("*.py"))
    given = set(re.findall(r'(?:CannotResume\(|resume_failed\(self\._channel, )"(\w+)"', sources))
    assert {"malformed", "foreign", "expired"} <= given
    assert given <= set(MESSAGES["resume_failed"]["payload"]["properties"]["reason"]["enum"])


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_examples_are_what_the_document_says(name: str, example: Any) -> None:
    CHECKS[name](example)


@pytest.mark.parametrize(("name", "example"), [one for one in EXAMPLES if one.values[0] in said_by("request")])
def test_examples_of_requests_are_understood_as_they_are_meant(name: str, example: Any) -> None:
    request = protocol.parse_request(json.dumps(example))
    assert (request.op, request.id) == (name, example.get("id"))
    assert [channel.name for channel in request.channels] == example.get("channels", [])
    assert request.cursors == example.get("cursor", {})
    assert (request.wishes.latency, request.wishes.conflate) == (example.get("latency"), example.get("conflate"))
    assert request.token == example.get("token", "")


@pytest.mark.parametrize(("name", "example"), [one for one in EXAMPLES if one.values[0] in said_by("tell")])
def test_examples_of_frames_are_understood_by_the_client(name: str, example: Any) -> None:
    expected = {"update": Update, "snapshot": Snapshot, "resume_failed": Gap, "heartbeat": Resumed}
    channel = example.get("channel", "trades")
    client = Channels([channel], cursors={} if name == "update" else {channel: "cursor"})
    client.connected()
    client.requests(0.0)
    assert not list(client.heard({"type": "ack", "id": 1}, 0.0))
    if example.get("code") in ("forbidden", "unknown_channel"):
        return  # ends the stream
    items = cast("list[Item]", list(client.heard(example, 0.0)))
    assert [type(item) for item in items] == ([expected[name]] if name in expected else [])


def test_references_lead_somewhere_and_every_channel_is_named() -> None:
    for reference in references(DOCUMENT):
        at(reference)
    pattern = at("#/components/schemas/ChannelName")["pattern"]
    assert all(re.match(pattern, name) and re.match(pattern, f"{name}.BRK.B") for name in served())
    assert not re.match(pattern, "tradez")
