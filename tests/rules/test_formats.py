"""Orders and statuses in the formats of other programs."""

import json
from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from orderstream.contract.errors import Malformed
from orderstream.contract.events import OrderCreated, decode_created, encode
from orderstream.contract.formats import (
    OrderFormat,
    reader_of,
    status_writer_of,
    writer_of,
)
from orderstream.contract.values import Contact, Line

AT = datetime(2026, 11, 21, 8, 57, 49, 131039, UTC)
ONE = OrderCreated(order_id="1001", user_id="u1", items=(Line("P-1", 2),), created_at=AT)
SEVERAL = OrderCreated(order_id=7, items=(Line("P-1", 2), Line("MUG", 1)), created_at=AT)
TOLD = OrderCreated(
    order_id="x", items=(Line("P-1", 2),), owner="web", notify=Contact(email="ada@example.com")
)
FORMATS: tuple[OrderFormat, ...] = get_args(OrderFormat)
FOREIGN = [form for form in FORMATS if form != "orderstream"]
TIME = '"2026-11-21T08:57:49.131039Z"'


def read(value: Any, key: bytes | None = None, form: OrderFormat = "order-item") -> OrderCreated:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return reader_of(form)(raw, key)


class TestWritten:
    @pytest.mark.parametrize(
        ("form", "value"),
        [
            ("order-item", {"order_id": "1001", "user_id": "u1", "item": "P-1", "quantity": 2}),
            (
                "order-product",
                {"orderId": "1001", "userId": "u1", "productId": "P-1", "quantity": 2},
            ),
            (
                "order-created-event",
                {
                    "orderId": "1001",
                    "userId": "u1",
                    "items": [{"productId": "P-1", "quantity": 2}],
                },
            ),
            (
                "order-created-event-dotnet",
                {
                    "OrderId": "1001",
                    "UserId": "u1",
                    "Items": [{"ProductId": "P-1", "Quantity": 2}],
                },
            ),
        ],
    )
    def test_is_as_its_readers_know_it(self, form: OrderFormat, value: dict[str, Any]) -> None:
        written = json.loads(writer_of(form)(ONE))
        (at,) = [written.pop(name) for name in list(written) if name not in value]
        assert at == json.loads(TIME)
        assert written == value

    @pytest.mark.parametrize("form", FORMATS)
    @pytest.mark.parametrize("order", [ONE, SEVERAL, TOLD], ids=["one", "several", "told"])
    def test_is_read_as_the_order_that_it_was(self, form: OrderFormat, order: OrderCreated) -> None:
        assert reader_of(form)(writer_of(form)(order), order.key.encode()) == order

    def test_in_ours_is_what_it_always_was(self) -> None:
        assert writer_of("orderstream") is encode
        assert reader_of("orderstream") is decode_created


