"""Spans to an OTLP collector, where SENTIO_TRACES names one: one a batch, linked to those its records come from.

REST has one a request.

Nothing of OpenTelemetry is imported where it is off. Between processes the context travels as `traceparent` (W3C Trace
Context) in the headers of Kafka's records.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog

from sentio.config import Settings
from sentio.errors import SettingError

if TYPE_CHECKING:
    from opentelemetry.trace import Link, Span

TRACEPARENT = "traceparent"
_TRACEPARENT = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

SERVER_ERROR = 500
MOST_LINKS = 128
"""What OpenTelemetry keeps of a span; a batch may come from more."""


class Traces:
    """Where a process sends its spans; `close` it, so that the last are sent."""

    def __init__(self, endpoint: str, *, process: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ModuleNotFoundError as failure:
            raise SettingError(f"SENTIO_TRACES={endpoint}: needs the packages of the extra 'tracing'") from failure
        resource = Resource.create({"service.namespace": "sentio", "service.name": f"sentio-{process}"})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=True)
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("sentio")

    @contextmanager
    def span(self, name: str, parents: Iterable[str] = (), **attributes: str | int) -> Iterator[str]:
        """A span of a batch, linked to these `traceparent`s; gives its own. Log lines within it carry its ids."""
        from opentelemetry.trace import SpanKind

        kind = SpanKind.PRODUCER if name.startswith("publish") else SpanKind.CONSUMER
        given: dict[str, Any] = {key.replace("__", "."): value for key, value in attributes.items()}
        with (
            self._tracer.start_as_current_span(name, kind=kind, links=_links(parents), attributes=given) as span,
            _logged(span) as traceparent,
        ):
            yield traceparent

    @contextmanager
    def request(self, method: str, parent: str | None) -> Iterator[Callable[[str, int], None]]:
        """A span of an HTTP request, in the trace of ``parent``, a `traceparent`; tell it the route and the status.

        Names are those of OpenTelemetry's conventions:
        https://opentelemetry.io/docs/specs/semconv/http/http-spans/
        """
        from opentelemetry.trace import NonRecordingSpan, SpanKind, StatusCode, set_span_in_context

        remote = _context(parent) if parent else None
        above = set_span_in_context(NonRecordingSpan(remote)) if remote else None
        with self._tracer.start_as_current_span(method, above, kind=SpanKind.SERVER) as span:

            def answered(route: str, status: int) -> None:
                span.update_name(f"{method} {route}")
                span.set_attributes(
                    {"http.request.method": method, "http.route": route, "http.response.status_code": status}
                )
                if status >= SERVER_ERROR:
                    span.set_status(StatusCode.ERROR)

            with _logged(span):
                yield answered

    def close(self) -> None:
        """Send what waits, for some seconds at most."""
        self._provider.shutdown()


def traces(settings: Settings, *, process: str) -> Traces | None:
    """As set: None where it is off."""
    return Traces(settings.traces, process=process) if settings.traces else None


def caller() -> str | None:
    """The `traceparent` of the span that the caller is in, if it is in one."""
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def traceparent_of(headers: Iterable[tuple[str, Any]] | None) -> str | None:
    """What the headers of a record have of it; any bytes may be there."""
    for name, value in headers or ():
        if name == TRACEPARENT and isinstance(value, bytes) and _TRACEPARENT.fullmatch(value):
            return value.decode()
    return None


@contextmanager
def _logged(span: "Span") -> Iterator[str]:
    """Lines of the log carry its ids; gives its `traceparent`."""
    context = span.get_span_context()
    trace_id, span_id = f"{context.trace_id:032x}", f"{context.span_id:016x}"
    with structlog.contextvars.bound_contextvars(trace_id=trace_id, span_id=span_id):
        yield f"00-{trace_id}-{span_id}-{int(context.trace_flags):02x}"


def _links(parents: Iterable[str]) -> "list[Link]":
    from opentelemetry.trace import Link

    found = [context for parent in list(dict.fromkeys(parents))[:MOST_LINKS] if (context := _context(parent))]
    return [Link(context) for context in found]


def _context(traceparent: str) -> Any:
    """Of W3C's text; None for the zeros that mean none."""
    from opentelemetry.trace import SpanContext, TraceFlags

    _, trace_id, span_id, flags = (int(part, 16) for part in traceparent.split("-"))
    context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return context if context.is_valid else None
