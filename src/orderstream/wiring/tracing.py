"""Whether there is a tracer, and which."""

from collections.abc import Generator
from contextlib import contextmanager

from orderstream.contract.errors import ConfigurationError
from orderstream.runtime.settings import Settings
from orderstream.runtime.tracing import Tracer


@contextmanager
def tracing(settings: Settings, service: str) -> Generator[Tracer | None]:
    """Give a service its tracer, or None, which costs nothing; flush it at the end.

    Raises ConfigurationError when OpenTelemetry is not installed.
    """
    if not settings.traces:
        yield None
        return
    try:
        from orderstream.runtime.tracing_otel import OtelTracer
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "OTEL_TRACES_EXPORTER: otlp takes OpenTelemetry: pip install 'orderstream[otel]'"
        ) from error
    assert settings.traces_ratio is not None
    tracer = OtelTracer(
        service, settings.otel_traces_sampler, settings.traces_ratio, settings.otel()
    )
    try:
        yield tracer
    finally:
        tracer.close()
