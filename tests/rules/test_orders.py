from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderstream.contract.errors import Malformed
from orderstream.orders import rules
from orderstream.orders.rules import NotJson, Request
from tests.builders import lines


def parse(document: Any) -> Request:
    return rules.parse(msgspec.json.encode(document))


def field_of(document: Any) -> str:
    with pytest.raises(Malformed) as caught:
        parse(document)
    return caught.value.field


class TestShapes:
    def test_items(self) -> None:
        request = parse({"userId": 42, "items": [{"sku": "ABC-001", "qty": 2}]})
        assert request == Request(None, 42, lines(("ABC-001", 2)))

    def test_product(self) -> None:
        request = parse({"orderId": "1001", "productId": "P-1", "quantity": 2})
        assert request == Request("1001", None, lines(("P-1", 2)))

    def test_item(self) -> None:
        request = parse({"order_id": "1001", "user_id": "u1", "item": "laptop", "quantity": 1})
        assert request == Request("1001", "u1", lines(("laptop", 1)))

    def test_unknown_fields_are_ignored(self) -> None:
        request = parse({"userId": 42, "items": [{"sku": "A", "qty": 2, "x": 1}], "note": "hi"})
        assert request == Request(None, 42, lines(("A", 2)))

    def test_an_id_keeps_its_type(self) -> None:
        order = {"userId": "42", "items": [{"sku": "A", "qty": 1}]}
        assert parse(order | {"orderId": 7}).order_id == 7
        assert parse(order | {"orderId": "7"}).order_id == "7"

    @given(
        order_id=st.integers(0, 2**53 - 1) | st.text("abc-1", min_size=1),
        user_id=st.integers(0, 2**53 - 1) | st.text("abc-1", min_size=1),
        sku=st.text("ABC-001", min_size=1, max_size=64),
        qty=st.integers(1, 1_000_000),
    )
    def test_the_three_shapes_agree(
        self, order_id: int | str, user_id: int | str, sku: str, qty: int
    ) -> None:
        shapes = (
            {"orderId": order_id, "userId": user_id, "items": [{"sku": sku, "qty": qty}]},
            {"orderId": order_id, "userId": user_id, "productId": sku, "quantity": qty},
            {"order_id": order_id, "user_id": user_id, "item": sku, "quantity": qty},
        )
        requests = [parse(shape) for shape in shapes]
        assert requests == [Request(order_id, user_id, lines((sku, qty)))] * 3
        assert len({request.fingerprint() for request in requests}) == 1


ITEMS: dict[str, Any] = {"userId": 1, "items": [{"sku": "A", "qty": 1}]}
PRODUCT: dict[str, Any] = {"orderId": "1", "productId": "P", "quantity": 1}
ITEM: dict[str, Any] = {"order_id": "1", "user_id": "u", "item": "I", "quantity": 1}


