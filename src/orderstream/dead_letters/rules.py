"""What a dead letter says of itself, which ones are meant, and what is tried again.

Header names and binary types are Spring Kafka's, both of its dialects: `kafka_dlt-original-*` and
`kafka_dlt-exception-*`, and those of its retry topics, `kafka_original-*` and `kafka_exception-*`.
Original headers are appended on each pass, so the last one is the latest; partitions and attempts
are int32 (attempts also one byte), offsets and times int64, all big-endian.
"""

import re
from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Any, Literal, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from orderstream.contract.envelope import Headers
from orderstream.contract.errors import Malformed

Action = Literal["redriven", "discarded"]

_ORIGIN = ("kafka_dlt-original-", "kafka_original-")
_FAULT = ("kafka_dlt-exception-", "kafka_exception-", "kafka_dlt-key-exception-")
_RETRY = "retry_topic-"
_DELIVERY = "kafka_deliveryAttempt"
_NUMBER = re.compile(
    r"(kafka_(dlt-)?original-(partition|offset|timestamp)"
    r"|retry_topic-(attempts|backoff-timestamp|original-timestamp)|kafka_deliveryAttempt)$"
)
_NUMBER_BYTES_MAX = 8
_LONG_NUMBER = re.compile(r"\d{3,}")
_PLACE = re.compile(r"([A-Za-z0-9._-]+)\[(\d{1,9})\]@(\d{1,18})")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d{1,9})\]")


class Place(NamedTuple):
    """Where a record stands, written `topic[partition]@offset`."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


def parse_place(text: str) -> Place:
    """Read `topic[partition]@offset`. Raises Malformed."""
    found = _PLACE.fullmatch(text)
    if found is None:
        raise Malformed(f"{text}: write TOPIC[PARTITION]@OFFSET, as in order.created.DLT[0]@12")
    return Place(found[1], int(found[2]), int(found[3]))


class Handled(Struct, frozen=True, rename="camel", omit_defaults=True):
    """What was done with a dead letter: the value of a record in `dead-letters.handled`."""

    action: Action
    by: str
    at: datetime
    note: str = ""
    to: str = ""
    edited: bool = False


class Pass(Struct, frozen=True, rename="camel"):
    """One time that a record failed for good: where it stood, and whose group gave up on it."""

    topic: str | None
    partition: int | None
    offset: int | None
    time_ms: int | None
    group: str | None


class Stored(Protocol):
    """A record as a broker gives it."""

    def topic(self) -> str | None: ...
    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...
    def key(self) -> Any: ...
    def value(self) -> Any: ...
    def headers(self) -> Any: ...
    def timestamp(self) -> tuple[int, int]: ...


class Brief(Struct, frozen=True, array_like=True):
    """What lists show of a dead letter, and choose it by."""

    parked_ms: int
    key: bytes | None
    order: str | None
    origin: Pass
    times: int
    exception: str | None
    reason: str | None

    @property
    def cause(self) -> str:
        """The kind of error and its reason, without what differs between orders."""
        kind = (self.exception or "unknown").rsplit(".", 1)[-1]
        return f"{kind}: {_LONG_NUMBER.sub('...', _pattern(self.reason, self.order))}"


def _pattern(reason: str | None, order: str | None) -> str:
    said = reason or "unknown"
    if not order or order not in said:
        return said
    # Not inside another word or number: an order may be called 3.
    before, *parts = said.split(order)
    for part in parts:
        alone = not (before[-1:].isalnum() or part[:1].isalnum())
        before += ("..." if alone else order) + part
    return before


class DeadLetter(Struct, frozen=True):
    """A record among the dead letters; what its headers do not say is None.

    `passes` has one entry for each time that it failed, the latest last.
    """

    place: Place
    parked_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    passes: tuple[Pass, ...]
    exception: str | None
    reason: str | None
    stacktrace: str | None
    attempts: int | None

    @property
    def origin(self) -> Pass:
        """Where it stood when it failed the last time."""
        return self.passes[-1] if self.passes else Pass(None, None, None, None, None)

    @property
    def order(self) -> str | None:
        """The order that it is about: its payload's, or else the key."""
        try:
            return str(_order_of(self.value or b"").order_id)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None if self.key is None else text(self.key)

    @property
    def pattern(self) -> str:
        """The reason with the order left out, so that one fault reads the same for each order."""
        return _pattern(self.reason, self.order)

    @property
    def brief(self) -> Brief:
        """What lists show of it."""
        return Brief(
            self.parked_ms,
            self.key,
            self.order,
            self.origin,
            len(self.passes),
            self.exception,
            self.reason,
        )

    @property
    def cause(self) -> str:
        """See Brief."""
        return self.brief.cause


class _Order(Struct, rename="camel"):
    order_id: int | str


