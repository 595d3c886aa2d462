"""The headers around an event: CloudEvents 1.0 in Kafka's binary mode, and W3C trace context.

An event's id is derived from the order and the type of event, never random: whoever says the
same thing twice, after a crash or a redrive, says it under the same id, and readers can tell.
Names: CloudEvents Kafka protocol binding; https://www.w3.org/TR/trace-context/.
"""

import re
from collections.abc import Sequence
from datetime import datetime

import msgspec

Headers = list[tuple[str, bytes]]

_encode = msgspec.json.Encoder().encode

CE_ID = "ce_id"
CE_TYPE = "ce_type"
CE_TIME = "ce_time"
TRACEPARENT = "traceparent"
CLAIM = "orderstream-claim"  # Of order.created: an order id or Idempotency-Key that it came with.


def event_id(order_key: str, event_type: str) -> str:
    """Name the one event of this type that this order can have."""
    return f"{order_key}:{event_type}"


class Envelope:
    """Writes the headers of one type of event from one source; what is alike is made once.

    That is what never changes, and the time: many orders in turn have the same. For one thread.
    """

    def __init__(self, event_type: str, source: str) -> None:
        self._suffix = f":{event_type}".encode()
        self._fixed: Headers = [
            ("ce_specversion", b"1.0"),
            (CE_TYPE, event_type.encode()),
            ("ce_source", source.encode()),
            ("content-type", b"application/json"),
        ]
        self._at: datetime | None = None
        self._alike: Headers = []

    def headers(self, order_key: bytes, at: datetime, traceparent: bytes | None = None) -> Headers:
        """Return the headers of the order's event; `at` is in UTC."""
        if at is not self._at:
            self._at = at
            self._alike = [(CE_TIME, _encode(at)[1:-1]), *self._fixed]  # RFC 3339, without quotes.
        if traceparent is None:
            return [(CE_ID, order_key + self._suffix), *self._alike]
        return [(CE_ID, order_key + self._suffix), *self._alike, (TRACEPARENT, traceparent)]


def rfc3339(at: datetime) -> str:
    """Write a UTC time as RFC 3339 with milliseconds: 2026-11-21T10:00:00.123Z."""
    return at.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def header(headers: Sequence[tuple[str, bytes | None]] | None, name: str) -> bytes | None:
    """Return the last header of this name: appended headers put the latest value last."""
    for found, value in reversed(headers or ()):
        if found == name:
            return value
    return None


_CONTEXT_LENGTH = 55
_CONTEXT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32}-)[0-9a-f]{32}-(?!0{16}-)[0-9a-f]{16}-[0-9a-f]{2}"
)


def read_traceparent(said: bytes | None) -> bytes | None:
    """Return a W3C trace context as it may be handed on; None for what is none.

    Of a later version than 00 only what that has, too, is kept.
    """
    if said is None or not _CONTEXT.match(said):
        return None
    if len(said) > _CONTEXT_LENGTH and (said.startswith(b"00") or said[_CONTEXT_LENGTH] != 45):
        return None
    return said[:_CONTEXT_LENGTH]


def is_sampled(traceparent: bytes) -> bool:
    """Tell whether who began the trace wants it recorded; the context was read before."""
    return bool(int(traceparent[53:55], 16) & 1)


def context_of(headers: Sequence[tuple[str, bytes | None]] | None) -> bytes | None:
    """Return the W3C trace context that a record carries, if it is one."""
    return read_traceparent(header(headers, TRACEPARENT))
