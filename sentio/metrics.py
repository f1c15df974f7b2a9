"""What a process shows of itself over HTTP: /metrics (Prometheus), /livez and /readyz."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

from sentio.config import listening

Check = Callable[[], bool]


def serve(
    port: int, *, live: Check, ready: Check, host: str = "", registry: CollectorRegistry = REGISTRY
) -> ThreadingHTTPServer:
    """Answer on ``port`` (0: a free one) from a thread of its own until `shutdown`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match self.path:
                case "/metrics":
                    self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
                case "/livez":
                    self._check(live)
                case "/readyz":
                    self._check(ready)
                case _:
                    self._answer(404, b"not here\n", "text/plain")

        def _check(self, check: Check) -> None:
            fine = check()
            self._answer(200 if fine else 503, b"ok\n" if fine else b"not ready\n", "text/plain")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            """A probe every few seconds is no news."""

    with listening("metrics_port", port):
        server = ThreadingHTTPServer((host, port), Handler)
    threading.Thread(target=server.serve_forever, name="sentio-metrics", daemon=True).start()
    return server
