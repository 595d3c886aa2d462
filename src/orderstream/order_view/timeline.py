"""What happened to an order: the entries of its timeline, as they are stored and shown."""

from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from orderstream.contract.envelope import event_id, rfc3339
from orderstream.order_view.rules import Seen


class Entry(Struct, rename="camel", omit_defaults=True, gc=False):
    """One event of an order and where it stands."""

    type: str
    at: datetime
    event_id: str
    topic: str
    partition: int
    offset: int
    by: str | None = None
    cause: str | None = None

    @classmethod
    def of(cls, seen: Seen) -> "Entry":
        """Return the entry of an event."""
        event_type = seen.event_type
        return cls(
            event_type,
            seen.at,
            event_id(seen.event.key, event_type),
            seen.topic,
            seen.partition,
            seen.offset,
            seen.by,
            seen.cause,
        )

    def shown(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return msgspec.to_builtins(self) | {"at": rfc3339(self.at)}


_decode = msgspec.json.Decoder(list[Entry]).decode


def read_timeline(stored: str) -> list[dict[str, Any]]:
    """Return what happened, in time; an event that was said twice happened once."""
    entries = _decode(stored)
    entries.sort(key=lambda e: (e.at, e.topic, e.partition, e.offset))
    said: set[tuple[str, str]] = set()
    shown: list[dict[str, Any]] = []
    for entry in entries:
        if (entry.event_id, entry.topic) not in said:
            said.add((entry.event_id, entry.topic))
            shown.append(entry.shown())
    return shown
