"""Traces for OpenTelemetry, if the standard environment variable names where to send them; else nothing is loaded.

The only module that knows OpenTelemetry. Spans carry the request's number and never a query, a body or a key.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from crm.errors import Detail, UsageError

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
WITH_QUERY = ("http.url", "http.target", "url.full", "url.query")
"""Attributes that would repeat what stands behind the question mark: a link may hold a secret there."""
QUIET = "livez,readyz,metrics"

_tracers: list[Any] = []


def are_wanted() -> bool:
    """Whether the environment names where traces go."""
    return any(os.environ.get(name) for name in ENDPOINTS)


def begin_traces() -> Any:
    """Begin to send traces; what is returned ends it by `shutdown`, and sends what is left.

    Raises
    ------
    UsageError
        The extra `traces` is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        detail = Detail(ENDPOINTS[0], None, "traces need the extra `traces`", "pip install 'dealcast[traces]'")
        raise UsageError("Traces cannot be sent.", detail) from None
    named = os.environ.get("OTEL_SERVICE_NAME", "dealcast")
    provider = TracerProvider(resource=Resource.create({"service.name": named}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracers[:] = [provider.get_tracer("dealcast")]
    return provider


class Traced:
    """ASGI middleware that makes a span of every request, below that of the caller if it sends one."""

    def __init__(self, app: ASGIApp, provider: Any) -> None:
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
        from opentelemetry.util.http import parse_excluded_urls

        self.app = OpenTelemetryMiddleware(
            app,
            excluded_urls=parse_excluded_urls(QUIET),
            server_request_hook=without_query,
            tracer_provider=provider,
            http_capture_headers_server_response=["x-request-id"],
            exclude_spans=["receive", "send"],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from opentelemetry.context import Context, attach, detach

        token = attach(Context())  # BentoML opens a span around us that goes nowhere
        try:
            await self.app(scope, receive, send)
        finally:
            detach(token)


def without_query(span: Any, scope: Scope) -> None:
    """Keep what stands behind the question mark out of a span."""
    for name in WITH_QUERY:
        if name in (getattr(span, "attributes", None) or {}):
            span.set_attribute(name, scope["path"])


@contextmanager
def span(name: str, **attributes: str | int) -> Iterator[None]:
    """A step in a trace, where traces are sent."""
    if not _tracers:
        yield
        return
    with _tracers[0].start_as_current_span(name, attributes=attributes):
        yield
