"""Traces: what is asked of a tracer, and the spans of a stage's batches. Knows no OpenTelemetry.

A trace is handed on as W3C `traceparent`, with tracing on or off. Who is traced is wrapped where
the programs are put together (wiring/), so that tracing that is off is not there at all; the loop
alone asks, once a batch. tracing_otel.py is OpenTelemetry, traced.py what is wrapped around HTTP
and the publisher.

Spans, as the semantic conventions for messaging say (OpenTelemetry 1.44): a record is sent by a
PRODUCER span, whose context it carries; a batch is handled by a CONSUMER span with a link to each
of them. One order's trace would end there, so for each context in a batch there is also a CONSUMER
span below it, with a link to the batch's: the variant that the conventions leave to choose.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, Protocol

from orderstream.contract.envelope import TRACEPARENT, Headers, context_of
from orderstream.runtime.broker import Sink
from orderstream.runtime.stage import Output, Positions, Record

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
SYSTEM = "messaging.system"
OPERATION = "messaging.operation.name"
OPERATION_TYPE = "messaging.operation.type"
DESTINATION = "messaging.destination.name"
PARTITION = "messaging.destination.partition.id"
GROUP = "messaging.consumer.group.name"
COUNT = "messaging.batch.message_count"
OFFSET = "messaging.kafka.offset"
KEY = "messaging.kafka.message.key"

Kind = Literal["server", "client", "producer", "consumer", "internal"]
Attributes = Mapping[str, str | int]
NONE: Attributes = MappingProxyType({})


class Span(Protocol):
    """Something that takes its time, from `begin` to `end`."""

    @property
    def traceparent(self) -> bytes:
        """Its context, to be handed on to what comes of it."""
        ...

    def end(self, error: str | None = None, attributes: Attributes = NONE, name: str = "") -> None:
        """End it; `error` is the kind of error that it ended with, `name` a better one."""
        ...


class Tracer(Protocol):
    """Makes spans, and sees to it that they arrive somewhere; may be asked from any thread.

    It never raises, waits or grows: what cannot be told is dropped, and counted.
    """

    def wants(self, traceparent: bytes) -> bool:
        """Tell whether a span below this context might be recorded."""
        ...

    def begin(
        self,
        name: str,
        kind: Kind,
        parent: bytes | None = None,
        attributes: Attributes = NONE,
        links: Sequence[bytes] = (),
    ) -> Span:
        """Begin a span; without a parent it is the first of its trace."""
        ...

    def current(self, span: Span) -> AbstractContextManager[None]:
        """Have spans that others begin meanwhile, by OpenTelemetry's own API, be below this one."""
        ...


Traced = Callable[[], AbstractContextManager[bytes | None]]


def untraced() -> AbstractContextManager[bytes | None]:
    """Do something in no span."""
    return nullcontext(None)


@contextmanager
def traced(tracer: Tracer, name: str) -> Generator[bytes | None]:
    """Do something in a span, the first of its trace, whose context is given."""
    span = tracer.begin(name, "internal")
    error: str | None = None
    try:
        yield span.traceparent
    except BaseException as raised:
        error = type(raised).__name__
        raise
    finally:
        span.end(error)


def with_context(headers: Headers, traceparent: bytes) -> Headers:
    """Return headers that carry this context."""
    return [*(kept for kept in headers if kept[0] != TRACEPARENT), (TRACEPARENT, traceparent)]


def sending(topic: str) -> tuple[str, dict[str, str | int]]:
    """Return the name and the attributes of a span that sends to a topic."""
    return f"send {topic}", {
        SYSTEM: "kafka",
        OPERATION: "send",
        OPERATION_TYPE: "send",
        DESTINATION: topic,
    }


@dataclass(frozen=True, slots=True)
class _Sending:
    span: Span
    keys: list[bytes | None] = field(default_factory=list[bytes | None])  # Of its records.


