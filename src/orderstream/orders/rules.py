"""What makes an order acceptable: the three shapes in use, read into one model (spec.md 3)."""

import hashlib
import re
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from orderstream.contract.errors import Malformed
from orderstream.contract.values import (
    ID_LENGTH_MAX,
    ITEMS_MAX,
    NUMBER_MAX,
    QUANTITY_MAX,
    Contact,
    Line,
    Sku,
    contact_fault,
    sku_fault,
    text,
    text_fault,
)

BODY_BYTES_MAX = 1 << 20
IDEMPOTENCY_KEY_LENGTH_MAX = 255
SOURCE = "/orderstream/orders"  # Of the events about orders, as CloudEvents names it.


Quantity = Annotated[int, Meta(ge=1, le=QUANTITY_MAX)]
Id = Annotated[int, Meta(ge=0, le=NUMBER_MAX)] | Annotated[str, text(ID_LENGTH_MAX)]


class Item(Struct, frozen=True, gc=False):
    """One line of an order with several."""

    sku: Sku
    qty: Quantity


Items = Annotated[list[Item], Meta(extra_json_schema={"minItems": 1, "maxItems": ITEMS_MAX})]


class OrderWithItems(Struct, frozen=True, rename="camel"):
    """{"userId":42,"items":[{"sku":"ABC-001","qty":2}]}"""

    user_id: Id
    items: Items
    order_id: Id | UnsetType = UNSET
    notify: Contact | UnsetType = UNSET


class OrderOfProduct(Struct, frozen=True, rename="camel"):
    """{"orderId":"1001","productId":"P-1","quantity":2}"""

    order_id: Id
    product_id: Sku
    quantity: Quantity
    user_id: Id | UnsetType = UNSET
    notify: Contact | UnsetType = UNSET


class OrderOfItem(Struct, frozen=True):
    """{"order_id":"1001","user_id":"u1","item":"laptop","quantity":1}"""

    order_id: Id
    user_id: Id
    item: Sku
    quantity: Quantity
    notify: Contact | UnsetType = UNSET


class AnyShape(Struct, frozen=True, gc=False):
    """All three shapes at once, so that one pass over the body tells which it is."""

    orderId: Id | UnsetType = UNSET
    userId: Id | UnsetType | None = UNSET
    items: tuple[Item, ...] | UnsetType = UNSET
    productId: str | UnsetType = UNSET
    item: str | UnsetType = UNSET
    quantity: Quantity | UnsetType = UNSET
    order_id: Id | UnsetType = UNSET
    user_id: Id | UnsetType = UNSET
    notify: Contact | UnsetType | None = UNSET


class Request(Struct, frozen=True, gc=False):
    """An acceptable order: the id is None when it is ours to give.

    `owner` names the API key that it came with; None where none is needed. `notify` is how the
    customer is told.
    """

    order_id: int | str | None
    user_id: int | str | None
    items: tuple[Line, ...]
    owner: str | None = None
    notify: Contact | UnsetType = UNSET

    def fingerprint(self) -> bytes:
        """Tell two requests apart: equal for equal orders, whatever their shape or spacing.

        The same order of another owner is another one.
        """
        order = None if self.order_id is None else str(self.order_id)
        said: tuple[object, ...] = (order, self.user_id, self.items)
        if self.owner is not None:
            said += (self.owner,)
        if self.notify is not UNSET:
            said += (self.notify,)
        return hashlib.blake2b(msgspec.json.encode(said), digest_size=16).digest()


class NotJson(Malformed):
    """The body is not JSON at all."""


# Names of other shapes, and what each is called in this one.
_NOT_WITH_PRODUCT = {"order_id": "orderId", "user_id": "userId"}
_NOT_WITH_ITEMS = {**_NOT_WITH_PRODUCT, "quantity": "qty in each item"}
_NOT_WITH_ITEM = {"orderId": "order_id", "userId": "user_id"}

_decode = msgspec.json.Decoder(AnyShape).decode
_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")


