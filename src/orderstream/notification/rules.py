"""Which events a customer hears of, and in what words."""

from msgspec import Struct

from orderstream.contract.events import InventoryRejected, InventoryReserved
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


def words(event: InventoryReserved | InventoryRejected | Failed) -> str:
    """Say in one sentence what happened to the order."""
    match event:
        case InventoryReserved():
            return f"Order {event.order_id} is confirmed: {_listed(event.items)}."
        case InventoryRejected(reason="OUT_OF_STOCK"):
            return f"Order {event.order_id} is rejected: not enough of {', '.join(event.short)}."
        case InventoryRejected():
            return f"Order {event.order_id} is rejected: we do not sell {', '.join(event.short)}."
        case Failed():
            return f"Order {event.key} could not be processed; we are looking into it."


def _listed(items: tuple[Line, ...]) -> str:
    shown = ", ".join(f"{line.qty} x {line.sku}" for line in items[:3])
    return f"{shown} and {len(items) - 3} more" if len(items) > 3 else shown
