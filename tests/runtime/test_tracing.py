"""Spans of batches and requests as a collector gets them, and what happens when there is none."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from confluent_kafka import Message
from prometheus_client import REGISTRY
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from orderstream.contract.envelope import context_of
from orderstream.contract.errors import ConfigurationError, TransactionAborted
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Output
from orderstream.runtime.traced import TracedApp
from orderstream.runtime.tracing import BatchTracer
from orderstream.runtime.tracing_otel import FLUSH_TIMEOUT_S, OtelTracer
from orderstream.wiring.tracing import tracing
from tests.collector import Collector, Seen, collecting
from tests.kafka.topics import headers_of
from tests.notification.receivers import bad_server

Start = Callable[..., OtelTracer]


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> Iterator[Start]:
    """Starts tracers that export to the collector, unless told otherwise."""
    with ExitStack() as stack:

        def started(sampler: str = "parentbased_always_on", ratio: float = 1, **env: str):
            env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address, **env}
            for name, value in env.items():
                monkeypatch.setenv(name, value)
            tracer = OtelTracer("test", sampler, ratio)
            stack.callback(tracer.close)
            return tracer

        yield started


def context(number: int, *, sampled: bool = True) -> bytes:
    return b"00-%032x-%016x-%02x" % (number + 1, (number + 1) & 0xFFFF, sampled)


def a_record(number: int, given: bytes | None = None, topic: str = "orders") -> Message:
    headers: list[tuple[str, Any]] = [] if given is None else [("traceparent", given)]
    return Message(topic, 3, number, b"%d" % number, b"{}", headers, timestamp=(1, 0))


def an_output(record: Message) -> Output:
    return Output("results", record.key(), b"{}", headers_of(record))


def run(tracer: OtelTracer, records: list[Message]) -> list[Output]:
    """Trace a batch that answers each record."""
    batches = BatchTracer(tracer, "group")
    with batches.batch(records):
        return [batches.sent(an_output(record)) for record in records]


def spans(tracer: OtelTracer, collector: Collector) -> list[Seen]:
    tracer.close()
    return collector.spans


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("orderstream_spans_total", {"outcome": outcome}) or 0


class TestABatch:
    def test_has_one_span_linked_to_what_is_recorded_and_one_below_each(
        self, start: Start, collector: Collector
    ) -> None:
        tracer = start()
        records = [a_record(n, context(n, sampled=n < 40)) for n in range(100)]
        outputs = run(tracer, records)
        found = spans(tracer, collector)
        (batch,) = [span for span in found if not span.parent]
        below = [span for span in found if span.name == "process orders" and span.parent]
        sent = [span for span in found if span.name == "send results"]
        assert batch.said["messaging.batch.message_count"] == 100
        assert batch.links == {(f"{n + 1:032x}", f"{n + 1:016x}") for n in range(40)}
        assert [span.links for span in below] == [{batch.at}] * 40
        assert {span.trace for span in below} == {f"{n + 1:032x}" for n in range(40)}
        place = {"messaging.destination.partition.id": "3", "messaging.kafka.offset": 7}
        assert place.items() <= next(s for s in below if s.trace.endswith("08")).said.items()
        assert {span.parent for span in sent} == {span.id for span in below}
        carried = {context_of(output.headers) for output in outputs[:40]}
        assert carried == {f"00-{s.trace}-{s.id}-01".encode() for s in sent}
        # What is not recorded costs no span, and goes on as it came.
        assert [o.headers for o in outputs[40:]] == [r.headers() for r in records[40:]]

    def test_of_which_nothing_is_recorded_has_none(
        self, start: Start, collector: Collector
    ) -> None:
        tracer = start()
        records = [a_record(n, context(n, sampled=False)) for n in range(3)]
        assert run(tracer, records) == [an_output(record) for record in records]
        assert spans(tracer, collector) == []

    def test_of_records_without_a_trace_begins_one(
        self, start: Start, collector: Collector
    ) -> None:
        tracer = start()
        outputs = run(tracer, [a_record(1), a_record(2, b"junk", topic="other")])
        batch, sent = sorted(spans(tracer, collector), key=lambda span: span.name)
        assert (batch.name, batch.links) == ("process", frozenset())
        assert sent.parent == batch.id
        assert sent.said["messaging.batch.message_count"] == 2
        assert {context_of(o.headers) for o in outputs} == {
            f"00-{sent.trace}-{sent.id}-01".encode()
        }

    def test_that_is_rolled_back_is_an_error_of_all(
        self, start: Start, collector: Collector
    ) -> None:
        tracer = start()
        batches = BatchTracer(tracer, "group")
        record = a_record(1, context(1))

        def roll_back() -> None:
            with batches.batch([record]):
                batches.sent(an_output(record))
                raise TransactionAborted("rolled back")

        with pytest.raises(TransactionAborted):
            roll_back()
        found = spans(tracer, collector)
        assert [s.said["error.type"] for s in found if s.error] == ["TransactionAborted"] * 3
        with batches.batch([]):  # Nothing of it is left.
            assert batches.sent(an_output(record)) == an_output(record)

    def test_with_a_bad_record_is_an_error_of_that_one(
        self, start: Start, collector: Collector
    ) -> None:
        tracer = start()
        batches = BatchTracer(tracer, "group")
        records = [a_record(n, context(n)) for n in range(3)]
        with batches.batch(records):
            batches.failed(records[1], ValueError("no"))
        (failed,) = [span for span in spans(tracer, collector) if span.error]
        assert (failed.trace[-1], failed.said["error.type"]) == ("2", "ValueError")


class TestSampling:
    @pytest.mark.parametrize(
        ("sampler", "fresh", "of_sampled", "of_others"),
        [
            ("always_on", 1, 1, 1),
            ("always_off", 0, 0, 0),
            ("traceidratio", 0, 0, 0),
            ("parentbased_always_on", 1, 1, 0),
            ("parentbased_always_off", 0, 1, 0),
            ("parentbased_traceidratio", 0, 1, 0),
        ],
    )
    def test_goes_by_its_standard_name(
        self,
        start: Start,
        collector: Collector,
        sampler: str,
        fresh: int,
        of_sampled: int,
        of_others: int,
    ) -> None:
        high = (1 << 128) - 2  # An id that no ratio takes.
        tracer = start(sampler, 0.0)
        run(tracer, [a_record(1)])
        run(tracer, [a_record(2, context(high))])
        run(tracer, [a_record(3, context(high - 1, sampled=False))])
        found = spans(tracer, collector)
        assert len([s for s in found if not s.parent and not s.links]) == fresh
        assert len([s for s in found if s.trace == f"{high + 1:032x}"]) == 2 * of_sampled
        assert len([s for s in found if s.trace == f"{high:032x}"]) == 2 * of_others


class TestARequest:
    def test_that_only_looks_has_a_span_if_it_is_part_of_a_trace(
        self, start: Start, collector: Collector
    ) -> None:
        tracer = start()
        with serving(tracer) as ask:
            ask("GET", "/things/1")
            ask("GET", "/things/2", traceparent=context(2).decode())
            ask("POST", "/things/3", traceparent="junk")
            not_recorded = context(4, sampled=False).decode()
            assert ask("POST", "/things/4", traceparent=not_recorded) == not_recorded
        looked, changed = sorted(spans(tracer, collector), key=lambda span: span.name)
        assert (looked.name, looked.trace) == ("GET /things/{name}", f"{3:032x}")
        assert (changed.name, changed.parent) == ("POST /things/{name}", "")
        assert changed.said["url.path"] == "/things/3"

    def test_that_fails_is_an_error(self, start: Start, collector: Collector) -> None:
        tracer = start()
        with serving(tracer) as ask, pytest.raises(ZeroDivisionError):
            ask("POST", "/broken")
        (span,) = spans(tracer, collector)
        assert (span.error, span.said["error.type"]) == (True, "500")

    def test_hands_on_its_span(self, start: Start, collector: Collector) -> None:
        tracer = start()
        with serving(tracer) as ask:
            handed_on = ask("POST", "/things/1", traceparent=context(1).decode())
        (span,) = spans(tracer, collector)
        assert handed_on == f"00-{span.trace}-{span.id}-01"


@contextmanager
def serving(tracer: OtelTracer) -> Iterator[Callable[..., str]]:
    """Serve an app that answers with the context that it was given."""

    def thing(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.headers.get("traceparent", ""))

    def broken(_request: Request) -> PlainTextResponse:
        raise ZeroDivisionError

    methods = ["GET", "POST"]
    app = Starlette(
        routes=[
            Route("/things/{name:path}", thing, methods=methods),
            Route("/broken", broken, methods=methods),
        ]
    )
    transport = httpx.ASGITransport(TracedApp(app, tracer))

    async def ask(method: str, path: str, **headers: str) -> str:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return (await client.request(method, path, headers=headers)).text

    yield lambda *asked, **headers: asyncio.run(ask(*asked, **headers))


class TestACollectorThatIsAway:
    def test_holds_up_nothing_and_is_counted_and_told_once(self, start: Start) -> None:
        before = {outcome: counted(outcome) for outcome in ("failed", "dropped", "exported")}
        with bad_server(lambda connection: connection.close()) as port, capture_logs() as logs:
            tracer = start(
                OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
                OTEL_EXPORTER_OTLP_TIMEOUT="1",
            )
            began = time.monotonic()
            for _ in range(5000):
                tracer.begin("a span", "internal").end()
            took_s = time.monotonic() - began
            tracer.close()
        assert took_s < 5
        assert counted("exported") == before["exported"]
        assert counted("dropped") > before["dropped"]
        lost = sum(counted(outcome) - before[outcome] for outcome in ("failed", "dropped"))
        assert 3000 <= lost <= 5000  # The rest was in the queue at the end.
        told = [line for line in logs if line["event"] == "traces do not get through"]
        assert len(told) == 1

    def test_does_not_hold_up_the_end(self, start: Start) -> None:
        with bad_server(lambda _: time.sleep(FLUSH_TIMEOUT_S + 2)) as port, capture_logs() as logs:
            tracer = start(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}")
            tracer.begin("a span", "internal").end()
            began = time.monotonic()
            tracer.close()
            assert time.monotonic() - began < FLUSH_TIMEOUT_S + 1
        assert logs[-1]["count"] == 1


class TestSettings:
    def test_of_the_standard_names_count(
        self, collector: Collector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given = {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.address,
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=secret",
            "OTEL_SERVICE_NAME": "shop",
        }
        for name in given:  # Put back what is set meanwhile.
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)
        with tracing(Settings.load(given), "test") as tracer:
            assert tracer is not None
            tracer.begin("a span", "internal").end()
        (span,) = collector.spans
        assert span.service == "shop"
        assert collector.heads[0]["authorization"] == "secret"

    @pytest.mark.parametrize("off", [{}, {"OTEL_SDK_DISABLED": "true"}])
    def test_may_have_it_off(self, off: dict[str, str]) -> None:
        exporter = {"OTEL_TRACES_EXPORTER": "otlp"} if off else {}
        given = {**exporter, **off, "OTEL_TRACES_SAMPLER": "jaeger_remote"}
        with tracing(Settings.load(given), "test") as tracer:
            assert tracer is None

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_TRACES_SAMPLER_ARG", "2"),
            ("OTEL_TRACES_SAMPLER_ARG", "much"),
        ],
    )
    def test_that_are_wrong_stop_the_start_by_name(self, name: str, value: str) -> None:
        with pytest.raises(ConfigurationError, match=name):
            Settings.load({"OTEL_TRACES_EXPORTER": "otlp", name: value})

    def test_without_the_package_say_how_to_get_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, "orderstream.runtime.tracing_otel")
        monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
        wanted = Settings.load({"OTEL_TRACES_EXPORTER": "otlp"})
        with pytest.raises(ConfigurationError, match=r"orderstream\[otel\]"), tracing(wanted, "x"):
            pass


def test_tracing_that_is_off_loads_nothing() -> None:
    script = (
        "import sys; import orderstream.wiring.order, orderstream.wiring.stages,"
        " orderstream.wiring.notification;"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk',"
        " 'opentelemetry.exporter', 'google.protobuf', 'requests'))])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ
    )
    assert ended.stdout.strip() == "[]"
