"""In which bytes clients are sent what they are: compressed, over TLS; both twins, on real sockets."""

import os
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.frames import Frame
from websockets.streams import StreamReader

from gateway.stream import audience, deflate
from gateway.stream.deflate import Codec
from gateway.stream.tls import tls
from sentio.config import StreamSettings
from sentio.errors import SettingError
from tests.gateways import trade, trades
from tests.stages import Begin, live, sequences

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.mark.parametrize(
    ("wish", "answer"),
    [
        ({"compression": None}, None),
        ({}, "permessage-deflate; client_no_context_takeover"),
        (
            {"server_no_context_takeover": True},
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
        ({"server_max_window_bits": 10}, None),
    ],
)
async def test_compression_is_what_was_agreed(begin: Begin, wish: dict[str, Any], answer: str | None) -> None:
    options: dict[str, Any] = wish
    if wish and "compression" not in wish:
        options = {"compression": None, "extensions": [ClientPerMessageDeflateFactory(**wish)]}
    async with begin(stream_wait_ms=1_000) as on, on.phone(**options) as phone:
        assert phone.socket.response
        assert phone.socket.response.headers.get("Sec-WebSocket-Extensions") == answer
        await on.follow("TradeExecuted")
        await live(phone, "trades")
        for number in range(20):
            await on.publish([trade(number)])
        assert sequences(await phone.updates(20)) == list(range(20))
        await phone.say(op="ping", id="x" * 10_000)
        assert (await phone.next("error"))["code"] == "bad_request"  # it was read


async def test_batch_is_compressed_once_for_all_and_small(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[Codec, int, int]] = []

    def measured(messages: list[bytes], codec: Codec) -> bytes:
        made = deflate.payload(messages, codec)
        sent.append((codec, sum(map(len, messages)), len(made)))
        return made

    monkeypatch.setattr(audience, "payload", measured)
    async with (
        begin(stream_wait_ms=1_000) as on,
        on.phone() as one,
        on.phone() as two,
        on.phone(compression=None) as plain,
    ):
        await on.follow("TradeExecuted")
        for phone in (one, two, plain):
            await live(phone, "trades")
        await on.publish(trades(50))
        for phone in (one, two, plain):
            assert sequences(await phone.updates(50)) == list(range(50))
        assert sorted(codec.name for codec, _, _ in sent) == ["PLAIN", "TOGETHER"]
        assert all(made < size / 4 for codec, size, made in sent if codec is Codec.TOGETHER)


@given(
    st.lists(
        st.lists(st.binary(max_size=200) | st.sampled_from([b"same" * 50, b"{}"]), min_size=1, max_size=5), max_size=5
    ),
    st.sampled_from(Codec),
)
def test_clients_read_whatever_batches_they_get(batches: list[list[bytes]], codec: Codec) -> None:
    """Also one that missed a batch, or was told something of its own in between."""
    client = PerMessageDeflate(codec is Codec.APART, True, 15, 15)
    for index, batch in enumerate(batches):
        if index % 3 == 1:
            continue
        reader = StreamReader()
        reader.feed_data(deflate.payload(batch, codec))
        reader.feed_eof()
        for message in batch:
            parsing = Frame.parse(reader.read_exact, mask=False, extensions=[client])
            with pytest.raises(StopIteration) as done:
                next(parsing)
            assert bytes(done.value.value.data) == message


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that signs itself, with its key."""
    made = tmp_path_factory.mktemp("tls") / "both.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        *subject,
    ]
    subprocess.run([*command, "-keyout", made, "-out", made.with_suffix(".crt")], check=True, capture_output=True)
    made.write_text(made.read_text() + made.with_suffix(".crt").read_text())
    return made


async def test_clients_over_tls_get_what_the_others_get(begin: Begin, certificate: Path) -> None:
    trust = ssl.create_default_context(cafile=certificate)
    async with begin(stream_wait_ms=0, stream_tls_certificate=certificate) as on, on.phone(ssl=trust) as phone:
        assert phone.socket.transport.get_extra_info("ssl_object").version() == "TLSv1.3"
        await on.follow("TradeExecuted")
        await live(phone, "trades")
        for number in range(60):
            await on.publish([trade(number, reason=os.urandom(10_000).hex())])  # more than its sockets hold
        assert sequences(await phone.updates(60)) == list(range(60))
        old = ssl.create_default_context(cafile=certificate)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with on.phone(ssl=old):
                pass


def test_certificate_that_cannot_be_used_names_its_setting(certificate: Path, tmp_path: Path) -> None:
    nothing = StreamSettings(stream_tls_certificate=tmp_path / "none.pem")
    with pytest.raises(SettingError, match=r"SENTIO_STREAM_TLS_CERTIFICATE=.*none\.pem with its key: No such file"):
        tls(nothing)
    without = StreamSettings(stream_tls_certificate=certificate.with_suffix(".crt"))
    with pytest.raises(SettingError, match="SENTIO_STREAM_TLS_CERTIFICATE"):
        tls(without)
    with pytest.raises(SettingError, match="SENTIO_STREAM_TLS_CERTIFICATE is not set"):
        tls(StreamSettings(stream_tls_key=certificate))