class BatchTracer:
    """Makes the spans of one stage's batches, for its loop and its sink."""

    def __init__(self, tracer: Tracer, group: str) -> None:
        self._tracer = tracer
        self._group = group
        self._batch: Span | None = None
        self._spans: dict[bytes, Span] = {}  # By the context that the records came with.
        self._sends: dict[tuple[str, bytes], _Sending] = {}  # By topic and the span above.
        self._faults: dict[bytes, str] = {}

    @contextmanager
    def batch(self, records: Sequence[Record]) -> Generator[None]:
        """Have a batch traced, from its records in hand to its commit."""
        batch = self._begin(records)
        if batch is None:
            yield
            return
        error: str | None = None
        try:
            with self._tracer.current(batch):
                yield
        except BaseException as raised:
            error = type(raised).__name__
            raise
        finally:
            self._end(batch, error)

    def failed(self, record: Record, error: Exception) -> None:
        """Note that a record could not be handled."""
        context = context_of(record.headers())
        if context is not None:
            self._faults[context] = type(error).__name__

    def sent(self, output: Output) -> Output:
        """Return a record of the batch as it is to be sent: with the context of its sending."""
        given = context_of(output.headers)
        parent = self._batch if given is None else self._spans.get(given)
        if parent is None:
            return output
        if given is None and len(self._spans) == 1:  # Whose else could it be?
            (parent,) = self._spans.values()
        at = output.topic, parent.traceparent
        found = self._sends.get(at)
        if found is None:
            name, attributes = sending(output.topic)
            span = self._tracer.begin(name, "producer", parent.traceparent, attributes)
            found = self._sends[at] = _Sending(span)
        found.keys.append(output.key)
        return output._replace(headers=with_context(output.headers, found.span.traceparent))

    def _begin(self, records: Sequence[Record]) -> Span | None:
        """Begin the spans of a batch, if anybody wants any."""
        found: dict[bytes, list[Record]] = {}
        strangers = False  # Records without a context.
        for record in records:
            context = context_of(record.headers())
            if context is None:
                strangers = True
            elif context in found:
                found[context].append(record)
            elif self._tracer.wants(context):
                found[context] = [record]
        if not found and not strangers:
            return None
        begin = self._tracer.begin
        name, attributes = self._processing(records)
        attributes[COUNT] = len(records)
        self._batch = batch = begin(name, "consumer", None, attributes, list(found))
        around = [batch.traceparent]
        for context, some in found.items():
            name, attributes = self._processing(some)
            attributes |= _said_of([record.key() for record in some])
            if len(some) == 1:
                attributes[PARTITION] = str(some[0].partition() or 0)
                attributes[OFFSET] = some[0].offset() or 0
            self._spans[context] = begin(name, "consumer", context, attributes, around)
        return batch

    def _end(self, batch: Span, error: str | None) -> None:
        for sent in self._sends.values():
            sent.span.end(error, _said_of(sent.keys))
        for context, span in self._spans.items():
            span.end(error or self._faults.get(context))
        batch.end(error)
        self._batch = None
        self._spans.clear()
        self._sends.clear()
        self._faults.clear()

    def _processing(self, records: Sequence[Record]) -> tuple[str, dict[str, str | int]]:
        said: dict[str, str | int] = {
            SYSTEM: "kafka",
            OPERATION: "process",
            OPERATION_TYPE: "process",
            GROUP: self._group,
        }
        topics = {record.topic() or "" for record in records}
        if len(topics) > 1:
            return "process", said
        (said[DESTINATION],) = topics
        return f"process {said[DESTINATION]}", said


def _said_of(keys: Sequence[bytes | None]) -> Attributes:
    """Return what is said of so many records."""
    if len(keys) > 1:
        return {COUNT: len(keys)}
    (key,) = keys
    return NONE if key is None else {KEY: key.decode(errors="replace")}


class TracedSink:
    """A stage's sink, whose records carry the context of their sending."""

    def __init__(self, sink: Sink, tracer: BatchTracer) -> None:
        self._tracer = tracer
        self._sink = sink
        self.ready = sink.ready
        self.begin = sink.begin
        self.commit = sink.commit
        self.abort = sink.abort
        self.close = sink.close

    def produce(self, output: Output) -> None:
        """See Sink."""
        self._sink.produce(self._tracer.sent(output))

    def send_offsets(self, positions: Positions) -> None:
        """See Sink."""
        self._sink.send_offsets(positions)

    def send(self, outputs: Sequence[Output]) -> None:
        """See Sink."""
        self._sink.send([self._tracer.sent(output) for output in outputs])
