"""How events become an order's page: a fold with one result, in whatever order they come."""

from collections.abc import Iterable
from datetime import datetime
from enum import IntEnum

from msgspec import UNSET, Struct

from orderstream.contract.events import (
    Event,
    InventoryRejected,
    InventoryReleased,
    InventoryReserved,
    OrderCancelled,
    OrderCreated,
    OrderFulfilled,
)
from orderstream.contract.values import Contact, Line


class Status(IntEnum):
    """The states of an order (spec.md section 4), ranked: a later state is the greater.

    FAILED ranks below the decisions: a redriven order leaves it for one of them.
    """

    PENDING = 0
    FAILED = 10
    CONFIRMED = 20
    REJECTED = 21
    EXPIRED = 30
    CANCELLED = 31
    FULFILLED = 32


class Failed(Struct, frozen=True, gc=False):
    """An order was parked as a dead letter; its payload may be unreadable, so only its key."""

    key: str
    reason: str


class Seen(Struct, frozen=True, gc=False):
    """An event where it stands in the log, and the time that it tells of."""

    event: Event | Failed
    event_type: str
    at: datetime
    topic: str
    partition: int
    offset: int
    by: str | None = None
    cause: str | None = None


class Page(Struct):
    """What is known of one order."""

    order_key: str
    numeric_id: bool = False
    status: Status = Status.PENDING
    user_id: int | str | None = None
    owner: str | None = None
    notify: Contact | None = None
    items: tuple[Line, ...] | None = None
    reason: str | None = None
    short: tuple[str, ...] = ()
    created_at: datetime | None = None
    decided_at: datetime | None = None
    timeline: list[Seen] = []


def fold(seen: Iterable[Seen]) -> dict[str, Page]:
    """Fold events into one page per order, by order key."""
    pages: dict[str, Page] = {}
    for entry in seen:
        event = entry.event
        key = event.key
        page = pages.get(key)
        if page is None:
            page = pages[key] = Page(key)
        page.timeline.append(entry)
        match event:
            case OrderCreated():
                if page.items is None:  # What was decided on, or came first, stands.
                    page.created_at = event.created_at or entry.at
                    _ordered(page, event)
            case InventoryReserved():
                _become(page, Status.CONFIRMED)
                _decided(page, event)
            case InventoryRejected(reason="CANCELLED"):
                _become(page, Status.CANCELLED)
                _decided(page, event)
            case InventoryRejected():
                _become(page, Status.REJECTED, event.reason)
                page.short = event.short
                _decided(page, event)
            case OrderCancelled(cause="EXPIRED"):
                _become(page, Status.EXPIRED)
            case OrderCancelled():
                _become(page, Status.CANCELLED, event.reason)
            case OrderFulfilled():
                _become(page, Status.FULFILLED)
            case InventoryReleased():
                pass
            case Failed():
                _become(page, Status.FAILED, event.reason)
                continue
            case _:
                raise TypeError(f"no page knows {type(event).__name__}")
        page.numeric_id = isinstance(event.order_id, int)
    return pages


def _become(page: Page, status: Status, reason: str | None = None) -> None:
    """Take the greater status, with the reason that it came with."""
    if status > page.status:
        page.status, page.reason = status, reason
    elif status == page.status:
        page.reason = reason or page.reason


def _ordered(page: Page, event: OrderCreated | InventoryReserved | InventoryRejected) -> None:
    page.user_id, page.items = event.user_id, event.items
    page.owner = None if event.owner is UNSET else event.owner
    page.notify = None if event.notify is UNSET else event.notify


def _decided(page: Page, event: InventoryReserved | InventoryRejected) -> None:
    if page.decided_at is None:
        page.created_at, page.decided_at = event.ordered_at, event.decided_at
        _ordered(page, event)
