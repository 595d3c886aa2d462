"""Which events a customer hears of, in what words; and what becomes of a message that was sent."""

import zlib
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from orderstream.contract.events import (
    InventoryRejected,
    InventoryReserved,
    OrderCancelled,
    OrderCreated,
    OrderFulfilled,
    RejectionReason,
)
from orderstream.contract.values import Contact, Line


class Failed(Struct, frozen=True, gc=False):
    """An order that could not be processed; only its key is sure to be readable."""

    key: str
    at: datetime
    order: OrderCreated | None = None


class Received(Struct, frozen=True, gc=False):
    """An order that has come in; `at` is when, also where the order does not say."""

    key: str
    at: datetime
    order: OrderCreated


Told = InventoryReserved | InventoryRejected | OrderCancelled | OrderFulfilled


class Kind(StrEnum):
    """What customers are told of; the name is that of the template and of the webhook's type."""

    RECEIVED = "received"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    FULFILLED = "fulfilled"
    FAILED = "failed"


class Message(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """What is to be said of an order, in no language yet."""

    kind: Kind
    order_id: int | str
    at: datetime
    user_id: int | str | None = None
    items: tuple[Line, ...] = ()
    reason: RejectionReason | None = None
    short: tuple[str, ...] = ()
    notify: Contact | UnsetType = UNSET
    traceparent: str | None = None


class Notice(Struct, frozen=True, gc=False):
    """What one customer is told of one event."""

    event_id: str
    order_key: str
    user_id: int | str | None
    text: str
    event: Told | Received | Failed | None = None
    traceparent: str | None = None
    record: Any = None  # That told of it, where it is still in hand.


def is_told(event: Told) -> bool:
    """Tell whether the customer hears of it: a cancellation is told once, by its own event."""
    return not (isinstance(event, InventoryRejected) and event.reason == "CANCELLED")


def words(event: Told | Received | Failed) -> str:
    """Say in one sentence what happened to the order."""
    match event:
        case Received(order=order):
            return f"Order {order.order_id} has come in: {_listed(order.items)}."
        case InventoryReserved():
            return f"Order {event.order_id} is confirmed: {_listed(event.items)}."
        case InventoryRejected(reason="OUT_OF_STOCK"):
            return f"Order {event.order_id} is rejected: not enough of {', '.join(event.short)}."
        case OrderCancelled(cause="EXPIRED"):
            return f"Order {event.order_id} has expired: its goods were set aside for too long."
        case OrderCancelled():
            return f"Order {event.order_id} is cancelled."
        case OrderFulfilled():
            return f"Order {event.order_id} is on its way."
        case InventoryRejected():
            return f"Order {event.order_id} is rejected: we do not sell {', '.join(event.short)}."
        case Failed():
            return f"Order {event.key} could not be processed; we are looking into it."


def _listed(items: tuple[Line, ...]) -> str:
    shown = ", ".join(f"{line.qty} x {line.sku}" for line in items[:3])
    return f"{shown} and {len(items) - 3} more" if len(items) > 3 else shown


def message(event: Told | Received | Failed) -> Message:
    """Return what is to be said of an event."""
    match event:
        case InventoryReserved():
            return Message(
                Kind.CONFIRMED,
                event.order_id,
                event.decided_at,
                event.user_id,
                event.items,
                notify=event.notify,
            )
        case InventoryRejected():
            return Message(
                Kind.REJECTED,
                event.order_id,
                event.decided_at,
                event.user_id,
                event.items,
                event.reason,
                event.short,
                event.notify,
            )
        case OrderCancelled():
            kind = Kind.EXPIRED if event.cause == "EXPIRED" else Kind.CANCELLED
            at, user = event.cancelled_at, event.user_id
            return Message(kind, event.order_id, at, user, notify=event.notify)
        case OrderFulfilled():
            at, user = event.fulfilled_at, event.user_id
            return Message(Kind.FULFILLED, event.order_id, at, user, notify=event.notify)
        case Received(order=order) | Failed(order=order):
            if order is None:
                return Message(Kind.FAILED, event.key, event.at)
            return Message(
                Kind.RECEIVED if isinstance(event, Received) else Kind.FAILED,
                order.order_id,
                event.at,
                order.user_id,
                order.items,
                notify=order.notify,
            )


# What becomes of a message ------------------------------------------------------------------


class State(StrEnum):
    """Where a message to one channel stands."""

    PENDING = "PENDING"
    SENDING = "SENDING"
    SENT = "SENT"
    FAILED = "FAILED"  # Given up: a person may have it tried again.
    SKIPPED = "SKIPPED"  # There was nobody to tell, or they do not want to be told.


class Sent(Struct, frozen=True):
    """The channel took it."""


class Skipped(Struct, frozen=True):
    """It is not to be sent, and why."""

    why: str


class NotSent(Struct, frozen=True, kw_only=True):
    """The channel did not take it, or nobody knows (`unknown`).

    `final`: no other try will do better. `busy`: the channel takes nothing for now, or is away.
    `gone`: it wants nothing ever again. `after_s`: it said when to come back.
    """

    why: str
    unknown: bool = False
    final: bool = False
    busy: bool = False
    gone: bool = False
    after_s: float | None = None


Result = Sent | Skipped | NotSent


class Verdict(Struct, frozen=True):
    """How a message stands after a try; `due_s` is when the next one is, from now."""

    state: State
    why: str | None = None
    due_s: float = 0.0
    unknown: bool = False


def verdict(result: Result, message_id: str, tries: int, waits_s: Sequence[float]) -> Verdict:
    """Say what becomes of a message after so many tries, of which there are one more than waits.

    Each wait is made up to a tenth longer by what the message is called, so that those that failed
    together do not all come back together, and yet the same message waits the same.
    """
    match result:
        case Sent():
            return Verdict(State.SENT)
        case Skipped(why=why):
            return Verdict(State.SKIPPED, why)
        case NotSent():
            why = shortened(result.why)
            if result.final or result.gone or tries > len(waits_s):
                return Verdict(State.FAILED, why, unknown=result.unknown)
            jitter = 1 + zlib.crc32(f"{message_id}:{tries}".encode()) / 2**32 / 10
            due_s = max(waits_s[tries - 1] * jitter, result.after_s or 0.0)
            return Verdict(State.PENDING, why, due_s, result.unknown)


WHY_LENGTH_MAX = 500


def shortened(why: str) -> str:
    """Write what a server said so that it can be kept: printable, and not endless."""
    return "".join(c if c.isprintable() else " " for c in why[:WHY_LENGTH_MAX])


PAUSE_FIRST_S = 1.0
PAUSE_MAX_S = 60.0
PAUSE_ASKED_MAX_S = 600.0  # A message waits as long as it is asked to; its whole channel does not.


def pause_s(result: Result, in_a_row: int) -> float:
    """Return how long a channel is left alone after so many failures of its own in a row."""
    if not isinstance(result, NotSent) or not result.busy:
        return 0.0
    backed_off = min(PAUSE_FIRST_S * 2 ** min(in_a_row - 1, 10), PAUSE_MAX_S)
    return max(backed_off, min(result.after_s or 0.0, PAUSE_ASKED_MAX_S))