def parse(body: bytes, what: str = "body") -> Request:
    """Read an order in any of the three shapes. Raises NotJson, or Malformed with the field.

    `what` is what a message calls it.
    """
    try:
        given = _decode(body)
    except msgspec.ValidationError as error:
        message = str(error)
        at = _AT.search(message)
        field = at["path"] if at else ""
        raise Malformed(_AT.sub("", message), field) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotJson(f"the {what} is not JSON: {error}") from None
    if given.items is not UNSET:
        return _with_items(given, given.items)
    if given.productId is not UNSET:
        return _single(given, "productId", given.productId, "orderId", "userId", user_needed=False)
    if given.item is not UNSET:
        return _single(given, "item", given.item, "order_id", "user_id", user_needed=True)
    raise Malformed(
        "the order names no goods: send `items`, or `productId` and `quantity`,"
        " or `item` and `quantity`",
        "items",
    )


def _with_items(given: AnyShape, items: tuple[Item, ...]) -> Request:
    if not (given.productId is given.item is UNSET):
        raise Malformed("send either `items` or a single product, not both", "items")
    if not items:
        raise Malformed("an order needs at least one item", "items")
    if len(items) > ITEMS_MAX:
        raise Malformed(f"an order has at most {ITEMS_MAX} items, not {len(items)}", "items")
    if not (given.order_id is given.user_id is given.quantity is UNSET):
        _refuse_names(given, "items", _NOT_WITH_ITEMS)
    for number, item in enumerate(items):
        if fault := sku_fault(item.sku):
            raise Malformed(f"sku {fault}", f"items[{number}].sku")
    return Request(
        None if given.orderId is UNSET else _id(given.orderId, "orderId", needed=False),
        _id(given.userId, "userId", needed=True),
        tuple([Line(item.sku, item.qty) for item in items]),
        notify=_notify(given),
    )


def _single(
    given: AnyShape, name: str, sku: str, order_name: str, user_name: str, *, user_needed: bool
) -> Request:
    if given.productId is not UNSET and given.item is not UNSET:
        raise Malformed("send either `productId` or `item`, not both", "item")
    _refuse_names(given, name, _NOT_WITH_ITEM if user_needed else _NOT_WITH_PRODUCT)
    if fault := sku_fault(sku):
        raise Malformed(f"{name} {fault}", name)
    if given.quantity is UNSET:
        raise Malformed("quantity is required", "quantity")
    return Request(
        _id(getattr(given, order_name), order_name, needed=True),
        _id(getattr(given, user_name), user_name, needed=user_needed),
        (Line(sku, given.quantity),),
        notify=_notify(given),
    )


def _notify(given: AnyShape) -> Contact | UnsetType:
    if given.notify is UNSET or given.notify is None:
        return UNSET
    if wrong := contact_fault(given.notify):
        raise Malformed(f"{wrong[0]} {wrong[1]}", f"notify.{wrong[0]}")
    return given.notify


def _refuse_names(given: AnyShape, shape: str, names: dict[str, str]) -> None:
    """Raise Malformed for a name of another shape: ignored, the order would lose its id."""
    for name, right in names.items():
        if getattr(given, name) is not UNSET:
            raise Malformed(f"{name} does not go with {shape}: write {right}", name)


def _id(value: int | str | UnsetType | None, name: str, *, needed: bool) -> int | str | None:
    if value is UNSET or value is None:
        if needed:
            raise Malformed(f"{name} is required", name)
        return None
    if isinstance(value, str) and (fault := text_fault(value, ID_LENGTH_MAX)):
        raise Malformed(f"{name} {fault}", name)
    return value


def number_of(order_key: str) -> int | None:
    """Return the number that an order id is, or None: 12 and "12" are one id, "012" another."""
    if order_key.isascii() and order_key.isdigit() and str(int(order_key)) == order_key:
        number = int(order_key)
        return number if number <= NUMBER_MAX else None
    return None


def idempotency_key_fault(key: str) -> str | None:
    """Say what is wrong with an Idempotency-Key, or None."""
    return text_fault(key, IDEMPOTENCY_KEY_LENGTH_MAX)


# What may become of an order (spec.md section 4) -------------------------------------------

Becomes = Literal["CANCELLED", "FULFILLED", "EXPIRED"]

_LEGAL_FROM: dict[Becomes, frozenset[str]] = {
    "CANCELLED": frozenset({"PENDING", "CONFIRMED"}),
    "FULFILLED": frozenset({"CONFIRMED"}),
    "EXPIRED": frozenset({"CONFIRMED"}),
}


def may_become(status: str, becomes: Becomes) -> bool:
    """Tell whether an order of this status may change so; one that has done so already may."""
    return status == becomes or status in _LEGAL_FROM[becomes]
