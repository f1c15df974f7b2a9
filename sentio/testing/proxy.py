"""A TCP proxy in front of a Kafka broker that delays what passes: `python -m sentio.testing.proxy BROKER_PORT
DELAY_MS PORT`.

It is a process of its own, so that it takes nothing from the Python of whom it slows down. A broker tells clients its
own address; on the way that is replaced by the proxy's, of the same length.
"""

import asyncio
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

HOST = "127.0.0.1"
CHUNK_BYTES = 1 << 16


@contextmanager
def slowed(bootstrap: str, *, delay_ms: int, at: str = "") -> Iterator[str]:
    """Bootstrap address of a proxy that brings everything, in both directions, so much later; `bootstrap` is local.

    ``at`` is the address of an earlier one, to take its place.
    """
    ports = [address.rpartition(":")[2] or "0" for address in (bootstrap, at)]
    command = [sys.executable, "-m", "sentio.testing.proxy", ports[0], str(delay_ms), ports[1]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield f"{HOST}:{int(process.stdout.readline())}"
        finally:
            process.kill()


async def serve(port: int, delay_s: float, own_port: int) -> None:
    """Print the proxy's port and serve until stdin ends, at the latest with the parent."""

    async def connected(client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        try:
            broker_in, broker_out = await asyncio.open_connection(HOST, port)
        except OSError:
            client_out.close()
            return
        own = server.sockets[0].getsockname()[1]
        await asyncio.gather(
            _pass(client_in, broker_out, delay_s),
            _pass(broker_in, client_out, delay_s, replace=(_address(port), _address(own))),
        )

    server = await asyncio.start_server(connected, HOST, own_port)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


async def _pass(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, delay_s: float, replace: tuple[bytes, bytes] = (b"", b"")
) -> None:
    clock = asyncio.get_running_loop().time
    on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        data = b"-"
        while data:
            due_s, data = await on_the_way.get()
            await asyncio.sleep(max(0.0, due_s - clock()))
            sink.write(data.replace(*replace) if replace[0] else data)
            await sink.drain()

    async def receive() -> None:
        data = b"-"
        while data:
            data = await source.read(CHUNK_BYTES)
            on_the_way.put_nowait((clock() + delay_s, data))

    try:
        await asyncio.gather(receive(), deliver())
    except ConnectionError:
        pass
    finally:
        sink.close()


def _address(port: int) -> bytes:
    """Host and port as Kafka's protocol has them in its answers."""
    return HOST.encode() + struct.pack(">i", port)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]) / 1_000, int(sys.argv[3])))
