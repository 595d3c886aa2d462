"""Values for tests, with defaults where a test does not care."""

from datetime import UTC, datetime

from orderstream.contract.events import (
    Event,
    InventoryRejected,
    InventoryReleased,
    InventoryReserved,
    OrderCancelled,
    OrderCreated,
    OrderFulfilled,
    RejectionReason,
    encode,
)
from orderstream.contract.values import Line

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LATER = datetime(2026, 11, 21, 12, 1, tzinfo=UTC)


def lines(*wanted: tuple[str, int]) -> tuple[Line, ...]:
    """Return lines of (SKU, quantity)."""
    return tuple(Line(sku, qty) for sku, qty in wanted)


def an_order(
    *wanted: tuple[str, int],
    order_id: int | str = 1,
    user_id: int | str | None = 42,
    at: datetime = NOON,
) -> OrderCreated:
    """Return an accepted order, for one mug unless told otherwise."""
    items = lines(*(wanted or (("MUG", 1),)))
    return OrderCreated(order_id=order_id, user_id=user_id, items=items, created_at=at)


def reserved(order: OrderCreated, at: datetime = NOON) -> InventoryReserved:
    """Return the event that the order was reserved."""
    return InventoryReserved(
        order_id=order.order_id,
        items=order.items,
        user_id=order.user_id,
        ordered_at=order.created_at or at,
        decided_at=at,
    )


def rejected(
    order: OrderCreated,
    *short: str,
    reason: RejectionReason = "OUT_OF_STOCK",
    at: datetime = NOON,
) -> InventoryRejected:
    """Return the event that the order was rejected."""
    return InventoryRejected(
        order_id=order.order_id,
        items=order.items,
        user_id=order.user_id,
        ordered_at=order.created_at or at,
        decided_at=at,
        reason=reason,
        short=short or (() if reason == "CANCELLED" else ("MUG",)),
    )


def cancelled(order: OrderCreated, expired: bool = False, at: datetime = LATER) -> OrderCancelled:
    """Return the event that the order was cancelled, or has expired."""
    return OrderCancelled(
        order_id=order.order_id,
        cancelled_at=at,
        cause="EXPIRED" if expired else "CANCELLED",
        user_id=order.user_id,
    )


def fulfilled(order: OrderCreated, at: datetime = LATER) -> OrderFulfilled:
    """Return the event that the order was fulfilled."""
    return OrderFulfilled(order_id=order.order_id, fulfilled_at=at, user_id=order.user_id)


def released(order: OrderCreated, at: datetime = LATER) -> InventoryReleased:
    """Return the event that the order's stock is free again, after it was cancelled."""
    return InventoryReleased(
        order_id=order.order_id,
        items=order.items,
        user_id=order.user_id,
        released_at=at,
        cause="CANCELLED",
    )


def key_of(event: Event) -> bytes:
    """Return the Kafka key of an event."""
    return event.key.encode()


__all__ = [
    "LATER",
    "NOON",
    "an_order",
    "cancelled",
    "encode",
    "fulfilled",
    "key_of",
    "lines",
    "rejected",
    "released",
    "reserved",
]