class TestRead:
    @pytest.mark.parametrize("form", FOREIGN)
    @pytest.mark.parametrize(
        "value",
        [
            {"OrderId": "1001", "Items": [{"ProductId": "P-1", "Quantity": 2}]},
            {"orderId": "1001", "items": [{"productId": "P-1", "quantity": 2}]},
            {"orderId": "1001", "orderItems": [{"productId": "P-1", "units": 2}]},
            {"orderId": "1001", "productId": "P-1", "quantity": 2},
            {"order_id": "1001", "item": "P-1", "quantity": 2, "created_at": 1763715469},
            {"id": "1001", "product_id": "P-1", "qty": 2, "total": 9.5, "status": None},
            {"Key": "1001", "Content": {"ProductId": "P-1", "Quantity": 2}},
            {"key": "1001", "content": '{"productId":"P-1","quantity":2}'},
            {"messageId": "5f", "message": {"orderId": "1001", "productId": "P-1", "quantity": 2}},
            {"orderId": "1001", "items": [{"sku": "P-1", "qty": 2}]},
        ],
    )
    def test_is_an_order_however_it_is_written(self, form: OrderFormat, value: Any) -> None:
        order = read(value, form=form)
        assert (order.order_id, order.items, order.created_at) == ("1001", (Line("P-1", 2),), None)

    def test_has_the_key_for_its_id_where_the_value_names_none(self) -> None:
        goods = {"productId": 5, "quantity": 2}
        assert read(goods, b"1001") == OrderCreated(order_id="1001", items=(Line("5", 2),))
        assert read(goods | {"orderId": 3}, b"1001").order_id == 3

    @pytest.mark.parametrize(
        ("said", "at"),
        [
            ("2026-11-21T08:57:49.131039Z", AT),
            ("2026-11-21T08:57:49.1310390Z", AT),  # .NET's DateTime has seven digits,
            ("2026-11-21T09:57:49.131039+01:00", AT),
            ("2026-11-21T08:57:49.131039", AT),  # or no zone.
            ("yesterday", None),
            (1763715469.131, None),  # Jackson's, unless it is told otherwise.
        ],
    )
    def test_has_its_time_where_that_can_be_read(self, said: object, at: datetime | None) -> None:
        order = read({"order_id": "1", "item": "MUG", "quantity": 1, "CreatedAt": said})
        assert order.created_at == at

    @pytest.mark.parametrize(
        ("value", "field"),
        [
            (b"", ""),
            (b"{", ""),
            (b"[]", ""),
            (b"\xff", ""),
            ({}, "orderId"),
            ({"order_id": "1", "item": "MUG"}, "qty"),
            ({"order_id": "1", "item": "MUG", "quantity": 0}, "items[].qty"),
            ({"order_id": "1", "item": "MUG", "quantity": 1.0}, "qty"),
            ({"order_id": "1", "item": "MUG", "quantity": True}, "qty"),
            ({"order_id": "1", "item": "MUG", "quantity": "1"}, "qty"),
            ({"order_id": "1", "item": ["MUG"], "quantity": 1}, "sku"),
            ({"item": "MUG", "quantity": 1}, "orderId"),
            ({"order_id": "", "item": "MUG", "quantity": 1}, "orderId"),
            ({"order_id": 2**53, "item": "MUG", "quantity": 1}, "orderId"),
            ({"order_id": 1.5, "item": "MUG", "quantity": 1}, "orderId"),
            ({"order_id": "1", "orderId": "2", "item": "MUG", "quantity": 1}, ""),
            ({"order_id": "1", "user_id": {}, "item": "MUG", "quantity": 1}, "userId"),
            ({"order_id": "1", "items": []}, "items"),
            ({"order_id": "1", "items": "MUG"}, "items"),
            ({"order_id": "1", "items": ["MUG"]}, ""),
            ({"order_id": "1", "items": [{"item": "MUG"}]}, "items[0].qty"),
            ({"order_id": "1", "item": "MUG", "quantity": 1, "notify": {"email": 5}}, "notify"),
            ({"content": "no JSON"}, ""),
        ],
    )
    def test_is_malformed_otherwise(self, value: Any, field: str) -> None:
        with pytest.raises(Malformed) as raised:
            read(value)
        assert raised.value.field == field

    def test_is_malformed_without_a_value(self) -> None:
        with pytest.raises(Malformed, match="no value"):
            reader_of("order-item")(None, b"1")

    def test_in_our_format_has_to_be_ours(self) -> None:
        foreign = {"order_id": "1001", "item": "P-1", "quantity": 2}
        with pytest.raises(Malformed):
            read(foreign, b"1001", "orderstream")


class TestStatus:
    @pytest.mark.parametrize(
        ("form", "names"),
        [
            ("snake", ("order_id", "status", "reason")),
            ("camel", ("orderId", "status", "reason")),
            ("pascal", ("OrderId", "Status", "Reason")),
        ],
    )
    def test_is_written_as_its_readers_name_it(self, form: Any, names: tuple[str, ...]) -> None:
        write = status_writer_of(form)
        confirmed = json.loads(write("1", "CONFIRMED", None))
        assert confirmed == dict(zip(names, ("1", "CONFIRMED"), strict=False))
        rejected = json.loads(write(7, "REJECTED", "OUT_OF_STOCK"))
        assert rejected == dict(zip(names, (7, "REJECTED", "OUT_OF_STOCK"), strict=True))
