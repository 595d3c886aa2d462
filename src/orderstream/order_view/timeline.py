"""What happened to an order: the entries of its timeline, as they are stored and shown."""

from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from orderstream.contract.envelope import event_id, rfc3339
from orderstream.order_view.rules import Seen


class Entry(Struct, rename="camel", omit_defaults=True, gc=False):
    """One event of an order and where it stands.

    The topic is left out where it is called as the type, and the event's id follows from order and
    type: PostgreSQL's work for a page grows with what is written.
    """

    type: str
    at: datetime
    partition: int
    offset: int
    topic: str = ""
    by: str | None = None
    cause: str | None = None

    @classmethod
    def of(cls, seen: Seen) -> "Entry":
        """Return the entry of an event."""
        event_type = seen.event_type
        return cls(
            event_type,
            seen.at,
            seen.partition,
            seen.offset,
            "" if seen.topic == event_type else seen.topic,
            seen.by,
            seen.cause,
        )

    def shown(self, order_key: str) -> dict[str, Any]:
        """Return it as the API shows it."""
        shown: dict[str, Any] = {
            "type": self.type,
            "at": rfc3339(self.at),
            "eventId": event_id(order_key, self.type),
            "topic": self.topic or self.type,
            "partition": self.partition,
            "offset": self.offset,
        }
        if self.by is not None:
            shown["by"] = self.by
        if self.cause is not None:
            shown["cause"] = self.cause
        return shown


def shown(seen: Seen) -> dict[str, Any]:
    """Return an event as a timeline shows it."""
    return Entry.of(seen).shown(seen.event.key)


_decode = msgspec.json.Decoder(list[Entry]).decode


def read_timeline(order_key: str, stored: str) -> list[dict[str, Any]]:
    """Return what happened, in time; an event that was said twice happened once."""
    entries = _decode(stored)
    entries.sort(key=lambda e: (e.at, e.topic or e.type, e.partition, e.offset))
    said: set[tuple[str, str]] = set()
    shown: list[dict[str, Any]] = []
    for entry in entries:
        event = entry.type, entry.topic or entry.type
        if event not in said:
            said.add(event)
            shown.append(entry.shown(order_key))
    return shown
