"""As much of HTTP/1.1 as a load generator needs: whole requests as bytes, answers read cheaply."""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

HEAD_BYTES_MAX = 64 << 10
BODY_BYTES_MAX = 16 << 20
DIGITS_MAX = 9  # Of a number in a head; Python itself refuses to read one of thousands.
RETRY_AFTER_DATE_S = 1.0  # For a Retry-After that is a date: asked again after this.
VERSION = b"HTTP/1.1 "


class NotHttp(Exception):
    """What came is no answer that we can read; the connection is of no more use."""


class Answer(NamedTuple):
    """One answer; `retry_after` in seconds, `close` when the server ends the connection with it."""

    status: int
    body: bytes
    retry_after: float | None
    close: bool


class AnswerReader:
    """Reads the answers of one connection, one request at a time, from pieces of any size."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Answer | None:
        """Return the answer once the last of it has come. Raises NotHttp."""
        data = self._rest + data
        while True:
            end = data.find(b"\r\n\r\n")
            if end > HEAD_BYTES_MAX or (end < 0 and len(data) > HEAD_BYTES_MAX + 3):
                raise NotHttp("an answer whose head does not end")
            if end < 0:
                if not data.startswith(VERSION) and not VERSION.startswith(data):
                    raise NotHttp("no HTTP/1.1 answer")
                self._rest = data
                return None
            head = data[:end].lower()
            status = _status(head)
            if status >= 200:
                break
            data = data[end + 4 :]  # An interim answer: the real one follows.
        found = _body(head, status, data, end + 4)
        if found is None:
            self._rest = data
            return None
        body, stop = found
        if len(data) > stop:
            raise NotHttp("more bytes than one answer has")
        self._rest = b""
        return Answer(
            status,
            body,
            _retry_after(head) if status in (429, 503) else None,
            b"\r\nconnection:" in head and _field(head, b"\r\nconnection:") == b"close",
        )


def _body(head: bytes, status: int, data: bytes, begin: int) -> tuple[bytes, int] | None:
    """Return the body and where it ends, or None while there is more to come."""
    if status in (204, 304):
        return b"", begin
    if b"\r\ntransfer-encoding:" in head and _field(head, b"\r\ntransfer-encoding:") == b"chunked":
        return _chunks(data, begin)
    length = _field(head, b"\r\ncontent-length:")
    if length is None:
        raise NotHttp("an answer without Content-Length")
    if not length.isdigit() or len(length) > DIGITS_MAX or int(length) > BODY_BYTES_MAX:
        raise NotHttp("an answer with a wrong Content-Length")
    stop = begin + int(length)
    return None if len(data) < stop else (data[begin:stop], stop)


def _status(head: bytes) -> int:
    code = head[9:12]
    if not head.startswith(b"http/1.1 ") or len(code) != 3 or not code.isdigit():
        raise NotHttp("no HTTP/1.1 answer")
    return int(code)


def _field(head: bytes, name: bytes) -> bytes | None:
    at = head.find(name)
    if at < 0:
        return None
    at += len(name)
    end = head.find(b"\r\n", at)
    return (head[at:] if end < 0 else head[at:end]).strip()


def _retry_after(head: bytes) -> float | None:
    value = _field(head, b"\r\nretry-after:")
    if value is None:
        return None
    if not value.isdigit():
        return RETRY_AFTER_DATE_S
    return float(value[:DIGITS_MAX])


def _chunks(data: bytes, at: int) -> tuple[bytes, int] | None:
    """Return a chunked body and where it ends, or None while there is more to come."""
    if len(data) - at > 2 * BODY_BYTES_MAX:
        raise NotHttp("an answer too large")
    parts: list[bytes] = []
    while (line := data.find(b"\r\n", at)) >= 0:
        try:
            size = int(data[at:line].partition(b";")[0], 16)
        except ValueError:
            raise NotHttp("a chunk without a size") from None
        begin = line + 2
        if size < 0 or size > BODY_BYTES_MAX:
            raise NotHttp("a chunk too large")
        at = begin + size + 2
        if len(data) < at:
            return None
        if data[at - 2 : at] != b"\r\n":  # Trailers too: none of the servers sends any.
            raise NotHttp("a chunk that does not end where it says")
        if size == 0:
            return b"".join(parts), at
        parts.append(data[begin : begin + size])
    if len(data) - at > HEAD_BYTES_MAX:
        raise NotHttp("a chunk without a size")
    return None


def post_request(
    authority: str, path: str, body: bytes, headers: Mapping[str, str] | None = None
) -> bytes:
    """Return a whole POST of JSON as bytes."""
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {authority}\r\n{more}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def with_order_id(request: bytes, problem: bytes) -> bytes:
    """Return the request to repeat after a 503: with the order id, if the problem names one.

    So a repeat of an order whose outcome is unknown stays one order (spec.md section 3).
    """
    try:
        order_id = msgspec.json.decode(problem, type=_Problem).orderId
    except (msgspec.DecodeError, UnicodeDecodeError):
        return request
    if order_id is None:
        return request
    head, _, body = request.partition(b"\r\n\r\n")
    order = msgspec.json.decode(body, type=dict[str, object]) | {"orderId": order_id}
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length:")]
    body = msgspec.json.encode(order)
    lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class _Problem(msgspec.Struct):
    orderId: int | str | None = None
