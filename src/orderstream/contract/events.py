"""What happened, in the words all services share: one frozen, versioned type per event.

On the wire each is a JSON object with camelCase names. A reader ignores fields it does not know,
so fields may be added; a removed or retyped field needs a new version (design.md section 4).
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from orderstream.contract.errors import Malformed
from orderstream.contract.values import (
    ID_LENGTH_MAX,
    ITEMS_MAX,
    QUANTITY_MAX,
    Contact,
    Id,
    Line,
    contact_fault,
    sku_fault,
    text_fault,
)

_RFC3339 = (  # No leap seconds; a reader of ours takes a little more.
    "^[12][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9](\\.[0-9]{1,9})?"
    "(Z|[+-][0-9]{2}:[0-9]{2})$"
)
# One without a zone is a different hour to each reader.
Time = Annotated[datetime, Meta(tz=True, extra_json_schema={"pattern": _RFC3339})]
# `decode_created` holds the lines to that. What inventory says of them may be their sum.
_Ordered = Annotated[
    tuple[Line, ...],
    Meta(
        extra_json_schema={
            "minItems": 1,
            "maxItems": ITEMS_MAX,
            "allOf": [{"items": {"properties": {"qty": {"maximum": QUANTITY_MAX}}}}],
        }
    ),
]
RejectionReason = Literal["OUT_OF_STOCK", "UNKNOWN_SKU", "CANCELLED"]
ReleaseCause = Literal["CANCELLED", "EXPIRED"]


class Event(Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """What every event says: which order, as the client wrote its id (number or text)."""

    order_id: Id
    version: Literal[1] = 1

    @property
    def key(self) -> str:
        """The order id as text: the Kafka key and the identity in every store."""
        return str(self.order_id)


class OrderCreated(Event, frozen=True, kw_only=True, rename="camel", gc=False):
    """An order was accepted. `created_at` is absent when another program wrote the record.

    `owner` names the API key that it came with; absent where none was needed. `notify` is how its
    customer is told; every event that the customer hears of repeats it.
    """

    items: _Ordered
    user_id: Id | None = None
    created_at: Time | None = None
    owner: str | UnsetType = UNSET
    notify: Contact | UnsetType = UNSET


class Decision(Event, frozen=True, kw_only=True, rename="camel", gc=False):
    """What inventory says of an order; repeats the order, so that readers need no join."""

    items: tuple[Line, ...]
    user_id: Id | None
    ordered_at: Time
    decided_at: Time
    owner: str | UnsetType = UNSET
    notify: Contact | UnsetType = UNSET


class InventoryReserved(Decision, frozen=True, kw_only=True, rename="camel", gc=False):
    """Every line of the order was set aside."""


class InventoryRejected(Decision, frozen=True, kw_only=True, rename="camel", gc=False):
    """No line was set aside; `short` names the SKUs that were missing.

    CANCELLED: the order was cancelled before inventory had read it.
    """

    reason: RejectionReason
    short: tuple[str, ...]


class OrderCancelled(Event, frozen=True, kw_only=True, rename="camel", gc=False):
    """The order is over: somebody cancelled it, or its reservation lasted no longer (`cause`).

    `by` names who, `reason` why in their words.
    """

    cancelled_at: Time
    cause: ReleaseCause = "CANCELLED"
    by: str | None = None
    reason: str | None = None
    user_id: Id | None = None
    notify: Contact | UnsetType = UNSET


class OrderFulfilled(Event, frozen=True, kw_only=True, rename="camel", gc=False):
    """What was set aside for the order has left the shelf."""

    fulfilled_at: Time
    by: str | None = None
    user_id: Id | None = None
    notify: Contact | UnsetType = UNSET


class InventoryReleased(Event, frozen=True, kw_only=True, rename="camel", gc=False):
    """What was set aside for the order is free again."""

    items: tuple[Line, ...]
    released_at: Time
    cause: ReleaseCause
    user_id: Id | None = None


# By type, as `ce_type` says it; that is also what its topic is called by default.
EVENTS: Mapping[str, type[Event]] = {
    "order.created": OrderCreated,
    "inventory.reserved": InventoryReserved,
    "inventory.rejected": InventoryRejected,
    "order.cancelled": OrderCancelled,
    "order.fulfilled": OrderFulfilled,
    "inventory.released": InventoryReleased,
}

E = TypeVar("E", bound=Event)

encode = msgspec.json.Encoder().encode


def _reader(kind: type[E]) -> Callable[[bytes | None], E]:
    """Return what reads a record as this event, and raises Malformed where it is none."""
    decode = msgspec.json.Decoder(kind).decode

    def read(value: bytes | None) -> E:
        if value is None:
            raise Malformed("the record has no value")
        try:
            return decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(str(error)) from error

    return read


# Each reads a record of its topic. Raises Malformed.
decode_reserved = _reader(InventoryReserved)
decode_rejected = _reader(InventoryRejected)
decode_released = _reader(InventoryReleased)
_created = _reader(OrderCreated)
_cancelled = _reader(OrderCancelled)
_fulfilled = _reader(OrderFulfilled)


def decode_created(value: bytes | None, _key: bytes | None = None) -> OrderCreated:
    """Read an `order.created` record. Raises Malformed, naming the field at fault.

    The record may come from a program that is not ours, so the limits are checked again here. Its
    key says nothing that it does not say itself.
    """
    return checked(_created(value))


def checked(event: OrderCreated) -> OrderCreated:
    """Return an order that is within the limits. Raises Malformed, naming the field at fault."""
    if not 1 <= len(event.items) <= ITEMS_MAX:
        raise Malformed(f"an order has 1 to {ITEMS_MAX} items, not {len(event.items)}", "items")
    _with_a_good_id(event)
    if isinstance(event.user_id, str) and (fault := text_fault(event.user_id, ID_LENGTH_MAX)):
        raise Malformed(f"userId {fault}", "userId")
    for line in event.items:
        if not 1 <= line.qty <= QUANTITY_MAX:
            said = f"qty must be from 1 to {QUANTITY_MAX:,}, is {line.qty}"
            raise Malformed(said, "items[].qty")
        if fault := sku_fault(line.sku):
            raise Malformed(f"sku {fault}", "items[].sku")
    if event.notify is not UNSET and (wrong := contact_fault(event.notify)):
        raise Malformed(f"{wrong[0]} {wrong[1]}", f"notify.{wrong[0]}")
    return event


def decode_cancelled(value: bytes | None) -> OrderCancelled:
    """Read an `order.cancelled` record. Raises Malformed."""
    return _with_a_good_id(_cancelled(value))


def decode_fulfilled(value: bytes | None) -> OrderFulfilled:
    """Read an `order.fulfilled` record. Raises Malformed."""
    return _with_a_good_id(_fulfilled(value))


def failed_order_key(
    key: bytes | None,
    value: bytes | None,
    parked_by: str | None,
    decides: str,
    read: Callable[[bytes | None, bytes | None], OrderCreated] = decode_created,
) -> str:
    """Read from a dead letter of `order.created` whose order failed.

    The value names it where it can be read; where that is what failed, the key has to do. Raises
    Malformed when it is nobody's order, or when another consumer group than the one that decides
    on orders gave up on it: that consumer has lost something then, the order has not failed.
    """
    if parked_by not in (None, decides):
        raise Malformed(f"parked by {parked_by}, which does not decide on orders")
    with suppress(Malformed):
        return read(value, key).key
    try:
        text = (key or b"").decode()
    except UnicodeDecodeError as error:
        raise Malformed("the key is not an order id") from error
    if fault := text_fault(text, ID_LENGTH_MAX):
        raise Malformed(f"the key {fault}")
    return text


def _with_a_good_id(event: E) -> E:
    order_id = event.order_id
    if isinstance(order_id, str) and (fault := text_fault(order_id, ID_LENGTH_MAX)):
        raise Malformed(f"orderId {fault}", "orderId")
    return event
