"""A collector of traces: takes OTLP over HTTP as any does, and keeps the spans."""

import gzip
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS = ("", "internal", "server", "client", "producer", "consumer")
ERROR = 2


@dataclass(frozen=True)
class Seen:
    """One span as it arrived; ids are in hex."""

    service: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    links: frozenset[tuple[str, str]]  # Trace and span.
    said: dict[str, Any]
    error: bool
    began_ns: int
    ended_ns: int

    @property
    def at(self) -> tuple[str, str]:
        return self.trace, self.id


class Collector:
    """A collector's inside; `status` is what it answers."""

    def __init__(self) -> None:
        self.spans: list[Seen] = []
        self.status = 200
        self.address = ""
        self.heads: list[dict[str, str]] = []

    def of(self, trace: str, name: str | None = None) -> list[Seen]:
        """Return the spans of a trace, the first first."""
        found = [s for s in list(self.spans) if s.trace == trace and name in (None, s.name)]
        return sorted(found, key=lambda span: span.began_ns)

    def take(self, body: bytes) -> None:
        for of_one in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = str(_said(of_one.resource.attributes)["service.name"])
            for scope in of_one.scope_spans:
                self.spans += [_seen(service, span) for span in scope.spans]


def _seen(service: str, span: Any) -> Seen:
    return Seen(
        service,
        span.name,
        KINDS[span.kind],
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        frozenset((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        _said(span.attributes),
        span.status.code == ERROR,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
    )


def _said(attributes: Iterable[Any]) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


@contextmanager
def collecting() -> Generator[Collector]:
    """Run a collector."""
    inside = Collector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            inside.heads.append({name.lower(): value for name, value in self.headers.items()})
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if inside.status == 200:
                assert self.path == "/v1/traces"
                inside.take(body)
            self.send_response(inside.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    inside.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield inside
    finally:
        server.shutdown()
        server.server_close()
