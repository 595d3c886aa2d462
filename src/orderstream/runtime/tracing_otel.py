"""The tracer of tracing.py on OpenTelemetry's SDK, exported by OTLP over HTTP.

Loaded only where traces are wanted. What the settings do not name, the SDK reads from the standard
OTEL_* variables itself: endpoint, headers, certificates, time limits, sizes of queue and batch.
"""

import logging
import os
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode
from prometheus_client import Counter

from orderstream import __version__
from orderstream.contract.envelope import is_sampled
from orderstream.runtime.clock import monotonic
from orderstream.runtime.tracing import NONE, SCHEMA_URL, Attributes, Kind, Span

FLUSH_TIMEOUT_S = 2.0  # Of the 6 s that a service has to end in.
LOG_EVERY_S = 60.0
PARENT_BASED = "parentbased_"
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
QUEUE_MAX = 2048  # The standard's default.

log = structlog.get_logger("orderstream.tracing")
_spans = Counter(
    "orderstream_spans",
    "Spans by what became of them: exported, failed (to be), dropped (the queue was full)",
    ["outcome"],
)

_KINDS: Mapping[Kind, SpanKind] = {
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
    "internal": SpanKind.INTERNAL,
}


class _Span:
    __slots__ = ("inner", "traceparent")

    def __init__(self, inner: trace.Span) -> None:
        self.inner = inner
        made = inner.get_span_context()
        self.traceparent = b"00-%032x-%016x-%02x" % (
            made.trace_id,
            made.span_id,
            made.trace_flags & 1,
        )

    def end(self, error: str | None = None, attributes: Attributes = NONE, name: str = "") -> None:
        inner = self.inner
        if attributes:
            inner.set_attributes(attributes)
        if name:
            inner.update_name(name)
        if error is not None:
            inner.set_attribute("error.type", error)
            inner.set_status(Status(StatusCode.ERROR))
        inner.end()


class OtelTracer:
    """See Tracer. Ended by `close`."""

    def __init__(
        self, service: str, sampler: str, ratio: float, settings: Mapping[str, str] = NO_SETTINGS
    ) -> None:
        """`settings` are for the SDK where the environment has none. Raises ValueError for a
        sampler that is none."""
        for variable, value in settings.items():
            os.environ.setdefault(variable, value)
        self._only_sampled = sampler.startswith(PARENT_BASED)
        self._processor = _Processor()
        provider = TracerProvider(
            sampler=sampler_of(sampler, ratio),
            resource=_resource(service),
            shutdown_on_exit=False,  # It may wait for half a minute: `close` does not.
        )
        provider.add_span_processor(self._processor)
        # A consumer of a user's own may use OpenTelemetry itself: its spans go the same way.
        trace.set_tracer_provider(provider)
        self._start = provider.get_tracer("orderstream", __version__, SCHEMA_URL).start_span

    def wants(self, traceparent: bytes) -> bool:
        """See Tracer."""
        return not self._only_sampled or is_sampled(traceparent)

    def begin(
        self,
        name: str,
        kind: Kind,
        parent: bytes | None = None,
        attributes: Attributes = NONE,
        links: Sequence[bytes] = (),
    ) -> Span:
        """See Tracer."""
        above = Context()
        if parent is not None:
            above = trace.set_span_in_context(NonRecordingSpan(_context(parent)), above)
        to = [Link(_context(link)) for link in links]
        return _Span(self._start(name, above, _KINDS[kind], attributes, to))

    @contextmanager
    def current(self, span: Span) -> Generator[None]:
        """See Tracer."""
        assert isinstance(span, _Span)
        with trace.use_span(span.inner, record_exception=False, set_status_on_exception=False):
            yield

    def close(self) -> None:
        """Export what is there, for so long as may be; what is left then is lost."""
        ending = threading.Thread(target=self._processor.shutdown, daemon=True)
        ending.start()
        ending.join(FLUSH_TIMEOUT_S)
        if lost := self._processor.waiting:
            log.warning("spans are lost: they could not be exported in time", count=lost)


class _Processor(BatchSpanProcessor):
    """The SDK's queue and thread, with an account of what becomes of the spans."""

    def __init__(self) -> None:
        super().__init__(_Exporter(OTLPSpanExporter(), self._taken))
        self._most = int(os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE") or QUEUE_MAX)
        self._lock = threading.Lock()
        self.waiting = 0
        _tell_seldom()

    def on_end(self, span: ReadableSpan) -> None:
        """Put a span into the queue, unless it is full."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        with self._lock:
            full = self.waiting >= self._most
            self.waiting += not full
        if full:
            _spans.labels("dropped").inc()
        else:
            super().on_end(span)

    def _taken(self, count: int, *, exported: bool) -> None:
        with self._lock:
            self.waiting -= count
        _spans.labels("exported" if exported else "failed").inc(count)


class _Exporter(SpanExporter):
    def __init__(self, inner: SpanExporter, taken: Any) -> None:
        self._inner = inner
        self._taken = taken

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        finally:
            self._taken(len(spans), exported=result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()


def _tell_seldom() -> None:
    """Have what OpenTelemetry says of itself in our log, and once a minute at most."""
    logger = logging.getLogger("opentelemetry")
    logger.handlers = [_Seldom(logging.WARNING)]
    logger.propagate = False


class _Seldom(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._again_at = float("-inf")

    def emit(self, record: logging.LogRecord) -> None:
        if monotonic() >= self._again_at:
            self._again_at = monotonic() + LOG_EVERY_S
            log.warning("traces do not get through", reason=record.getMessage())


def sampler_of(name: str, ratio: float) -> Sampler:
    """Return a sampler by its standard name. Raises ValueError."""
    roots: dict[str, Sampler] = {
        "always_on": ALWAYS_ON,
        "always_off": ALWAYS_OFF,
        "traceidratio": TraceIdRatioBased(ratio),
    }
    root = roots.get(name.removeprefix(PARENT_BASED))
    if root is None:
        raise ValueError(f"no sampler is called {name}")
    return ParentBased(_OfLinks(root)) if name.startswith(PARENT_BASED) else root


class _OfLinks(Sampler):
    """Records what is linked to what is recorded: a batch has no parent, and records with one."""

    def __init__(self, root: Sampler) -> None:
        self._root = root

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Sequence[Link] | None = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        if links:
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
        return self._root.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        return f"OfLinks{{{self._root.get_description()}}}"


def _context(traceparent: bytes) -> SpanContext:
    return SpanContext(
        int(traceparent[3:35], 16),
        int(traceparent[36:52], 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(int(traceparent[53:55], 16)),
    )


def _resource(service: str) -> Resource:
    """Return what the spans are of; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES know better."""
    ours = {
        "service.name": f"orderstream-{service}",
        "service.namespace": "orderstream",
        "service.version": __version__,
    }
    return Resource.create({**ours, **OTELResourceDetector().detect().attributes})
