"""Traces by OpenTelemetry in programs that use it; in all others the calls here do nothing.

Whoever has a span has imported OpenTelemetry, so nothing here imports it for a program that has not.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from scheduler.errors import BadInput

if TYPE_CHECKING:
    from opentelemetry.trace import Span as OpenSpan
    from opentelemetry.trace import Tracer, TracerProvider

Kind = Literal["SERVER", "CLIENT", "CONSUMER"]
Attributes = Mapping[str, str | int | bool]
# How long a program that ends waits for the collector to take the last spans.
LAST_S = 3.0


class Span:
    """A span under way; `traceparent` is what the next one down the line is to be told, '' where nobody records."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: "OpenSpan", traceparent: str) -> None:
        self._span = span
        self.traceparent = traceparent

    def note(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)


_NONE: AbstractContextManager[None] = nullcontext()


# Who records this program's spans: asking OpenTelemetry for each of them would cost as much as a span.
_recorder: "TracerProvider | None" = None


def look() -> None:
    """Find out whether this program has set up OpenTelemetry; a replica or an agent that starts asks once.

    Nothing is imported for it, and that it is there already says little: redis-py imports a part of it.
    """
    global _recorder  # noqa: PLW0603 - there is one in a program, as OpenTelemetry has it
    if sys.modules.get("opentelemetry.trace") is None:
        _recorder = None
        return
    # waits where another thread is importing it now
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    _recorder = None if isinstance(provider, trace.ProxyTracerProvider) else provider


@lru_cache(maxsize=4)
def _tracer(provider: "TracerProvider") -> "Tracer":
    return provider.get_tracer("fleet")


def here() -> str:
    """The present span as a traceparent, '' outside of any."""
    if sys.modules.get("opentelemetry.trace") is None:
        return ""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent", "")


def headers() -> dict[str, str]:
    """What a request to a replica carries, so that its placement is part of the present trace."""
    return {"traceparent": told} if (told := here()) else {}


def span(name: str, kind: Kind, attributes: Attributes | None = None) -> AbstractContextManager[Span | None]:
    """A span around a block, part of the present one; or None where nobody records."""
    return _NONE if _recorder is None else _open(_recorder, name, kind, None, attributes)


def span_under(
    parent: str, name: str, kind: Kind, attributes: Attributes | None = None, *, unless_within: bool = False
) -> AbstractContextManager[Span | None]:
    """The same under this traceparent, whatever span is present; '' begins a trace.

    unless_within: a present span is the parent all the same, as where a program traces its requests itself.
    """
    if _recorder is None:
        return _NONE
    return _open(_recorder, name, kind, (here() if unless_within else "") or parent, attributes)


@contextmanager
def _open(
    provider: "TracerProvider", name: str, kind: Kind, parent: str | None, attributes: Attributes | None
) -> Iterator[Span]:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    within = None if parent is None else TraceContextTextMapPropagator().extract({"traceparent": parent})
    with _tracer(provider).start_as_current_span(name, within, trace.SpanKind[kind], attributes) as opened:
        yield Span(opened, here())


def start_tracing(endpoint: str, service: str) -> Callable[[], None]:
    """Send this program's spans to the collector at this address; the answer is what sends the last of them.

    All else is as OpenTelemetry's own variables say: OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS and so on.
    """
    if not endpoint.startswith(("http://", "https://")) or "@" in endpoint:
        raise BadInput("otlp_endpoint", "must be an address such as http://127.0.0.1:4318, without a password")
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise BadInput("otlp_endpoint", 'needs an extra: pip install "fleet-scheduler[otel]"') from error
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service}
    # at the end we wait ourselves, and not for as long as it would
    provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")))
    trace.set_tracer_provider(provider)
    look()

    def end() -> None:
        ending = threading.Thread(target=provider.shutdown, daemon=True)
        ending.start()
        ending.join(LAST_S)

    return end
