"""Whose address counts when clients come through proxies: only a trusted proxy is believed what it says of others."""

import ipaddress
import struct
from collections.abc import Iterable

from proxyprotocol import ProxyProtocolIncompleteError
from proxyprotocol.detect import ProxyProtocolDetect

from sentio.config import AccessSettings
from sentio.errors import SettingError

LONGEST_PREFACE_BYTES = 4_096

_protocol = ProxyProtocolDetect()


class BadPreface(Exception):
    """A trusted proxy did not begin with a PROXY protocol header."""


class Proxies:
    """Those of the settings; raises `SettingError` for a network that is none."""

    def __init__(self, settings: AccessSettings) -> None:
        self._says = settings.proxy_says
        self._networks = []
        for text in filter(None, (part.strip() for part in settings.proxies.split(","))):
            try:
                self._networks.append(ipaddress.ip_network(text))
            except ValueError as failure:
                raise SettingError(f"SENTIO_PROXIES={settings.proxies}: {failure}") from failure

    def trusts(self, address: str) -> bool:
        """Whether this is the address of one of them."""
        if not self._networks:
            return False
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
            found = found.ipv4_mapped
        return any(found in network for network in self._networks)

    def preface(self, peer: str) -> "Preface | None":
        """What has to be read before anything else of a connection from this address."""
        return Preface() if self._says == "protocol" and self.trusts(peer) else None

    def client(self, peer: str, headers: Iterable[tuple[str, str]]) -> str:
        """Address of who asks: the last one of the header that is not a proxy of ours."""
        if self._says == "protocol" or not self.trusts(peer):
            return peer
        named = [value for name, value in headers if name.lower() == self._says]
        hops = [hop for value in named for hop in value.split(",")]
        address = peer
        for hop in reversed(hops):
            found = _for(hop) if self._says == "forwarded" else _address(hop)
            if found is None:  # "unknown", a name, or nonsense: what stands before it cannot be believed
                break
            address = found
            if not self.trusts(found):
                break
        return address


class Preface:
    """The header of the PROXY protocol (version 1 or 2) at the start of a connection, as its bytes come."""

    def __init__(self) -> None:
        self._bytes = b""
        self.address: str | None = None
        """Of the client; None as long as the header is not whole, or when the proxy speaks for itself."""

    def take(self, data: bytes) -> bytes | None:
        """What follows the header, once it is whole; raises `BadPreface`."""
        self._bytes += data
        used = 0
        while True:
            try:
                result = _protocol.unpack(self._bytes[:used])
            except ProxyProtocolIncompleteError as more:
                wanted = more.want_read.want_bytes
                end = used + wanted if wanted is not None else self._bytes.find(b"\n", used) + 1
                if end <= used or end > len(self._bytes):
                    if max(end, len(self._bytes)) > LONGEST_PREFACE_BYTES:
                        raise BadPreface("its PROXY header is too long") from None
                    return None
                used = end
            except (ValueError, struct.error) as failure:  # the second for an address that is too short
                raise BadPreface(f"no PROXY header: {failure}") from failure
            else:
                break
        if result.proxied and isinstance(result.peername, tuple):
            self.address = str(result.peername[0])
        return self._bytes[used:]


def _for(hop: str) -> str | None:
    """Address of one element of `Forwarded` (RFC 7239)."""
    for pair in hop.split(";"):
        name, _, value = pair.strip().partition("=")
        if name.lower() == "for":
            return _address(value.strip('"'))
    return None


def _address(text: str) -> str | None:
    """An address, perhaps with a port, in brackets where it is IPv6."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
