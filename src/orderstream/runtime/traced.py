"""What is wrapped around HTTP and the publisher where there is a tracer (tracing.py).

A request's span takes the place of the `traceparent` that the request came with, so that whoever
hands that on hands on the span.
"""

from __future__ import annotations  # Else each request makes the types of the inner functions anew.

from dataclasses import replace
from typing import Any

from orderstream.contract.envelope import TRACEPARENT, Headers, context_of, read_traceparent
from orderstream.contract.errors import OutcomeUnknown
from orderstream.runtime.direct import Answer, DirectRoute
from orderstream.runtime.direct import Headers as HttpHeaders
from orderstream.runtime.publisher import Publisher, Settled
from orderstream.runtime.tracing import KEY, Span, Tracer, sending, with_context
from orderstream.runtime.web import ASGIApp

_NAME = TRACEPARENT.encode()
_READS = frozenset({"GET", "HEAD"})
METHOD = "http.request.method"
ROUTE = "http.route"
STATUS = "http.response.status_code"


def traced_route(route: DirectRoute, tracer: Tracer, path: str) -> DirectRoute:
    """Return the route with a span around each request; `path` is what it is called."""
    handle, name = route.handle, f"POST {path}"
    said = {METHOD: "POST", ROUTE: path, "url.path": path, "url.scheme": "http"}

    def traced(headers: HttpHeaders, body: bytes, answer: Answer) -> None:
        given = read_traceparent(headers.get(_NAME))
        if given is not None and not tracer.wants(given):
            handle(headers, body, answer)
            return
        span = tracer.begin(name, "server", given, said)

        def answered(status: int, lines: bytes, body: bytes) -> None:
            _end(span, status)
            answer(status, lines, body)

        handle({**headers, _NAME: span.traceparent}, body, answered)

    return replace(route, handle=traced)


class TracedApp:
    """An ASGI app with a span around each request that changes something, or is part of a trace.

    Others only look: health, metrics and the console ask several times a second.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, method = scope["headers"], scope["method"]
        given = read_traceparent(dict(headers).get(_NAME))
        if method in _READS if given is None else not self._tracer.wants(given):
            await self._app(scope, receive, send)
            return
        said = {METHOD: method, "url.path": scope["path"], "url.scheme": scope["scheme"]}
        span = self._tracer.begin(method, "server", given, said)
        kept = [header for header in headers if header[0] != _NAME]
        scope["headers"] = [*kept, (_NAME, span.traceparent)]
        status = 500

        async def sent(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            _end(span, status, method, getattr(scope.get("route"), "path", ""))


def _end(span: Span, status: int, method: str = "", route: str = "") -> None:
    said: dict[str, str | int] = {STATUS: status}
    if route:
        route = said[ROUTE] = route.replace(":path}", "}")
    error = str(status) if status >= 500 else None
    span.end(error, said, f"{method} {route}" if route else "")


class TracedPublisher(Publisher):
    """A publisher whose single records carry the context of their sending."""

    def __init__(self, config: dict[str, Any], tracer: Tracer) -> None:
        super().__init__(config)
        self._tracer = tracer

    def send(
        self, topic: str, key: bytes, value: bytes, headers: Headers, settled: Settled
    ) -> None:
        """See Publisher."""
        given = context_of(headers)
        if given is not None and not self._tracer.wants(given):
            super().send(topic, key, value, headers, settled)
            return
        name, said = sending(topic)
        said[KEY] = key.decode(errors="replace")
        span = self._tracer.begin(name, "producer", given, said)

        def confirmed(error: OutcomeUnknown | None) -> None:
            span.end(None if error is None else type(error).__name__)
            settled(error)

        try:
            super().send(topic, key, value, with_context(headers, span.traceparent), confirmed)
        except BaseException as error:
            span.end(type(error).__name__)
            raise
