"""What a consumer's function is given: events, each with where it comes from."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from orderstream.contract.envelope import CE_ID, CE_TIME, header
from orderstream.contract.errors import Malformed
from orderstream.contract.events import (
    decode_cancelled,
    decode_fulfilled,
    decode_rejected,
    decode_released,
    decode_reserved,
)
from orderstream.contract.topics import Topics
from orderstream.runtime.clock import from_epoch_ms
from orderstream.runtime.failure import origin_of, seen_ms
from orderstream.runtime.stage import Record


class Decode(Protocol):
    """Reads the value of a record, with its key; raises Malformed."""

    def __call__(self, value: bytes | None, key: bytes | None = None, /) -> Any: ...


_DEFAULTS = Topics()


@dataclass(frozen=True, slots=True)
class Event:
    """One record: `data` is an event of contract/events.py, or what JSON says in another topic.

    `topic` is called as in the decorator. Another try has the time, place and id of the first.
    """

    data: Any
    topic: str
    record: Record

    @property
    def key(self) -> str | None:
        """The record's key as text; the order's id in topics of ours."""
        key = self.record.key()
        return None if key is None else key.decode(errors="replace")

    @property
    def partition(self) -> int:
        """The partition that it was first read from."""
        return origin_of(self.record)[1]

    @property
    def offset(self) -> int:
        """Where it stood in there."""
        return origin_of(self.record)[2]

    @property
    def headers(self) -> dict[str, bytes]:
        """The headers; of several with one name the last."""
        return {name: value or b"" for name, value in self.record.headers() or ()}

    @property
    def id(self) -> str:
        """The event's own id (`ce_id`), the same however often it is said, or else its place."""
        found = header(self.record.headers(), CE_ID)
        if found is not None:
            return found.decode(errors="replace")
        topic, partition, offset = origin_of(self.record)
        return f"{topic}[{partition}]@{offset}"

    @property
    def time(self) -> datetime:
        """When it happened (`ce_time`), or else when it was written, in UTC."""
        said = header(self.record.headers(), CE_TIME)
        if said is not None:
            with suppress(ValueError, OverflowError):
                at = datetime.fromisoformat(said.decode("ascii", "replace"))
                return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        return from_epoch_ms(seen_ms(self.record))


@dataclass(frozen=True, slots=True)
class Events:
    """The events of one transaction, in order within each partition; `now` is the time it has."""

    events: Sequence[Event]
    now: datetime

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)


def _decode_json(value: bytes | None) -> Any:
    if value is None:
        return None  # A tombstone.
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"not JSON: {error}") from error


_DECODES: dict[str, Callable[[bytes | None], Any]] = {
    _DEFAULTS.inventory_reserved: decode_reserved,
    _DEFAULTS.inventory_rejected: decode_rejected,
    _DEFAULTS.order_cancelled: decode_cancelled,
    _DEFAULTS.order_fulfilled: decode_fulfilled,
    _DEFAULTS.inventory_released: decode_released,
}


def topic_in_force(name: str, topics: Topics) -> str:
    """Return what a topic is called in this installation; one that is not ours keeps its name."""
    return dict(zip(_DEFAULTS.all(), topics.all(), strict=False)).get(name, name)


def decode_of(topic: str, topics: Topics) -> Decode:
    """Return what reads the records of a topic by its name in force."""
    if topic == topics.order_created:
        return topics.read_order
    ours = {topic_in_force(name, topics): decode for name, decode in _DECODES.items()}
    decode = ours.get(topic, _decode_json)
    return lambda value, _key=None: decode(value)
