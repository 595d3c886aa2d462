"""Who gets what is on the shelf: all lines of an order, or none."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from msgspec import Struct

from orderstream.contract.events import RejectionReason
from orderstream.contract.values import Line, quantities_by_sku


class DrillFailure(Exception):
    """The drill SKU was ordered: this order fails on purpose, to show what failing looks like."""


class Wanted(Struct, frozen=True, gc=False):
    """One order's wishes, by the key of its order."""

    order_key: str
    lines: tuple[Line, ...]


class Outcome(Struct, frozen=True):
    """What was decided for an order, once and for ever.

    `reason` is None when all of `quantities` were reserved; otherwise none was, and `short` names
    the SKUs that were missing.
    """

    order_key: str
    quantities: Mapping[str, int]
    reason: RejectionReason | None
    short: tuple[str, ...]
    decided_at: datetime


Free = dict[str, int]  # SKU -> what is on hand and not reserved; a SKU nobody stocks is absent.


def reserve(order: Wanted, free: Free, now: datetime) -> Outcome:
    """Take every line of the order from stock, or none of them; `free` is changed accordingly."""
    wanted = quantities_by_sku(order.lines)  # Two lines may name one SKU.
    short = tuple(sku for sku, quantity in wanted.items() if free.get(sku, 0) < quantity)
    if short:
        unknown = any(sku not in free for sku in short)
        reason: RejectionReason = "UNKNOWN_SKU" if unknown else "OUT_OF_STOCK"
        return Outcome(order.order_key, wanted, reason, short, now)
    for sku, quantity in wanted.items():
        free[sku] -= quantity
    return Outcome(order.order_key, wanted, None, (), now)


def reserve_all(
    orders: Iterable[Wanted], known: Mapping[str, Outcome], free: Free, now: datetime
) -> dict[str, Outcome]:
    """Decide the orders that have no outcome yet, in the order they came; each is decided once."""
    fresh: dict[str, Outcome] = {}
    for order in orders:
        if order.order_key not in known and order.order_key not in fresh:
            fresh[order.order_key] = reserve(order, free, now)
    return fresh


def taken(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """Sum what was reserved, by SKU."""
    total: dict[str, int] = {}
    for outcome in outcomes:
        if outcome.reason is None:
            for sku, quantity in outcome.quantities.items():
                total[sku] = total.get(sku, 0) + quantity
    return total


def refuse_drill(orders: Iterable[Wanted], drill_sku: str) -> None:
    """Raise DrillFailure if one of the orders asks for the drill SKU; an empty SKU is no drill."""
    if not drill_sku:
        return
    for order in orders:
        if any(line.sku == drill_sku for line in order.lines):
            raise DrillFailure(f"order {order.order_key} asks for the drill SKU {drill_sku}")
