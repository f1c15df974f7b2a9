"""What the kernel takes: one send() after the other, from native code. Usage: bare_send.py PORT CONTROL.

Every line that comes on the port CONTROL goes to all clients, whose handshakes it does not look at.
"""

import socket
import sys
import threading
from array import array

from gateway.stream.descriptors import descriptors
from gateway.stream.framing import framed

SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def main(port: int, control: int) -> None:
    written_by, handles, clients = descriptors(), array("Q"), []

    def accept(listening: socket.socket) -> None:
        while True:
            client, _ = listening.accept()
            asked = b""
            while not asked.endswith(b"\r\n\r\n"):
                asked += client.recv(4_096)
            client.sendall(SWITCHED)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            clients.append(client)
            handles.append(written_by.open(client.fileno()))

    listening = socket.create_server(("127.0.0.1", port), backlog=4_096)
    threading.Thread(target=accept, args=(listening,), daemon=True).start()
    with socket.create_server(("127.0.0.1", control)) as driving:
        while True:
            driver, _ = driving.accept()
            with driver, driver.makefile("rb") as lines:
                for line in lines:
                    written_by.send(handles, framed(line[:-1]))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
