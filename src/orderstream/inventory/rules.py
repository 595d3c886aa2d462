"""Who gets what is on the shelf: all lines of an order, or none."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal

from msgspec import Struct

from orderstream.contract.events import RejectionReason, ReleaseCause
from orderstream.contract.values import Line, quantities_by_sku


class DrillFailure(Exception):
    """The drill SKU was ordered: this order fails on purpose, to show what failing looks like."""


class Wanted(Struct, frozen=True, gc=False):
    """One order's wishes, by the key of its order."""

    order_key: str
    lines: tuple[Line, ...]


class Cancel(Struct, frozen=True, gc=False):
    """An order is to give back what it has."""

    order_key: str
    cause: ReleaseCause


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


Status = Literal["RESERVED", "REJECTED", "CANCELLED", "EXPIRED", "FULFILLED"]


class Standing(Struct, frozen=True):
    """What an order has now: `quantities` are set aside while it is RESERVED.

    An order whose end is read before itself has nothing until it comes: then it gets nothing if it
    was cancelled, and what it gets has left the shelf if it was fulfilled.
    """

    order_key: str
    status: Status
    quantities: Mapping[str, int]
    released_at: datetime | None = None


class NotReserved(Exception):
    """An order cannot be fulfilled: nothing is set aside for it."""

    def __init__(self, order_key: str, status: Status) -> None:
        super().__init__(f"order {order_key} cannot be fulfilled: it is {status}")


Free = dict[str, int]  # SKU -> what is on hand and not reserved; a SKU nobody stocks is absent.


def reserve(order: Wanted, free: Free, now: datetime) -> Outcome:
    """Take every line of the order from stock, or none of them; `free` is changed accordingly."""
    wanted = quantities_by_sku(order.lines)  # Two lines may name one SKU.
    short = [sku for sku, quantity in wanted.items() if free.get(sku, 0) < quantity]
    if short:
        unknown = any(sku not in free for sku in short)
        reason: RejectionReason = "UNKNOWN_SKU" if unknown else "OUT_OF_STOCK"
        return Outcome(order.order_key, wanted, reason, tuple(short), now)
    for sku, quantity in wanted.items():
        free[sku] -= quantity
    return Outcome(order.order_key, wanted, None, (), now)


def reserve_all(
    orders: Iterable[Wanted],
    known: Mapping[str, Outcome],
    ended: Mapping[str, Status],
    free: Free,
    now: datetime,
) -> dict[str, Outcome]:
    """Decide the orders that have no outcome yet, in the order they came; each is decided once.

    One that had `ended` before it came gets nothing, unless it was fulfilled.
    """
    fresh: dict[str, Outcome] = {}
    for order in orders:
        key = order.order_key
        if key in known or key in fresh:
            continue
        if ended.get(key) in ("CANCELLED", "EXPIRED"):
            fresh[key] = Outcome(key, quantities_by_sku(order.lines), "CANCELLED", (), now)
        else:
            fresh[key] = reserve(order, free, now)
    return fresh


def cancel_all(
    cancels: Iterable[Cancel], known: Mapping[str, Standing], now: datetime
) -> dict[str, Standing]:
    """Return what changes: a reservation is released, an order not known yet gets nothing later.

    What was rejected, fulfilled or released before stays as it is.
    """
    changed: dict[str, Standing] = {}
    for cancel in cancels:
        key = cancel.order_key
        standing = changed.get(key) or known.get(key)
        if standing is None:
            changed[key] = Standing(key, cancel.cause, {})
        elif standing.status == "RESERVED":
            changed[key] = Standing(key, cancel.cause, standing.quantities, now)
    return changed


def fulfil_all(order_keys: Iterable[str], known: Mapping[str, Standing]) -> dict[str, Standing]:
    """Return what changes: what is reserved leaves the shelf. Raises NotReserved."""
    changed: dict[str, Standing] = {}
    for key in order_keys:
        standing = known.get(key)
        if standing is None:
            changed[key] = Standing(key, "FULFILLED", {})
        elif standing.status not in ("RESERVED", "FULFILLED"):
            raise NotReserved(key, standing.status)
        elif standing.status == "RESERVED":
            changed[key] = Standing(key, "FULFILLED", standing.quantities)
    return changed


def taken(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """Sum what was reserved, by SKU."""
    return summed(outcome.quantities for outcome in outcomes if outcome.reason is None)


def summed(many: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Sum quantities by SKU."""
    total: dict[str, int] = {}
    for quantities in many:
        for sku, quantity in quantities.items():
            total[sku] = total.get(sku, 0) + quantity
    return total


def refuse_drill(orders: Iterable[Wanted], drill_sku: str) -> None:
    """Raise DrillFailure if one of the orders asks for the drill SKU; an empty SKU is no drill."""
    if not drill_sku:
        return
    for order in orders:
        if drill_sku in [line.sku for line in order.lines]:
            raise DrillFailure(f"order {order.order_key} asks for the drill SKU {drill_sku}")
