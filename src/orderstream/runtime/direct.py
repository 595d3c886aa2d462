"""A route that is answered without ASGI: no task, scope or event between the socket and it.

An ASGI app is asked by a task of its own, which is sent the body in events and sends the answer in
two more. A POST that only has to be read and passed on costs less than that around it, so the
server hands it over whole: the handler is called with the request, and calls back with the answer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from orderstream.runtime.clock import monotonic
from orderstream.runtime.timings import TIMINGS

if TYPE_CHECKING:
    from orderstream.runtime.connection import Connection

Headers = list[tuple[bytes, bytes]]
Answer = Callable[[int, Headers, bytes], None]
Handler = Callable[[Headers, bytes, Answer], None]


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
        given = dict(headers)
        length = b"%d" % (len(request) - end)
        if (
            end <= HEAD_BYTES_MAX
            and given.get(b"content-length") == length
            and b"transfer-encoding" not in given
            and _EACH_ITS_OWN.isdisjoint(given)
        ):
            if len(self._known) >= HEADS_MAX:
                self._known.clear()
            self._known[request[:end]] = headers, len(request) - end


@dataclass(frozen=True, slots=True)
class DirectRoute:
    """POSTs to some paths; `handle` raises nothing, and calls `Answer` once, now or later.

    `uri` names all of them in the metrics.
    """

    uri: str
    paths: frozenset[bytes]
    handle: Handler
    body_bytes_max: int
    body_timeout_s: float
    too_large: Callable[[Answer], None]
    heads: KnownHeads = field(default_factory=KnownHeads)


class Exchange:
    """One request to a direct route and its answer; it stands in for uvicorn's cycle."""

    __slots__ = (
        "_began",
        "_body",
        "_connection",
        "_headers",
        "_route",
        "disconnected",
        "keep_alive",
        "message_event",
        "more_body",
        "response_complete",
        "response_started",
    )

    def __init__(self, route: DirectRoute, connection: "Connection", headers: Headers) -> None:
        self._began = monotonic()
        self._route = route
        self._connection = connection
        self._headers = headers
        self._body = b""
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
        self._body = self._body + body if self._body else body
        if len(self._body) > self._route.body_bytes_max:
            self._body = b""
            self._route.too_large(self.answer)

    def whole(self) -> None:
        """Have the request handled."""
        self.more_body = False
        if not self.response_complete:
            self._route.handle(self._headers, self._body, self.answer)

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Send the answer, unless nobody is there to take it."""
        if self.response_complete:
            return
        self.response_complete = self.response_started = True
        TIMINGS.observe("POST", self._route.uri, status, monotonic() - self._began)
        if self.disconnected:
            return
        lines = [STATUS_LINE[status], *[b"%s: %s\r\n" % header for header in headers]]
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines += (b"content-length: %d\r\n\r\n" % len(body), body)
        self._connection.answered(b"".join(lines), keep_alive=self.keep_alive)


class _NobodyWaits:
    """The event that uvicorn sets to wake a task: there is none."""

    @staticmethod
    def set() -> None:
        pass
