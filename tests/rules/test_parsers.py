"""The three shapes of an order against one model of the rules (spec.md 3), written apart from it.

The model reads the document as Python's own json does, and says field by field what spec.md says.
"""

import json
import unicodedata
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from orderstream.contract.errors import Malformed
from orderstream.orders import rules
from orderstream.orders.rules import NotJson, Request

SHAPES = {  # Order id, user id, what is needed of them, and the field of the goods.
    "items": ("orderId", "userId", {"userId"}),
    "productId": ("orderId", "userId", {"orderId"}),
    "item": ("order_id", "user_id", {"order_id", "user_id"}),
}
NAMES = ("orderId", "userId", "items", "productId", "item", "quantity", "order_id", "user_id")


def text_is_fine(value: Any, most: int) -> bool:
    """Not empty, not blank, not too long, nothing that controls or cannot be written."""
    if not isinstance(value, str) or not value.strip() or len(value) > most:
        return False
    return not any(unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs") for c in value)


def id_is_fine(value: Any) -> bool:
    if isinstance(value, str):
        return text_is_fine(value, 128)
    return type(value) is int and 0 <= value < 2**53


def quantity_is_fine(value: Any) -> bool:
    return type(value) is int and 1 <= value <= 1_000_000


def expected(document: Any) -> tuple[Any, Any, list[Any]] | None:
    """Return order id, user id and lines; None for what is no order."""
    if not isinstance(document, dict):
        return None
    goods = [name for name in SHAPES if name in document]
    if len(goods) != 1:
        return None
    shape = goods[0]
    order_name, user_name, needed = SHAPES[shape]
    foreign = {"orderId", "userId", "order_id", "user_id"} - {order_name, user_name}
    if shape == "items":
        foreign.add("quantity")
    if foreign & document.keys() or needed - document.keys():
        return None
    order_id, user_id = document.get(order_name), document.get(user_name)
    if order_name in document and not id_is_fine(order_id):
        return None
    unset_user = user_name == "userId" and shape == "productId" and user_id is None
    if user_name in document and not unset_user and not id_is_fine(user_id):
        return None
    if shape != "items":
        sku, quantity = document[shape], document.get("quantity")
        fine = text_is_fine(sku, 64) and quantity_is_fine(quantity)
        return (order_id, user_id, [(sku, quantity)]) if fine else None
    items = document["items"]
    if not isinstance(items, list) or not 1 <= len(items) <= 500:
        return None
    for item in items:
        if not isinstance(item, dict) or not {"sku", "qty"} <= item.keys():
            return None
        if not text_is_fine(item["sku"], 64) or not quantity_is_fine(item["qty"]):
            return None
    return order_id, user_id, [(item["sku"], item["qty"]) for item in items]


def parsed(body: bytes) -> Request | Malformed:
    try:
        return rules.parse(body)
    except Malformed as refusal:
        return refusal


def agrees(document: Any) -> None:
    """Check the parser against the model, byte for byte as a client would send it."""
    found, wanted = parsed(json.dumps(document).encode()), expected(document)
    if wanted is None:
        assert isinstance(found, Malformed), found
        assert not isinstance(found, NotJson)
        assert str(found)
    else:
        assert isinstance(found, Request), found
        lines = [(line.sku, line.qty) for line in found.items]
        assert (found.order_id, found.user_id, lines) == wanted
        assert type(found.order_id) is type(wanted[0])
        assert type(found.user_id) is type(wanted[1])


numbers = [0, 1, -1, 500, 1_000_000, 1_000_001, 2**53 - 1, 2**53, 2**63, 2**64, 10**30]
texts = ["", " ", "\u00a0", "\x00", "\x7f", "\x85", "\u2028", "\ufeff", "a\tb", "é", "🍕", "\u202e"]
longs = ["x" * 64, "x" * 65, "x" * 128, "x" * 129, "1", "1.0", "012"]
others = [True, False, None, 1.0, 1.5, -0.0, 1e30, [], {}, [1], {"sku": "A"}]
edges = st.sampled_from([*numbers, *texts, *longs, *others])
floats = st.floats(allow_nan=False, allow_infinity=False)  # Neither is JSON.
anything = edges | st.integers() | floats | st.text(max_size=5)
ids = st.integers(0, 2**53 - 1) | st.text("aé-1 ", min_size=1, max_size=9) | edges
skus = st.text("ABé-1", min_size=1, max_size=9) | edges
quantities = st.integers(1, 1_000_000) | edges
items = st.fixed_dictionaries({"sku": skus, "qty": quantities}, optional={"note": anything})
lists = st.lists(items | anything, max_size=4) | st.lists(
    st.just({"sku": "A", "qty": 1}), min_size=1, max_size=3
)


@st.composite
def documents(draw: st.DrawFn) -> Any:
    """Orders that are right, or nearly so."""
    shape = draw(st.sampled_from(sorted(SHAPES)))
    order_name, user_name, _ = SHAPES[shape]
    document: dict[str, Any] = {order_name: draw(ids), user_name: draw(ids)}
    if shape == "items":
        document["items"] = draw(lists | anything)
    else:
        document |= {shape: draw(skus), "quantity": draw(quantities)}
    for name in draw(st.lists(st.sampled_from(sorted(document)), max_size=2)):
        document.pop(name, None)
    for name in draw(st.lists(st.sampled_from([*NAMES, "note", "Items"]), max_size=1)):
        document[name] = draw(anything)
    return document


class TestTheThreeShapes:
    @settings(max_examples=2_000, deadline=None)
    @given(documents())
    @example({"userId": 1, "items": [{"sku": "A", "qty": 1}] * 500})
    @example({"userId": 1, "items": [{"sku": "A", "qty": 1}] * 501})
    def test_are_read_as_the_model_says(self, document: Any) -> None:
        agrees(document)

    @settings(max_examples=300, deadline=None)
    @given(
        st.recursive(
            anything, lambda below: st.lists(below) | st.dictionaries(st.sampled_from(NAMES), below)
        )
    )
    def test_and_so_is_any_other_document(self, document: Any) -> None:
        agrees(document)

    @settings(max_examples=500, deadline=None)
    @given(ids, ids, skus, quantities)
    def test_agree_with_one_another(self, order: Any, user: Any, sku: Any, quantity: Any) -> None:
        several = {"orderId": order, "userId": user, "items": [{"sku": sku, "qty": quantity}]}
        product = {"orderId": order, "userId": user, "productId": sku, "quantity": quantity}
        item = {"order_id": order, "user_id": user, "item": sku, "quantity": quantity}
        found = [parsed(json.dumps(shape).encode()) for shape in (several, product, item)]
        if user is None:
            found[1] = found[0]  # Only an order of a product needs no user.
        if isinstance(found[0], Request):
            assert found == [found[0]] * 3
        else:
            assert all(isinstance(answer, Malformed) for answer in found)

    @settings(max_examples=500, deadline=None)
    @given(documents(), st.integers(0, 400), st.binary(max_size=3))
    def test_of_which_a_piece_is_overwritten_are_read_or_refused(
        self, document: Any, at: int, piece: bytes
    ) -> None:
        body = json.dumps(document, ensure_ascii=False).encode()
        parsed(body[:at] + piece + body[at + len(piece) :])