_order_of = msgspec.json.Decoder(_Order).decode


def read(record: Stored) -> DeadLetter:
    """Read a dead letter, whoever wrote it; what it does not say is None."""
    headers: Headers = [(name, value or b"") for name, value in record.headers() or ()]
    passes = zip_longest(
        _all(headers, "topic"),
        _all(headers, "partition"),
        _all(headers, "offset"),
        _all(headers, "timestamp"),
        _all(headers, "consumer-group"),
    )
    return DeadLetter(
        place=Place(record.topic() or "", record.partition() or 0, record.offset() or 0),
        parked_ms=record.timestamp()[1],
        key=record.key(),
        value=record.value(),
        headers=headers,
        passes=tuple(
            Pass(_text(topic), _number(partition), _number(offset), _number(at), _text(group))
            for topic, partition, offset, at, group in passes
        ),
        exception=_text(_fault(headers, "cause-fqcn") or _fault(headers, "fqcn")),
        reason=_text(_fault(headers, "message")),
        stacktrace=_text(_fault(headers, "stacktrace")),
        attempts=_number(_last(headers, {_RETRY + "attempts", _DELIVERY})),
    )


def _fault(headers: Headers, part: str) -> bytes | None:
    return _last(headers, {prefix + part for prefix in _FAULT})


def _all(headers: Headers, of_origin: str) -> list[bytes]:
    names = {prefix + of_origin for prefix in _ORIGIN}
    return [value for name, value in headers if name in names]


def _last(headers: Headers, names: Collection[str]) -> bytes | None:
    return next((value for name, value in reversed(headers) if name in names), None)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")


def _number(value: bytes | None) -> int | None:
    if not value or len(value) > _NUMBER_BYTES_MAX:
        return None
    return int.from_bytes(value, "big", signed=True)


def text(value: bytes) -> str:
    """Write bytes as the text that they are, or else as hex."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"0x{value.hex()}"


def header_value(name: str, value: bytes) -> int | str:
    """Decode a header: Spring Kafka's numbers as numbers, other bytes as text or hex."""
    if _NUMBER.match(name):
        number = _number(value)
        return text(value) if number is None else number
    return text(value)


class Wanted(Struct, frozen=True):
    """Which dead letters: those that fit every part given."""

    reason: str | None = None
    order: str | None = None
    group: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    cause: str | None = None

    def fits(self, letter: DeadLetter | Brief) -> bool:
        """Tell whether this one is meant."""
        said = f"{letter.exception}: {letter.reason}".lower()
        return (
            (self.reason is None or self.reason.lower() in said)
            and (self.order is None or self.order in (letter.order, text(letter.key or b"")))
            and self.group in (None, letter.origin.group)
            and (self.since_ms is None or letter.parked_ms >= self.since_ms)
            and (self.until_ms is None or letter.parked_ms < self.until_ms)
            and (self.cause is None or self.cause == letter.cause)
        )


def headers_again(headers: Headers) -> Headers:
    """Return the headers of a record that is tried again: its history, and none of its tries.

    What a retry topic wrote is kept under the dead letters' names: left as it is, it would be
    taken for the origin and the count of tries of the new pass.
    """
    kept: Headers = []
    for name, value in headers:
        if name.startswith(_RETRY) or name == _DELIVERY:
            continue
        kept_as = name
        for prefix, instead in ((_ORIGIN[1], _ORIGIN[0]), (_FAULT[1], _FAULT[0])):
            if name.startswith(prefix):
                kept_as = instead + name.removeprefix(prefix)
        kept.append((kept_as, value))
    return kept


def edited(value: bytes | None, changes: Sequence[tuple[str, str]]) -> bytes:
    """Return a JSON payload with the parts at these paths replaced: `items[0].qty` by `2`.

    What is no JSON is taken as text. Raises Malformed for a path that leads nowhere.
    """
    try:
        document: Any = msgspec.json.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the payload is not JSON, so no part of it can be set: {error}") from error
    for path, new in changes:
        steps = _steps(path)
        try:
            inside: Any = document
            for step in steps[:-1]:
                inside = inside[step]
            if isinstance(inside, dict) and isinstance(steps[-1], int):
                raise KeyError(path)
            inside[steps[-1]] = _json_or_text(new)
        except (KeyError, IndexError, TypeError):
            raise Malformed(f"{path}: the payload has no such part", path) from None
    return msgspec.json.encode(document)


def _steps(path: str) -> list[str | int]:
    found = list(_STEP.finditer(path))
    if not found or "".join(step[0] for step in found) != path:
        raise Malformed(f"{path}: write a path such as items[0].qty", path)
    return [step[1] if step[2] is None else int(step[2]) for step in found]


def _json_or_text(new: str) -> Any:
    try:
        return msgspec.json.decode(new)
    except msgspec.DecodeError:
        return new
