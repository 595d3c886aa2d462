"""Which events a customer hears of, and in what words."""

from msgspec import Struct

from orderstream.contract.events import (
    InventoryRejected,
    InventoryReserved,
    OrderCancelled,
    OrderFulfilled,
)
from orderstream.contract.values import Line


class Failed(Struct, frozen=True, gc=False):
    """An order that could not be processed; only its key is sure to be readable."""

    key: str


class Notice(Struct, frozen=True, gc=False):
    """What one customer is told of one event."""

    event_id: str
    order_key: str
    user_id: int | str | None
    text: str


Told = InventoryReserved | InventoryRejected | OrderCancelled | OrderFulfilled


def is_told(event: Told) -> bool:
    """Tell whether the customer hears of it: a cancellation is told once, by its own event."""
    return not (isinstance(event, InventoryRejected) and event.reason == "CANCELLED")


def words(event: Told | Failed) -> str:
    """Say in one sentence what happened to the order."""
    match event:
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
