"""Only a trusted proxy is believed whom it speaks for."""

from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxyprotocol.result import ProxyResultIPv4, ProxyResultIPv6
from proxyprotocol.v2 import ProxyProtocolV2
from pydantic import SecretStr

from gateway.proxies import BadPreface, Preface, Proxies
from sentio.config import StreamSettings
from sentio.errors import SettingError

CLIENT, OTHER = "203.0.113.9", "198.51.100.7"


def proxies(**settings: Any) -> Proxies:
    known: dict[str, Any] = {"database": SecretStr("postgresql://none"), "proxies": "10.0.0.0/8, fd00::/8"}
    return Proxies(StreamSettings(**(known | settings)))


@pytest.mark.parametrize(
    ("peer", "headers", "client"),
    [
        ("10.0.0.1", [("X-Forwarded-For", CLIENT)], CLIENT),
        ("::ffff:10.0.0.1", [("X-Forwarded-For", CLIENT)], CLIENT),
        ("fd00::1", [("x-forwarded-for", "2001:db8::5")], "2001:db8::5"),
        (OTHER, [("X-Forwarded-For", CLIENT)], OTHER),  # nobody we trust
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [("X-Forwarded-For", f"{OTHER}, {CLIENT}")], CLIENT),  # the first is what the client wrote itself
        ("10.0.0.1", [("X-Forwarded-For", OTHER), ("X-Forwarded-For", f"{CLIENT},10.2.3.4")], CLIENT),
        ("10.0.0.1", [("X-Forwarded-For", f"{CLIENT}, unknown")], "10.0.0.1"),
        ("10.0.0.1", [("X-Forwarded-For", f"{CLIENT}, unknown, 10.2.3.4")], "10.2.3.4"),
        ("10.0.0.1", [("X-Forwarded-For", f"{CLIENT}:4711")], CLIENT),
        ("10.0.0.1", [("X-Forwarded-For", "[2001:db8::5]:4711")], "2001:db8::5"),
        ("10.0.0.1", [("Forwarded", f"for={CLIENT}")], "10.0.0.1"),  # not what our proxies say
        ("", [("X-Forwarded-For", CLIENT)], ""),
    ],
)
def test_address_is_the_last_that_is_no_proxy(peer: str, headers: list[tuple[str, str]], client: str) -> None:
    assert proxies().client(peer, headers) == client


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (f"for={CLIENT}", CLIENT),
        (f'proto=https; For="{CLIENT}:4711";by=10.0.0.1', CLIENT),
        ('for="[2001:db8::5]:4711"', "2001:db8::5"),
        (f"for={OTHER}, for={CLIENT}, for=10.1.1.1", CLIENT),
        (f"for={CLIENT}, for=_hidden", "10.0.0.1"),
        ("by=10.0.0.1", "10.0.0.1"),
    ],
)
def test_forwarded_as_the_standard_writes_it(value: str, client: str) -> None:
    assert proxies(proxy_says="forwarded").client("10.0.0.1", [("Forwarded", value)]) == client


@given(st.text(max_size=200))
def test_no_header_crashes(value: str) -> None:
    for says in ("x-forwarded-for", "forwarded"):
        assert proxies(proxy_says=says).client("10.0.0.1", [(says, value)])


def test_network_that_is_none_is_a_setting_error() -> None:
    with pytest.raises(SettingError, match=r"SENTIO_PROXIES=10\.0\.0\.0/33"):
        proxies(proxies="10.0.0.0/33")


VERSION_1 = b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 80\r\n"
PREFACES = {
    "1": (VERSION_1, CLIENT),
    "1, IPv6": (b"PROXY TCP6 2001:db8::5 fd00::1 4711 80\r\n", "2001:db8::5"),
    "1, of nobody": (b"PROXY UNKNOWN\r\n", None),
    "2": (ProxyProtocolV2().pack(ProxyResultIPv4((IPv4Address(CLIENT), 1), (IPv4Address("10.0.0.1"), 80))), CLIENT),
    "2, IPv6": (
        ProxyProtocolV2().pack(ProxyResultIPv6((IPv6Address("2001:db8::5"), 1), (IPv6Address("fd00::1"), 80))),
        "2001:db8::5",
    ),
    # Signature, version 2 and LOCAL, no address, no bytes more: the proxy's own health check.
    "2, its own": (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", None),
}


@pytest.mark.parametrize("name", PREFACES)
@given(cuts=st.lists(st.integers(0, 60), max_size=4))
def test_preface_is_read_however_it_is_cut(name: str, cuts: list[int]) -> None:
    written, client = PREFACES[name]
    preface = Preface()
    whole = written + b"GET / HTTP/1.1\r\n"
    places = [0, *sorted(cuts), len(whole)]
    rest = b""
    done = False
    for first, end in pairwise(places):
        if done:
            rest += whole[first:end]
        elif (found := preface.take(whole[first:end])) is not None:
            done, rest = True, found
    assert rest == b"GET / HTTP/1.1\r\n"
    assert preface.address == client


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 nonsense\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 99999\r\n",
        b"PROXY " + b"x" * 5_000,
    ],
)
def test_connection_without_one_is_no_connection(data: bytes) -> None:
    with pytest.raises(BadPreface):
        Preface().take(data)


@given(st.binary(max_size=300))
def test_no_bytes_crash(data: bytes) -> None:
    for begin in (b"", VERSION_1[:10], b"\r\n\r\n\0\r\nQUIT\n\x21\x11"):
        preface = Preface()
        try:
            preface.take(begin + data)
        except BadPreface:
            continue


def test_only_trusted_proxies_have_one() -> None:
    known = proxies(proxy_says="protocol")
    assert known.preface("10.0.0.1")
    assert known.preface(OTHER) is None
    assert proxies().preface("10.0.0.1") is None
    assert known.client("10.0.0.1", [("X-Forwarded-For", CLIENT)]) == "10.0.0.1"
