"""Both twins that write to many sockets: one contract, on real sockets."""

import os
import socket
from array import array
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.stream.descriptors import GONE, THROUGH_TRANSPORT, Descriptors, PythonDescriptors

sentio_native = pytest.importorskip("sentio_native", reason="native/ is not built: there is no cargo here")


@pytest.fixture(params=[PythonDescriptors, sentio_native.Descriptors], ids=["python", "native"])
def descriptors(request: pytest.FixtureRequest) -> Descriptors:
    made: Descriptors = request.param()
    return made


class Pairs:
    """Connected sockets: ours to write to, and the client's."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def make(self, *, buffer: int | None = None) -> tuple[socket.socket, socket.socket]:
        ours, theirs = socket.socketpair()
        self._stack.callback(ours.close)
        self._stack.callback(theirs.close)
        ours.setblocking(False)
        if buffer:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        return ours, theirs


@pytest.fixture
def pairs() -> Iterator[Pairs]:
    with ExitStack() as stack:
        yield Pairs(stack)


def waiting(theirs: socket.socket) -> bytes:
    """All that a client has been sent and has not read."""
    theirs.setblocking(False)
    found = b""
    try:
        while part := theirs.recv(1 << 20):
            found += part
    except BlockingIOError:
        pass
    return found


def test_every_socket_gets_the_payload(descriptors: Descriptors, pairs: Pairs) -> None:
    sockets = [pairs.make() for _ in range(20)]
    handles = array("Q", [descriptors.open(ours.fileno()) for ours, _ in sockets])
    assert descriptors.send(handles, b"first") == []
    assert descriptors.send(handles, b"second") == []
    assert [waiting(theirs) for _, theirs in sockets] == [b"firstsecond"] * 20


def test_nothing_is_written_behind_a_part_until_its_rest_is_gone(descriptors: Descriptors, pairs: Pairs) -> None:
    ours, theirs = pairs.make(buffer=4096)
    quick, quick_reader = pairs.make()
    handle = descriptors.open(ours.fileno())
    handles = array("Q", [handle, descriptors.open(quick.fileno())])
    payload = os.urandom(100_000)
    [(index, written)] = descriptors.send(handles, payload)
    assert index == 0
    assert 0 <= written < len(payload)
    assert waiting(theirs) == payload[:written]  # there is room again, and yet:
    assert descriptors.send(handles, b"later") == [(0, 0)]
    assert waiting(theirs) == b""
    descriptors.release(handle)
    assert descriptors.send(handles, b"last") == []
    assert waiting(theirs) == b"last"
    assert waiting(quick_reader) == payload + b"laterlast"


def test_a_part_of_a_stream_is_written_once_and_in_full(descriptors: Descriptors, pairs: Pairs) -> None:
    """As a gateway does it: what was not taken goes through another writer, then the loop goes on."""
    ours, theirs = pairs.make(buffer=4096)
    short = 0
    handle = descriptors.open(ours.fileno())
    sent = heard = b""
    for number in range(50):
        payload = bytes([number]) * 3_000
        sent += payload
        for _, written in descriptors.send(array("Q", [handle]), payload):
            rest = payload[written:]
            short += 1
            while rest:
                heard += waiting(theirs)
                rest = rest[ours.send(rest) :]
            descriptors.release(handle)
    assert short
    assert heard + waiting(theirs) == sent


def test_a_held_socket_is_skipped(descriptors: Descriptors, pairs: Pairs) -> None:
    ours, theirs = pairs.make()
    handle = descriptors.open(ours.fileno())
    descriptors.hold(handle)
    assert descriptors.send(array("Q", [handle]), b"x") == [(0, 0)]
    descriptors.release(handle)
    assert descriptors.send(array("Q", [handle]), b"y") == []
    assert waiting(theirs) == b"y"


def test_a_number_that_is_used_again_gets_nothing_of_the_one_before(descriptors: Descriptors, pairs: Pairs) -> None:
    first, _ = pairs.make()
    second, theirs = pairs.make()
    number = first.fileno()
    old = descriptors.open(number)
    descriptors.close(old)
    os.dup2(second.fileno(), number, inheritable=False)  # as the system does: closed, and the number given away
    assert descriptors.send(array("Q", [old]), b"of the one before") == [(0, GONE)]
    new = descriptors.open(number)
    assert new != old
    assert descriptors.send(array("Q", [old, new]), b"of the new one") == [(0, GONE)]
    descriptors.close(old)
    descriptors.hold(old)
    assert descriptors.send(array("Q", [new]), b"!") == []
    assert waiting(theirs) == b"of the new one!"


def test_opening_a_number_again_ends_the_one_that_was_never_closed(descriptors: Descriptors, pairs: Pairs) -> None:
    ours, theirs = pairs.make()
    old, new = descriptors.open(ours.fileno()), descriptors.open(ours.fileno())
    assert descriptors.send(array("Q", [old, new]), b"once") == [(0, GONE)]
    assert waiting(theirs) == b"once"


def test_a_client_that_left_is_gone_and_disturbs_nobody(descriptors: Descriptors, pairs: Pairs) -> None:
    left, gone = pairs.make()
    stays, theirs = pairs.make()
    handles = array("Q", [descriptors.open(left.fileno()), descriptors.open(stays.fileno())])
    gone.close()
    assert descriptors.send(handles, b"x") == [(0, GONE)]
    assert waiting(theirs) == b"x"


def test_through_its_transport_nothing_is_written(descriptors: Descriptors) -> None:
    assert descriptors.send(array("Q", [THROUGH_TRANSPORT]), b"x") == [(0, 0)]
    descriptors.hold(THROUGH_TRANSPORT)
    descriptors.close(THROUGH_TRANSPORT)


@pytest.mark.parametrize("number", [-1, 1 << 24, 1 << 40])
def test_what_is_no_descriptor_is_refused(descriptors: Descriptors, number: int) -> None:
    with pytest.raises(ValueError, match="is no descriptor"):
        descriptors.open(number)


@pytest.mark.parametrize("kind", [PythonDescriptors, sentio_native.Descriptors], ids=["python", "native"])
@settings(deadline=None)
@given(handles=st.lists(st.integers(0, (1 << 64) - 1)), payload=st.binary())
def test_no_handle_and_no_payload_does_harm(kind: type[Descriptors], handles: list[int], payload: bytes) -> None:
    assert all(written in {0, GONE} for _, written in kind().send(array("Q", handles), payload))
