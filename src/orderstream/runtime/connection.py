"""One HTTP connection, and what it may cost: uvicorn bounds neither its headers nor its time."""

import asyncio
from collections.abc import Iterable
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from orderstream.runtime.direct import DirectRoute, Exchange, Headers
from orderstream.runtime.one_write import OneWriteProtocol
from orderstream.runtime.web import PROBLEM_JSON, problem

KEEP_ALIVE_S = 75.0  # Between two requests.
HEADERS_TIMEOUT_S = 10.0  # From the connection, or a request's first byte, to its last header.
SILENCE_MAX_S = 15.0  # In the middle of a body that we are ready to read.
UNREAD_MAX_S = 60.0  # Of an answer that the client does not take.
HEADERS_MAX = 100
HEADER_BYTES_MAX = 64 << 10
# What may stand around a body, per byte of it: a chunk of one byte has five more.
FRAMING_MAX = 8
PASSED_OVER_BYTES_MAX = 64 << 20  # Of a body that was refused already.
# In the scope of a request whose route looks itself after how long its body is waited for.
OWN_PATIENCE = "orderstream.own_patience"


class Connection(OneWriteProtocol):
    """uvicorn's connection, with limits; `cut_off` looks after its time.

    Garbage behind a whole request ends the connection after that request's answer, not in its
    place: who was told 400 would send an order again that was accepted.
    """

    def __init__(self, *arguments: Any, direct: DirectRoute | None = None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._direct = direct
        self._deaf = False  # What still comes is not read.
        self._in_headers = False
        self._in_message = False
        self._requests = 0
        self._chunk_bytes = 0  # What came last.
        self._message_bytes = 0  # Of this request, but for the piece that it began in.
        self._body_bytes = 0
        self._offered = False  # Another protocol, by the request in hand.
        self._fault: tuple[int, str, str] | None = None
        self._answering: Any = None  # The request whose turn it is.
        self._unread_since: float | None = None
        self._standing: object = None  # What `cut_off` saw last, and since when.
        self._standing_since = 0.0

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        if self._deaf:
            return
        route = self._direct
        if (
            route is not None
            and not self._in_message
            and (found := route.heads.find(data)) is not None
            and self._answered_before()
        ):
            self._requests += 1
            route.take(self._exchange(route, *found))
            return
        while data and not self._deaf:
            data = self._read(data)

    def _read(self, data: bytes) -> bytes:
        """Read one piece; return what is left of it behind an offer of another protocol."""
        route = None if self._in_message else self._direct
        requests = self._requests
        self._chunk_bytes = len(data)
        self._message_bytes += self._chunk_bytes
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self._offered:
                self.handle_websocket_upgrade()
                return b""
            return self._without_offer() + data[upgrade.args[0] :]
        except httptools.HttpParserError:
            if self._fault is None:
                self._end_refused(400, "not-http", "What came is not HTTP/1.1.")
            else:
                self._end_refused(*self._fault)
        else:
            if (
                route is not None
                and isinstance(self.cycle, Exchange)
                and not self._in_message
                and self._requests == requests + 1
                and len(data) <= route.body_bytes_max
            ):
                route.heads.note(data, self.cycle.headers)
            around = self._message_bytes - FRAMING_MAX * self._body_bytes
            if self._in_message and around > HEADER_BYTES_MAX:
                self._end_refused(431, "too-large", _too_many())
        return b""

    def _without_offer(self) -> bytes:
        """Return the head of the request in hand as if it offered no other protocol.

        An offer need not be taken (RFC 9110, 7.8), and Java's own client makes one by default; but
        the parser takes the body behind it for that protocol.
        """
        lines = [b"%s %s HTTP/1.1" % (self.parser.get_method(), self.url)]
        lines += [b"%s: %s" % (n, v) for n, v in self.headers if n != b"upgrade"]
        self._offered = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # As uvicorn does.
        return b"\r\n".join([*lines, b"", b""])

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_headers = self._in_message = True
        self._requests += 1
        self._message_bytes = self._body_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin to answer the request."""
        self._in_headers = False
        if len(self.headers) > HEADERS_MAX or (
            self._message_bytes + self._chunk_bytes > HEADER_BYTES_MAX
            and len(self.url) + sum(len(n) + len(v) for n, v in self.headers) > HEADER_BYTES_MAX
        ):
            self._fault = 431, "too-large", _too_many()
            raise ValueError(self._fault)  # The parser stops at it.
        if self.parser.should_upgrade() and not self._should_upgrade():
            self._offered = self.parser.get_method() != b"CONNECT"
            if self._offered:
                return
        route = self._direct
        if route is not None and self.url in route.paths and self._is_plain_post():
            self._exchange(route, dict(self.headers))
            return
        super().on_headers_complete()

    def _exchange(self, route: DirectRoute, headers: Headers, body: bytes = b"") -> Exchange:
        exchange = Exchange(route, self, headers, body)
        self.cycle = exchange  # pyright: ignore[reportAttributeAccessIssue, reportIncompatibleVariableOverride]
        self._answering = exchange
        return exchange

    def _is_plain_post(self) -> bool:
        """Tell whether a request can be handled directly: ASGI has all that is less common."""
        return (
            self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
            and not self.expect_100_continue
            and self._answered_before()
        )

    def _answered_before(self) -> bool:
        """Tell whether all requests so far are answered, and the client takes the answers."""
        return (
            (self._answering is None or self._answering.response_complete)
            and not self.flow.write_paused
            and not self.pipeline
            and not self.transport.is_closing()
        )

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body_bytes += len(body)
        if self._body_bytes > PASSED_OVER_BYTES_MAX and self.cycle.response_complete:
            self._fault = 413, "too-large", "The body has no end."
            raise ValueError(self._fault)
        if isinstance(self.cycle, Exchange):
            self.cycle.add(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._in_message = False
        if self._offered:
            return  # It is read again without the offer; `cycle` is still the one before.
        if isinstance(self.cycle, Exchange):
            self.cycle.whole()
        else:
            super().on_message_complete()

    def answered(self, answer: bytes, *, keep_alive: bool) -> None:
        """Send the answer of an Exchange, and go on with what the client sent behind it."""
        held = self._held
        if held.is_closing():
            return
        held.inner.write(answer)
        if not keep_alive:
            held.close()
        elif self.pipeline or self.flow.read_paused:
            self.on_response_complete()
            return
        self.server_state.total_requests += 1

    def on_response_complete(self) -> None:
        """Begin to answer the next request, if it came already.

        Unlike uvicorn's, it sets no timer: `cut_off` sees to it that no connection stays idle.
        """
        self._held.flush()
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def pause_writing(self) -> None:
        """The client does not take its answer."""
        self._unread_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        self._unread_since = None
        super().resume_writing()

    def _end_refused(self, status: int, kind: str, why: str) -> None:
        """Read no more, answer what came whole before, and end; say why where nothing did."""
        self._deaf = True
        if self.pipeline and self.pipeline[0][0].more_body:
            self.pipeline.popleft()  # Its body does not come any more.
        last = self.pipeline[0][0] if self.pipeline else self._answering
        if last is None or last.response_complete:
            self._say(status, kind, why)
        elif not last.more_body:
            last.keep_alive = False  # It ends the connection when it is answered.
        elif last.response_started:
            self.transport.abort()
        else:
            last.disconnected = True  # Its own answer would come behind this one.
            last.message_event.set()
            self._say(status, kind, why)

    def _say(self, status: int, kind: str, why: str) -> None:
        body = problem(status, kind, why)
        head = f"content-type: {PROBLEM_JSON}\r\ncontent-length: {len(body)}\r\n"
        end = b"connection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head.encode() + end + body)
        self.transport.close()

    def cut_off_if_slow(self, now: float) -> None:
        """End a connection that has been waiting too long for its client."""
        if self._unread_since is not None:
            if now - self._unread_since > UNREAD_MAX_S:
                self.transport.abort()
            return
        standing, limit_s = self._stands()
        if standing is None or standing != self._standing:
            self._standing, self._standing_since = standing, now
        elif now - self._standing_since > limit_s:
            if self._deaf or self.transport.is_closing():
                self.transport.abort()
            elif self._requests == 0 or standing == ("idle", self._requests):
                self.transport.close()
            else:
                said = f"The rest of the request did not come within {limit_s:g} s."
                self._end_refused(408, "too-slow", said)

    def _stands(self) -> tuple[object, float]:
        """Return what we are waiting for, and how long at most; None where it is not the client."""
        if self.transport.is_closing():
            return "the end", UNREAD_MAX_S
        if self._deaf:
            return None, 0.0
        if self._in_headers or self._requests == 0:
            return ("headers", self._requests), HEADERS_TIMEOUT_S
        if self._in_message and not self.flow.read_paused:
            if isinstance(self.cycle, Exchange):
                return ("body", self._requests), self.cycle.body_timeout_s
            if OWN_PATIENCE in self.cycle.scope and not self.cycle.response_complete:
                return None, 0.0
            return ("body", self._requests, self._message_bytes), SILENCE_MAX_S
        if (
            not self._in_message
            and self._answering is not None
            and self._answering.response_complete
        ):
            return ("idle", self._requests), KEEP_ALIVE_S
        return None, 0.0


def _too_many() -> str:
    return f"A request may have {HEADERS_MAX} headers, of {HEADER_BYTES_MAX} bytes together."


def cut_off(connections: Iterable[Any]) -> None:
    """End the connections whose clients are too slow. Call it every second or so."""
    now = asyncio.get_running_loop().time()
    for connection in list(connections):
        if isinstance(connection, Connection):
            connection.cut_off_if_slow(now)
