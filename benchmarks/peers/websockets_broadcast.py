"""`websockets.broadcast` on asyncio. Usage: websockets_broadcast.py PORT CONTROL COMPRESSED.

Every line that comes on the port CONTROL goes to all clients; COMPRESSED is 0 or 1.
"""

import asyncio
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve

LONGEST = 1 << 20


async def main(port: int, control: int, *, compressed: bool) -> None:
    connections: set[ServerConnection] = set()

    async def client(connection: ServerConnection) -> None:
        connections.add(connection)
        try:
            await connection.wait_closed()
        finally:
            connections.discard(connection)

    async def driver(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            broadcast(connections, line[:-1].decode())

    compression = "deflate" if compressed else None
    async with (
        serve(client, "127.0.0.1", port, compression=compression, backlog=4_096),
        await asyncio.start_server(driver, "127.0.0.1", control, limit=LONGEST) as listening,
    ):
        await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), compressed=sys.argv[3] == "1"))
