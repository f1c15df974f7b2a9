"""What the API shows of itself: requests by route, status and time on /metrics, and a span of each."""

import time
from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sentio.tracing import Traces, traceparent_of

REQUESTS = Counter("sentio_rest_requests", "Requests answered", ["route", "status"])
SECONDS = Histogram(
    "sentio_rest_request_seconds",
    "From a request's head to the end of its answer",
    ["route"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)
UNDER_WAY = Gauge("sentio_rest_requests_under_way", "Requests that are being answered")


class Counted:
    """Middleware; the outermost, so that what others refuse is counted too."""

    def __init__(self, app: ASGIApp, traces: Traces | None = None) -> None:
        self._app = app
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif self._traces is None:
            await self._count(scope, receive, send)
        else:
            parent = traceparent_of((name.decode("latin-1"), value) for name, value in scope["headers"])
            with self._traces.request(scope["method"], parent) as answered:
                await self._count(scope, receive, send, answered)

    async def _count(
        self, scope: Scope, receive: Receive, send: Send, tell: Callable[[str, int], None] = lambda *_: None
    ) -> None:
        """``tell`` hears the route and the status, whatever becomes of the request."""
        began_s = time.monotonic()
        status = 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            with UNDER_WAY.track_inprogress():
                await self._app(scope, receive, noting)
        finally:
            # Paths that no route has are the world's: a label for each would never end.
            route = getattr(scope.get("route"), "path", "other")
            REQUESTS.labels(route, str(status)).inc()
            SECONDS.labels(route).observe(time.monotonic() - began_s)
            tell(route, status)
