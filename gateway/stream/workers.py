"""Several processes of the stream on one port: the kernel gives each new connection to one of them (SO_REUSEPORT).

They share nothing: each reads the logs by itself, without a consumer group, and a cursor of one is good on all.
Where a Redis is set their limits are common, as they are with other instances (`gateway.stream.registry`).
"""

import multiprocessing
import socket
import threading
import time
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess

from gateway.stream import server
from sentio import log
from sentio.config import StreamSettings
from sentio.config import listening as can_listen
from sentio.stopping import GRACE_S, on_asked

RESTART_S = 1.0


def main(settings: StreamSettings) -> None:
    """Serve until SIGTERM or SIGINT. A worker that ends by itself is started again."""
    if settings.stream_workers == 1:
        server.main(settings)
        return
    log.configure(settings.log_level, process="stream")
    with _reserved(settings) as port:
        _supervise(settings.model_copy(update={"stream_port": port.getsockname()[1]}))


def _reserved(settings: StreamSettings) -> socket.socket:
    """Bound and not listening: nobody else has the port, and no connection ends here."""
    with can_listen("stream_port", settings.stream_port):
        [(family, _, _, _, address), *_] = socket.getaddrinfo(
            settings.stream_host, settings.stream_port, type=socket.SOCK_STREAM
        )
        bound = socket.socket(family)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
        return bound


def _supervise(settings: StreamSettings) -> None:
    stop = threading.Event()
    woken, wake = multiprocessing.Pipe(duplex=False)

    def asked() -> None:
        stop.set()
        wake.send_bytes(b"!")

    on_asked(asked)
    workers = [_started(settings, place) for place in range(settings.stream_workers)]
    while not stop.is_set():
        wait([woken, *(worker.sentinel for worker in workers)])
        for place, worker in enumerate(workers):
            if not stop.is_set() and not worker.is_alive():
                log.get().error("a worker ended; another takes its place", exit_code=worker.exitcode)
                stop.wait(RESTART_S)
                workers[place] = _started(settings, place)
    for worker in workers:
        worker.terminate()
    ends_s = time.monotonic() + settings.stream_drain_s + GRACE_S + 1
    for worker in workers:
        worker.join(max(0.0, ends_s - time.monotonic()))
        if worker.is_alive():
            worker.kill()


def _started(settings: StreamSettings, place: int) -> SpawnProcess:
    """Each has a port of its own for its metrics: the ports behind the one that is set."""
    if settings.metrics_port:
        settings = settings.model_copy(update={"metrics_port": settings.metrics_port + place})
    worker = multiprocessing.get_context("spawn").Process(target=server.main, args=(settings,), name="stream")
    worker.start()
    return worker
