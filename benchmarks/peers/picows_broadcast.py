"""picows on uvloop, in the environment of requirements-picows.txt. Usage: picows_broadcast.py PORT CONTROL.

Every line that comes on the port CONTROL goes to all clients. It pings who is silent, as the others do.
"""

import asyncio
import sys

import uvloop
from picows import WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

LONGEST = 1 << 20


async def main(port: int, control: int) -> None:
    transports: set[WSTransport] = set()

    class Client(WSListener):  # type: ignore[misc] # not installed where types are checked
        def on_ws_connected(self, transport: WSTransport) -> None:
            transports.add(transport)

        def on_ws_disconnected(self, transport: WSTransport) -> None:
            transports.discard(transport)

    def client(_: WSUpgradeRequest) -> Client:
        return Client()

    async def driver(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            message = line[:-1]
            for transport in transports:
                transport.send(WSMsgType.TEXT, message)

    server = await ws_create_server(client, "127.0.0.1", port, enable_auto_ping=True, backlog=4_096)
    async with server, await asyncio.start_server(driver, "127.0.0.1", control, limit=LONGEST) as listening:
        await listening.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
