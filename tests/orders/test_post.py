"""POST /api/orders over a socket: what is accepted, under which id, and what is refused."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from orderstream.contract.envelope import header
from orderstream.contract.events import decode_created
from orderstream.orders.ids import partition_of
from orderstream.orders.rules import BODY_BYTES_MAX
from orderstream.orders.store_postgres import FIRST_ID
from tests.builders import lines
from tests.kafka.topics import headers_of
from tests.orders.service import ITEM, ITEMS, PRODUCT, OrderService, problem_of

_ids: Iterator[int] = count(1)


def fresh() -> str:
    """Return an order id or a key that no other test uses."""
    return f"post-{next(_ids)}"


class TestShapes:
    @pytest.mark.parametrize(
        ("shape", "order_name", "user", "wanted"),
        [
            (ITEMS, "orderId", 42, ("ABC-001", 2)),
            (PRODUCT, "orderId", None, ("P-1", 2)),
            (ITEM, "order_id", "u1", ("laptop", 1)),
        ],
        ids=["items", "product", "item"],
    )
    def test_each_is_accepted_and_in_the_log(
        self,
        service: OrderService,
        shape: dict[str, Any],
        order_name: str,
        user: int | str | None,
        wanted: tuple[str, int],
    ) -> None:
        order_id = fresh()
        answer = service.place(shape | {order_name: order_id}, traceparent="00-a-b-01")
        assert (answer.status_code, answer.json()) == (
            202,
            {"orderId": order_id, "status": "PENDING"},
        )
        assert answer.headers["location"] == f"/api/orders/{order_id}"
        assert answer.headers["content-type"] == "application/json"
        (record,) = service.records(order_id)
        event = decode_created(record.value())
        assert (event.order_id, event.user_id, event.items) == (order_id, user, lines(wanted))
        assert header(headers_of(record), "ce_id") == f"{order_id}:order.created".encode()
        assert header(headers_of(record), "traceparent") == b"00-a-b-01"

    def test_the_short_path_is_the_same(self, service: OrderService) -> None:
        answer = service.http.post("/orders", json=ITEMS)
        assert answer.status_code == 202
        assert len(service.records(answer.json()["orderId"])) == 1


class TestIds:
    def test_one_that_is_given_is_a_number_of_its_own(self, service: OrderService) -> None:
        ids = [service.place(ITEMS).json()["orderId"] for _ in range(3)]
        assert all(type(number) is int and number >= FIRST_ID for number in ids)
        assert len(set(ids)) == 3

    def test_those_of_orders_that_come_together_go_to_kafka_together(
        self, service: OrderService
    ) -> None:
        """Under load an id is of the partition whose turn it is, and Kafka is of the same mind."""
        with ThreadPoolExecutor(64) as clients:
            answers = list(clients.map(lambda _: service.place(ITEMS), range(640)))
        given = {str(answer.json()["orderId"]).encode() for answer in answers}
        assert len(given) == 640
        records = [record for record in service.log() if record.key() in given]
        partitions = service.settings.partitions
        assert all(partition_of(r.key() or b"", partitions) == r.partition() for r in records)
        assert len(records) == 640

    @pytest.mark.parametrize("order_id", [71, "72", "073", "a/b c", "é"])
    def test_one_that_is_brought_comes_back_as_it_was(
        self, service: OrderService, order_id: int | str
    ) -> None:
        answer = service.place(ITEMS | {"orderId": order_id})
        assert answer.status_code == 202
        assert answer.json()["orderId"] == order_id
        assert type(answer.json()["orderId"]) is type(order_id)
        (record,) = service.records(order_id)
        assert decode_created(record.value()).order_id == order_id

    def test_one_that_we_gave_cannot_be_brought(self, service: OrderService) -> None:
        given = service.place(ITEMS).json()["orderId"]
        answer = service.place(ITEMS | {"orderId": given})
        assert problem_of(answer) == (409, "conflict")

    def test_one_with_slashes_has_a_location_that_is_one_segment(
        self, service: OrderService
    ) -> None:
        answer = service.place(ITEMS | {"orderId": "x/y"})
        assert answer.headers["location"] == "/api/orders/x%2Fy"


LIMITS: list[tuple[dict[str, Any], str]] = [
    (ITEMS | {"items": []}, "items"),
    (ITEMS | {"items": ITEMS["items"] * 501}, "items"),
    (ITEMS | {"items": [{"sku": "A", "qty": 0}]}, "items[0].qty"),
    (ITEMS | {"items": [{"sku": "A", "qty": 1_000_001}]}, "items[0].qty"),
    (ITEMS | {"items": [{"sku": "A", "qty": "1"}]}, "items[0].qty"),
    (ITEMS | {"items": [{"sku": "", "qty": 1}]}, "items[0].sku"),
    (ITEMS | {"items": [{"sku": "A" * 65, "qty": 1}]}, "items[0].sku"),
    (ITEMS | {"items": [{"sku": "A", "qty": 1}, {"sku": "A\n", "qty": 1}]}, "items[1].sku"),
    (ITEMS | {"orderId": ""}, "orderId"),
    (ITEMS | {"orderId": "x" * 129}, "orderId"),
    (ITEMS | {"orderId": "a\tb"}, "orderId"),
    (ITEMS | {"userId": "x" * 129}, "userId"),
    (ITEMS | {"userId": None}, "userId"),
    (PRODUCT | {"quantity": 0}, "quantity"),
    (PRODUCT | {"quantity": 1_000_001}, "quantity"),
    (PRODUCT | {"productId": ""}, "productId"),
    (ITEM | {"item": "A" * 65}, "item"),
    (ITEM | {"order_id": "\x7f"}, "order_id"),
    ({"userId": 1}, "items"),
]


class TestLimits:
    @pytest.mark.parametrize(("order", "field"), LIMITS)
    def test_what_is_beyond_one_is_refused_with_the_field(
        self, service: OrderService, order: dict[str, Any], field: str
    ) -> None:
        answer = service.place(order)
        assert problem_of(answer) == (422, "invalid-order")
        assert answer.json()["field"] == field

    @pytest.mark.parametrize(
        "order",
        [
            ITEMS | {"items": [{"sku": "A" * 64, "qty": 1_000_000}] * 500},
            ITEMS | {"userId": "u" * 128},
        ],
        ids=["items", "user"],
    )
    def test_what_is_within_is_accepted(self, service: OrderService, order: dict[str, Any]) -> None:
        assert service.place(order).status_code == 202

    @pytest.mark.parametrize("body", [b"", b"{", b"order", b"\xff\xfe", b'{"userId":1'])
    def test_what_is_not_json_is_a_bad_request(self, service: OrderService, body: bytes) -> None:
        answer = service.http.post("/api/orders", content=body)
        assert problem_of(answer) == (400, "not-json")

    @pytest.mark.parametrize("body", [b"[]", b"1", b'"order"', b"null"])
    def test_what_is_no_object_is_no_order(self, service: OrderService, body: bytes) -> None:
        answer = service.http.post("/api/orders", content=body)
        assert problem_of(answer) == (422, "invalid-order")

    @pytest.mark.parametrize("key", ["", "k" * 256])
    def test_a_key_that_is_none_is_a_bad_request(self, service: OrderService, key: str) -> None:
        answer = service.place(ITEMS, Idempotency_Key=key)
        assert problem_of(answer) == (400, "invalid-key")
        assert answer.json()["field"] == "Idempotency-Key"


class TestTooLarge:
    @pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
    def test_is_refused_and_the_connection_usable_after(
        self, service: OrderService, chunked: bool
    ) -> None:
        body = b'{"x":"' + b"x" * BODY_BYTES_MAX + b'"}'
        order = b'{"userId":1,"items":[{"sku":"A","qty":1}]}'
        at = urlsplit(service.url)
        head = b"POST /api/orders HTTP/1.1\r\nHost: %s\r\n" % at.netloc.encode()
        with socket.create_connection((at.hostname or "", at.port or 0), 10) as connection:
            if chunked:
                pieces = [body[at : at + 65_536] for at in range(0, len(body), 65_536)]
                sent = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
                connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + sent)
            else:
                connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert answer_on(connection).startswith(b"HTTP/1.1 413 ")
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(order) + order)
            assert answer_on(connection).startswith(b"HTTP/1.1 202 ")

    def test_a_body_of_just_one_mib_is_not(self, service: OrderService) -> None:
        order = b'{"userId":1,"items":[{"sku":"A","qty":1}]}'
        answer = service.http.post("/api/orders", content=order.ljust(BODY_BYTES_MAX))
        assert answer.status_code == 202
        answer = service.http.post("/api/orders", content=order.ljust(BODY_BYTES_MAX + 1))
        assert problem_of(answer) == (413, "too-large")


def head(length: bytes) -> bytes:
    return b"POST /api/orders HTTP/1.1\r\nHost: localhost\r\n" + length + b"\r\n\r\n"


def answer_on(connection: socket.socket) -> bytes:
    """Read one answer with a Content-Length."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += received(connection)
    at_head, _, body = answer.partition(b"\r\n\r\n")
    fields = httpx.Headers([tuple(f.split(b": ", 1)) for f in at_head.split(b"\r\n")[1:]])  # pyright: ignore[reportArgumentType]
    while len(body) < int(fields["content-length"]):
        body += received(connection)
    return at_head


def received(connection: socket.socket) -> bytes:
    part = connection.recv(65_536)
    assert part, "the connection was closed"
    return part
