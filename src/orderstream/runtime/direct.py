"""A route that is answered without ASGI: no task, scope or event between the socket and it.

An ASGI app is asked by a task of its own, which is sent the body in events and sends the answer in
two more. A POST that only has to be read and passed on costs less than that around it, so the
server hands it over whole: the handler is called with the request, and calls back with the answer.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from orderstream.runtime.clock import monotonic
from orderstream.runtime.timings import TIMINGS

if TYPE_CHECKING:
    from orderstream.runtime.connection import Connection

Headers = Mapping[bytes, bytes]  # The last of each name.
# Takes the status, the lines of the headers, as HTTP/1.1 has them, and the body.
Answer = Callable[[int, bytes, bytes], None]
Handler = Callable[[Headers, bytes, Answer], None]


log = structlog.get_logger("orderstream.http")

HEADS_MAX = 512
HEAD_BYTES_MAX = 2_048
# A head with one of these is not seen again but in a repeat.
_EACH_ITS_OWN = frozenset({b"idempotency-key", b"traceparent"})


class KnownHeads:
    """Heads that were read before: a client's requests differ in their bodies, seldom in more.

    What came once as the head of a plain POST with a body of so many bytes means the same again.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[Headers, int]] = {}

    def find(self, request: bytes) -> tuple[Headers, bytes] | None:
        """Return the headers and the body, if it is one whole request with a known head."""
        end = request.find(b"\r\n\r\n") + 4
        known = self._known.get(request[:end])
        if known is None or len(request) - end != known[1]:
            return None
        return known[0], request[end:]

    def note(self, request: bytes, headers: Headers) -> None:
        """Remember the head of a request that the parser found to be one whole plain POST."""
        end = request.find(b"\r\n\r\n") + 4
        length = b"%d" % (len(request) - end)
        if (
            end <= HEAD_BYTES_MAX
            and headers.get(b"content-length") == length
            and b"transfer-encoding" not in headers
            and _EACH_ITS_OWN.isdisjoint(headers)
        ):
            if len(self._known) >= HEADS_MAX:
                self._known.clear()
            self._known[request[:end]] = headers, len(request) - end


@dataclass(frozen=True, slots=True)
class DirectRoute:
    """POSTs to some paths; `handle` calls `Answer` once, now or later.

    Where it raises, the error is logged and that connection ended. `uri` names all of them in the
    metrics.
    """

    uri: str
    paths: frozenset[bytes]
    handle: Handler
    body_bytes_max: int
    body_timeout_s: float
    too_large: Callable[[Answer], None]
    heads: KnownHeads = field(default_factory=KnownHeads)
    _whole: list["Exchange"] = field(default_factory=list["Exchange"], init=False)

    def take(self, exchange: "Exchange") -> None:
        """Have a whole request handled when this turn of the event loop has read all others.

        Code that runs again and again stays in a core's cache (32 KiB on most), which has no room
        for the socket's, the order's and Kafka's at once: a turn does one after the other.
        """
        exchange.more_body = False
        if not self._whole:
            asyncio.get_running_loop().call_soon(self._handle_all)
        self._whole.append(exchange)

    def _handle_all(self) -> None:
        exchanges = self._whole.copy()
        self._whole.clear()
        for exchange in exchanges:
            self.handle_now(exchange)

    def handle_now(self, exchange: "Exchange") -> None:
        """Have a whole request handled; one that fails has nothing to do with those behind it."""
        try:
            self.handle(exchange.headers, exchange.body, exchange.answer)
        except Exception as error:
            log.error("a request's handler failed", exc_info=error)
            exchange.abandon()


class Exchange:
    """One request to a direct route and its answer; it stands in for uvicorn's cycle."""

    __slots__ = (
        "_began",
        "_connection",
        "_route",
        "body",
        "disconnected",
        "headers",
        "keep_alive",
        "message_event",
        "more_body",
        "response_complete",
        "response_started",
    )

    def __init__(
        self, route: DirectRoute, connection: "Connection", headers: Headers, body: bytes = b""
    ) -> None:
        self._began = monotonic()
        self._route = route
        self._connection = connection
        self.headers = headers
        self.body = body
        self.disconnected = False
        self.keep_alive = True
        self.message_event = _NobodyWaits
        self.more_body = True
        self.response_complete = False
        self.response_started = False

    @property
    def body_timeout_s(self) -> float:
        """How long the body may take."""
        return self._route.body_timeout_s

    def add(self, body: bytes) -> None:
        """Take a piece of the body; nothing more of it once it is too large."""
        if self.response_complete:
            return
        self.body = self.body + body if self.body else body
        if len(self.body) > self._route.body_bytes_max:
            self.body = b""
            self._route.too_large(self.answer)

    def whole(self) -> None:
        """Have the request handled."""
        self.more_body = False
        if not self.response_complete:
            self._route.handle_now(self)

    def abandon(self) -> None:
        """End the connection: what became of the request is not known."""
        self._connection.transport.abort()

    def answer(self, status: int, lines: bytes, body: bytes) -> None:
        """Send the answer, unless nobody is there to take it."""
        if self.response_complete:
            return
        self.response_complete = self.response_started = True
        TIMINGS.observe("POST", self._route.uri, status, monotonic() - self._began)
        if self.disconnected:
            return
        if not self.keep_alive:
            lines += b"connection: close\r\n"
        said = STATUS_LINE[status], lines, len(body), body
        answer = b"%b%bcontent-length: %d\r\n\r\n%b" % said
        self._connection.answered(answer, keep_alive=self.keep_alive)


class _NobodyWaits:
    """The event that uvicorn sets to wake a task: there is none."""

    @staticmethod
    def set() -> None:
        pass
