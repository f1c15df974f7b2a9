"""The WebSocket gateway as a process: start, serve, heartbeat, health, and an orderly end."""

import asyncio
import logging
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from gateway.database import Pool, pool, reading
from gateway.stream import protocol
from gateway.stream.catchup import History
from gateway.stream.fanout import Fanout
from gateway.stream.feed import Feed
from gateway.stream.session import Session
from gateway.stream.snapshot import Snapshots
from sentio import log
from sentio.config import StreamSettings
from sentio.config import listening as can_listen
from sentio.errors import Retryable
from sentio.stopping import end_soon

LARGEST_FRAME_BYTES = 1 << 20  # beyond it the connection is closed (1009) rather than answered
HANDSHAKE_S = 4.0
CLOSE_S = 3.0
END_S = 4.5
LOG_READS = 4
CONNECTIONS = 4
STUCK_S = 60.0
DATABASE_GOOD_FOR_S = 1.0


def main(settings: StreamSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    log.configure(settings.log_level, process="stream")
    asyncio.run(_until_signalled(settings))


async def _until_signalled(settings: StreamSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked() -> None:
        stop.set()
        end_soon()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)
    await run(settings, stop)


async def run(settings: StreamSettings, stop: asyncio.Event, *, listening: "asyncio.Future[int] | None" = None) -> None:
    """Serve until ``stop`` is set; ``listening`` is given the port once it is bound."""
    logging.getLogger("websockets").setLevel(logging.CRITICAL)  # scanners and lost phones are no news
    # Apart, so that reads of a log that does not answer keep no snapshot waiting.
    log_threads, database_threads = ThreadPoolExecutor(LOG_READS, "log"), ThreadPoolExecutor(CONNECTIONS, "database")
    connections = pool(settings.database, name="sentio-stream", size=CONNECTIONS)
    feed = Feed(settings)
    fanout = Fanout(ring=settings.stream_ring)
    history = History(settings, log_threads)
    snapshots = Snapshots(connections, history, database_threads, topic_prefix=settings.topic_prefix)
    health = Health(feed, fanout, connections, database_threads)
    sessions: set[Session] = set()

    async def serve_one(socket: ServerConnection) -> None:
        session = Session(socket, settings, fanout=fanout, history=history, snapshots=snapshots)
        sessions.add(session)
        try:
            await session.run()
        finally:
            sessions.discard(session)

    tasks = []
    feed.start()
    try:
        with can_listen("stream_port", settings.stream_port):
            server = await serve(
                serve_one,
                settings.stream_host,
                settings.stream_port,
                process_request=health.answer,
                compression=None,  # it would be done anew for each client, and keep state for each
                max_size=LARGEST_FRAME_BYTES,
                open_timeout=HANDSHAKE_S,
                close_timeout=CLOSE_S,
            )
        port = server.sockets[0].getsockname()[1]
        log.get().info("listening", address=f"ws://{settings.stream_host}:{port}")
        if listening:
            listening.set_result(port)
        tasks = [
            asyncio.create_task(fanout.run(feed)),
            asyncio.create_task(_beat(sessions, settings.stream_heartbeat_s)),
            asyncio.create_task(stop.wait()),
        ]
        # The first to end is the stop, or a bug that must not leave a gateway that looks alive.
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await _close(server)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        history.stop()
        await feed.stop()
        log_threads.shutdown(wait=False, cancel_futures=True)
        database_threads.shutdown(wait=False, cancel_futures=True)
        connections.close(timeout=0)


async def _beat(sessions: set[Session], period_s: float) -> None:
    while True:
        await asyncio.sleep(period_s)
        for session in list(sessions):
            session.beat()


async def _close(server: Server) -> None:
    log.get().info("closing", clients=len(server.connections))
    server.close(code=protocol.CLOSE_RESTART, reason="restarting; come back with your cursor")
    with suppress(TimeoutError):
        await asyncio.wait_for(server.wait_closed(), END_S)


class Health:
    """Answers /livez and /readyz on the port of the stream."""

    def __init__(self, feed: Feed, fanout: Fanout, connections: Pool, threads: ThreadPoolExecutor) -> None:
        self._feed = feed
        self._fanout = fanout
        self._connections = connections
        self._threads = threads
        self._asked_s = float("-inf")
        self._database: str | None = None
        """What is wrong with it, when it was last asked."""

    async def answer(self, socket: ServerConnection, request: Request) -> Response | None:
        """None lets the WebSocket handshake go on."""
        match request.path.partition("?")[0]:
            case "/livez":
                wrong = self._stuck()
            case "/readyz":
                wrong = self._stuck() or self._not_assigned() or await self._database_gone()
            case _:
                return None
        status = HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK
        return socket.respond(status, f"{wrong or 'ok'}\n")

    def _stuck(self) -> str | None:
        silent_s = time.monotonic() - self._feed.turned_s
        return f"the feed has not turned for {silent_s:.0f} s" if silent_s > STUCK_S else None

    def _not_assigned(self) -> str | None:
        return None if self._fanout.caught_up.is_set() else "the topics are not followed yet"

    async def _database_gone(self) -> str | None:
        if time.monotonic() - self._asked_s > DATABASE_GOOD_FOR_S:
            self._asked_s = time.monotonic()
            loop = asyncio.get_running_loop()
            self._database = await loop.run_in_executor(self._threads, self._ask_database)
        return self._database

    def _ask_database(self) -> str | None:
        try:
            with reading(self._connections) as connection:
                connection.execute("select 1")
        except Retryable as failure:
            return str(failure)
        return None
