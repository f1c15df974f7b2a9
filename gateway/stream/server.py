"""The WebSocket gateway as a process: start, serve, heartbeat, and an orderly end."""

import asyncio
import multiprocessing
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import uvloop

from gateway.database import pool
from gateway.stream import protocol
from gateway.stream.catchup import History
from gateway.stream.descriptors import descriptors
from gateway.stream.fanout import Fanout
from gateway.stream.feed import Feed
from gateway.stream.figures import Figures
from gateway.stream.health import Health
from gateway.stream.session import admitting
from gateway.stream.snapshot import Snapshots
from gateway.stream.sockets import SLICE, Sockets
from gateway.stream.stretches import Stretches
from gateway.stream.subscription import Sources
from sentio import garbage, log, metrics, tracker
from sentio.config import StreamSettings
from sentio.config import listening as can_listen
from sentio.stopping import end_soon

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer

    from gateway.stream.registry import Registry

LOG_READS = 4
CONNECTIONS = 4
READY_S = 10.0


def main(settings: StreamSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    log.configure(settings.log_level, process="stream")
    tracker.configure(settings.errors_dsn, process="stream")
    # Messages in memory and connections refer to nothing in circles; at ten thousand a second they were looked through
    # every three seconds, for 60 ms, in which nobody was sent anything.
    garbage.look_seldom()
    uvloop.run(_until_signalled(settings))


async def _until_signalled(settings: StreamSettings) -> None:
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def drain() -> None:
        if stop.is_set():
            end()
        stop.set()
        loop.call_later(settings.stream_drain_s, end_soon)

    def end() -> None:
        hurry.set()
        stop.set()
        end_soon()

    loop.add_signal_handler(signal.SIGTERM, drain)
    loop.add_signal_handler(signal.SIGINT, end)
    if parent := multiprocessing.parent_process():  # one of several workers: none outlives who started it
        loop.add_reader(parent.sentinel, end)
    await run(settings, stop, hurry)


async def run(
    settings: StreamSettings,
    stop: asyncio.Event,
    hurry: asyncio.Event | None = None,
    *,
    listening: "asyncio.Future[int] | None" = None,
) -> None:
    """Serve until ``stop`` is set, then send clients away one by one, or all at once when ``hurry`` is set.

    ``listening`` is given the port once it is bound.
    """
    # Apart, so that reads of a log that does not answer keep no snapshot waiting.
    log_threads, database_threads = ThreadPoolExecutor(LOG_READS, "log"), ThreadPoolExecutor(CONNECTIONS, "database")
    connections = pool(settings.database, name="sentio-stream", size=CONNECTIONS)
    written_by = descriptors()
    feed = Feed(settings)
    fanout = Fanout(written_by, feed, ring=settings.stream_ring)
    history = History(settings, log_threads)
    stretches = Stretches(settings, history, log_threads)
    snapshots = Snapshots(connections, history, database_threads, topic_prefix=settings.topic_prefix)
    health = Health(feed, fanout, connections, database_threads)

    sockets = Sockets(written_by, settings, answer=health.answer)
    shown = _show(settings, health, Figures(sockets, fanout, feed))
    registry = _registry(settings)
    admit = admitting(settings, Sources(fanout, history, stretches, snapshots, sockets), registry)

    tasks = []
    feed.start()
    try:
        with can_listen("stream_port", settings.stream_port):
            port = await sockets.listen(admit)
        log.get().info(
            "listening", address=f"{'wss' if settings.stream_tls_certificate else 'ws'}://{settings.stream_host}:{port}"
        )
        if listening:
            listening.set_result(port)
        tasks = [
            asyncio.create_task(fanout.run()),
            asyncio.create_task(sockets.watch()),
            asyncio.create_task(_beat(sockets, fanout, settings.stream_heartbeat_s)),
            asyncio.create_task(stop.wait()),
        ]
        if registry:
            tasks.append(asyncio.create_task(registry.run()))
        # The first to end is the stop, or a bug that must not leave a gateway that looks alive.
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        log.get().info("closing", clients=len(sockets.all))
        await sockets.drain(
            settings.stream_drain_s,
            protocol.CLOSE_RESTART,
            "restarting; come back with your cursor",
            hurry or asyncio.Event(),
        )
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        if shown:
            shown.shutdown()
            shown.server_close()
        if registry:
            await registry.close()
        stretches.stop()
        await feed.stop()
        log_threads.shutdown(wait=False, cancel_futures=True)
        database_threads.shutdown(wait=False, cancel_futures=True)
        connections.close(timeout=0)


def _show(settings: StreamSettings, health: Health, figures: Figures) -> "ThreadingHTTPServer | None":
    """Serve /metrics, /livez and /readyz on a port of their own, where one is set."""
    if settings.metrics_port is None:
        return None
    from prometheus_client import CollectorRegistry

    loop = asyncio.get_running_loop()
    registry = CollectorRegistry()

    def ready() -> bool:
        return asyncio.run_coroutine_threadsafe(health.not_ready(), loop).result(READY_S) is None

    registry.register(figures)
    return metrics.serve(settings.metrics_port, live=lambda: health.stuck() is None, ready=ready, registry=registry)


def _registry(settings: StreamSettings) -> "Registry | None":
    if settings.redis is None:
        return None
    from gateway.stream.registry import Registry

    return Registry(settings, settings.redis)


async def _beat(sockets: Sockets, fanout: Fanout, period_s: float) -> None:
    while True:
        await asyncio.sleep(period_s)
        for number, connection in enumerate(list(sockets.all)):
            if number % SLICE == 0:
                await asyncio.sleep(0)
                fanout.send_all()  # a heartbeat's cursor is that of all that was sent
            connection.beat()
