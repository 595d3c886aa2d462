"""How orders and their statuses stand in topics that programs of others write and read.

An order topic has one format: all that we write there is in it, and whatever is in a format of
others, or in our own, is read. Names are read however they are written (`order_id`, `orderId`,
`OrderId`); a field that is not known is ignored. Nothing here is used where the format is ours.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, cast

import msgspec
from msgspec import UNSET

from orderstream.contract.errors import Malformed
from orderstream.contract.events import OrderCreated, checked, decode_created, encode
from orderstream.contract.values import Contact, Id, Line

OrderFormat = Literal[
    "orderstream",
    "order-created-event",
    "order-created-event-dotnet",
    "order-product",
    "order-item",
]
StatusFormat = Literal["snake", "camel", "pascal"]

WriteOrder = Callable[[OrderCreated], bytes]


class ReadOrder(Protocol):
    """Reads an order from a record's value and key. Raises Malformed, naming the field."""

    def __call__(self, value: bytes | None, key: bytes | None = None, /) -> OrderCreated: ...


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

# What we write ------------------------------------------------------------------------------


_NAMED: Mapping[StatusFormat, Callable[[str], str]] = {
    "snake": str,
    "camel": lambda name: name[0] + name.title().replace("_", "")[1:],
    "pascal": lambda name: name.title().replace("_", ""),
}
# The names' case, what the goods are called, and whether those of an order with one line stand in
# it themselves; else they are a list.
_SHAPES: Mapping[OrderFormat, tuple[StatusFormat, str, bool]] = {
    "order-created-event": ("camel", "product_id", False),
    "order-created-event-dotnet": ("pascal", "product_id", False),
    "order-product": ("camel", "product_id", True),
    "order-item": ("snake", "item", True),
}


def writer_of(form: OrderFormat) -> WriteOrder:
    """Return what writes an order's record in a format."""
    if form == "orderstream":
        return encode
    case, goods, alone = _SHAPES[form]
    named = _NAMED[case]
    sku, quantity, items = named(goods), named("quantity"), named("items")
    order_id, user_id, created_at = named("order_id"), named("user_id"), named("created_at")
    owner, notify = named("owner"), named("notify")

    def write(order: OrderCreated) -> bytes:
        said: dict[str, Any] = {order_id: order.order_id}
        if order.user_id is not None:
            said[user_id] = order.user_id
        lines = [{sku: line.sku, quantity: line.qty} for line in order.items]
        said |= lines[0] if alone and len(lines) == 1 else {items: lines}
        said[created_at] = order.created_at
        if order.owner is not UNSET:
            said[owner] = order.owner
        if order.notify is not UNSET:
            said[notify] = order.notify
        return _encode(said)

    return write


def status_writer_of(form: StatusFormat) -> Callable[[int | str, str, str | None], bytes]:
    """Return what writes an order's id, its status, and the reason where there is one."""
    order_id, status, reason = map(_NAMED[form], ("order_id", "status", "reason"))

    def write(order: int | str, what: str, why: str | None) -> bytes:
        said = {order_id: order, status: what}
        return _encode(said if why is None else said | {reason: why})

    return write


# What we read -------------------------------------------------------------------------------

# What a field is called by those that publish orders, its best name first, with case and
# underscores left out.
_ORDER_ID = ("orderid", "id")
_USER_ID = ("userid", "customerid", "buyerid")
_ITEMS = ("items", "orderitems", "lines", "orderlines")
_SKU = ("sku", "productid", "item", "product")
_QTY = ("qty", "quantity", "units")
_CREATED_AT = ("createdat", "orderdate", "timestamp")
_CONTENT = ("content", "message", "payload", "data")


def reader_of(form: OrderFormat) -> ReadOrder:
    """Return what reads orders in a format."""
    return decode_created if form == "orderstream" else read_order


def read_order(value: bytes | None, key: bytes | None = None) -> OrderCreated:
    """Read an order in our format or in any of others. Raises Malformed, naming the field.

    A value that names no order id is the order that the record's key names. Of an envelope
    (`{"key":..., "content":...}`; the content may be JSON once more, as text) the content counts.
    """
    try:
        return decode_created(value)
    except Malformed:
        if value is None:
            raise
    said = _folded(_parsed(value))
    if _first(said, _ITEMS + _SKU) is None and (content := _first(said, _CONTENT)) is not None:
        outer = said
        said = _folded(_parsed(content) if isinstance(content, str) else content)
        said.setdefault("orderid", _first(outer, ("orderid", "key")))
    return checked(_order(said, key))


def _order(said: Mapping[str, Any], key: bytes | None) -> OrderCreated:
    order_id = _first(said, _ORDER_ID)
    if order_id is None and key:
        order_id = key.decode(errors="replace")
    owner, notify = said.get("owner"), said.get("notify")
    at = _first(said, _CREATED_AT)
    try:
        return OrderCreated(
            order_id=_id(order_id, "orderId"),
            items=tuple(_lines(said)),
            user_id=None if (user := _first(said, _USER_ID)) is None else _id(user, "userId"),
            created_at=_time(at) if isinstance(at, str) else None,
            owner=owner if isinstance(owner, str) else UNSET,
            notify=msgspec.convert(notify, Contact) if isinstance(notify, dict) else UNSET,
        )
    except msgspec.ValidationError as error:
        raise Malformed(str(error), "notify") from error


def _lines(said: Mapping[str, Any]) -> list[Line]:
    given = _first(said, _ITEMS)
    if given is None:
        return [_line(said, "")]
    if not isinstance(given, list):
        raise Malformed("the items are not a list", "items")
    items = cast(list[Any], given)
    return [_line(_folded(item), f"items[{number}].") for number, item in enumerate(items)]


def _line(said: Mapping[str, Any], where: str) -> Line:
    sku, qty = _first(said, _SKU), _first(said, _QTY)
    if type(sku) is int:
        sku = str(sku)
    if not isinstance(sku, str):
        raise Malformed("no product is named: sku, productId or item", f"{where}sku")
    if type(qty) is not int:
        raise Malformed("no quantity is named: qty or quantity, a whole number", f"{where}qty")
    return Line(sku, qty)


def _id(given: object, name: str) -> int | str:
    try:
        return msgspec.convert(given, Id)
    except msgspec.ValidationError as error:
        raise Malformed(f"{name}: {error}", name) from error


def _time(given: str) -> datetime | None:
    """Read a time; without a zone it is UTC. What cannot be read is as none: the record has one."""
    try:
        at = msgspec.convert(given, datetime)
    except msgspec.ValidationError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _first(said: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((said[name] for name in names if said.get(name) is not None), None)


def _parsed(value: bytes | str) -> Any:
    try:
        return _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)) from error


def _folded(given: Any) -> dict[str, Any]:
    """Return an object by its names without case and underscores. Raises Malformed."""
    if not isinstance(given, dict):
        raise Malformed(f"expected an object, got {type(given).__name__}")
    fields = cast(dict[str, Any], given)
    folded = {name.replace("_", "").lower(): value for name, value in fields.items()}
    if len(folded) < len(fields):
        raise Malformed("a field is named twice, in different spellings")
    return folded