class TestRefusals:
    @pytest.mark.parametrize(
        ("document", "field"),
        [
            ([], ""),
            ("order", ""),
            ({}, "items"),
            ({"userId": 1}, "items"),
            ({"items": [{"sku": "A", "qty": 1}]}, "userId"),
            (ITEMS | {"items": []}, "items"),
            (ITEMS | {"items": [{"sku": "A", "qty": 1}] * 501}, "items"),
            (ITEMS | {"items": [{"sku": "A", "qty": 0}]}, "items[0].qty"),
            (ITEMS | {"items": [{"sku": "A", "qty": -1}]}, "items[0].qty"),
            (ITEMS | {"items": [{"sku": "A", "qty": 1_000_001}]}, "items[0].qty"),
            (ITEMS | {"items": [{"sku": "A", "qty": 1.5}]}, "items[0].qty"),
            (ITEMS | {"items": [{"sku": "A", "qty": "1"}]}, "items[0].qty"),
            (ITEMS | {"items": [{"sku": "A", "qty": True}]}, "items[0].qty"),
            (ITEMS | {"items": [{"sku": "A", "qty": 1}, {"sku": "", "qty": 1}]}, "items[1].sku"),
            (ITEMS | {"items": [{"sku": "A" * 65, "qty": 1}]}, "items[0].sku"),
            (ITEMS | {"items": [{"sku": "A\n", "qty": 1}]}, "items[0].sku"),
            (ITEMS | {"items": [{"sku": "A"}]}, "items[0]"),
            (ITEMS | {"items": {"sku": "A", "qty": 1}}, "items"),
            (ITEMS | {"userId": -1}, "userId"),
            (ITEMS | {"userId": 2**53}, "userId"),
            (ITEMS | {"userId": 1.5}, "userId"),
            (ITEMS | {"userId": ""}, "userId"),
            (ITEMS | {"userId": "\x00"}, "userId"),
            (ITEMS | {"orderId": ""}, "orderId"),
            (ITEMS | {"orderId": "x" * 129}, "orderId"),
            (ITEMS | {"orderId": "a\u2028b"}, "orderId"),
            (ITEMS | {"productId": "P"}, "items"),
            (PRODUCT | {"item": "I"}, "item"),
            ({"productId": "P", "quantity": 1}, "orderId"),
            ({"orderId": "1", "productId": "P"}, "quantity"),
            (PRODUCT | {"quantity": 0}, "quantity"),
            (PRODUCT | {"productId": " "}, "productId"),
            ({"order_id": "1", "item": "I", "quantity": 1}, "user_id"),
            ({"user_id": "u", "item": "I", "quantity": 1}, "order_id"),
            (ITEM | {"item": "\x7f"}, "item"),
            (ITEMS | {"order_id": "A-77"}, "order_id"),
            (ITEMS | {"user_id": 1}, "user_id"),
            (ITEMS | {"quantity": 1}, "quantity"),
            (PRODUCT | {"order_id": "1"}, "order_id"),
            (PRODUCT | {"user_id": "u"}, "user_id"),
            (ITEM | {"orderId": "1"}, "orderId"),
            (ITEM | {"userId": None}, "userId"),
        ],
    )
    def test_names_the_field(self, document: Any, field: str) -> None:
        assert field_of(document) == field

    def test_a_name_of_another_shape_comes_with_the_right_one(self) -> None:
        with pytest.raises(Malformed, match="order_id does not go with items: write orderId"):
            parse(ITEMS | {"order_id": "A-77"})

    @pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b'{"userId":1', b"\xff\xfe", b"{]"])
    def test_not_json(self, body: bytes) -> None:
        with pytest.raises(NotJson):
            rules.parse(body)

    def test_deep_nesting_is_refused_not_a_crash(self) -> None:
        with pytest.raises(Malformed):
            rules.parse(b'{"x":' * 100_000)

    @given(st.binary(max_size=200))
    def test_any_bytes_are_an_order_or_a_refusal(self, body: bytes) -> None:
        try:
            rules.parse(body)
        except Malformed:
            return


class TestFingerprint:
    def test_other_orders_have_other_fingerprints(self) -> None:
        orders = [ITEMS, ITEMS | {"userId": 2}, ITEMS | {"userId": "1"}, ITEMS | {"orderId": 1}]
        assert len({parse(order).fingerprint() for order in orders}) == 4

    def test_number_and_text_of_one_id_are_the_same_order(self) -> None:
        one, other = parse(ITEMS | {"orderId": 7}), parse(ITEMS | {"orderId": "7"})
        assert one.fingerprint() == other.fingerprint()


class TestNumberOf:
    @pytest.mark.parametrize(
        ("key", "number"),
        [
            ("12", 12),
            ("0", 0),
            ("012", None),
            ("-1", None),
            ("12a", None),
            ("", None),
            ("١٢", None),
        ],
    )
    def test_only_the_plain_form_is_a_number(self, key: str, number: int | None) -> None:
        assert rules.number_of(key) == number
