"""A route that is answered without ASGI: no task, scope or event between the socket and it.

An ASGI app is asked by a task of its own, which is sent the body in events and sends the answer in
two more. A POST that only has to be read and passed on costs less than that around it, so the
server hands it over whole: the handler is called with the request, and calls back with the answer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

if TYPE_CHECKING:
    from orderstream.runtime.connection import Connection

Headers = list[tuple[bytes, bytes]]
Answer = Callable[[int, Headers, bytes], None]
Handler = Callable[[Headers, bytes, Answer], None]


@dataclass(frozen=True, slots=True)
class DirectRoute:
    """POSTs to some paths; `handle` raises nothing, and calls `Answer` once, now or later."""

    paths: frozenset[bytes]
    handle: Handler
    body_bytes_max: int
    body_timeout_s: float
    too_large: Callable[[Answer], None]


class Exchange:
    """One request to a direct route and its answer; it stands in for uvicorn's cycle."""

    __slots__ = (
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
