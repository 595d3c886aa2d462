"""Many orders in one request, to the service as it is."""

import json
from threading import Thread
from typing import Any

import httpx

from orderstream.contract.events import decode_created
from tests.bulk import Stream, body_of
from tests.orders.service import ITEM, ITEMS, PRODUCT, OrderService, problem_of
from tests.waiting import until

MEMORY_SLACK = 24 << 20  # 120,000 orders and their answers are 14 MB, and some 100 as objects.
NDJSON = {"content-type": "application/x-ndjson"}


def bulk(service: OrderService, body: Any, **headers: str) -> list[dict[str, Any]]:
    """Send it, and return the answers."""
    named = NDJSON | {name.replace("_", "-"): value for name, value in headers.items()}
    answer = service.http.post("/api/orders:bulk", content=body, headers=named)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


class TestABulk:
    def test_of_all_shapes_is_answered_line_by_line(self, service: OrderService) -> None:
        product, item = PRODUCT | {"orderId": "b-1"}, ITEM | {"order_id": 77}
        first, second, third = bulk(service, body_of([ITEMS, product, item]))
        assert isinstance(first["orderId"], int)
        assert first == {
            "line": 1,
            "status": 202,
            "orderId": first["orderId"],
            "orderStatus": "PENDING",
        }
        assert (second["line"], second["orderId"]) == (2, "b-1")
        assert (third["line"], third["orderId"]) == (3, 77)
        for order_id in (first["orderId"], "b-1", 77):
            (record,) = service.records(order_id)
            assert decode_created(record.value()).order_id == order_id

    def test_writes_the_same_record_as_a_single_post(self, service: OrderService) -> None:
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        (told,) = bulk(service, body_of([ITEMS]), traceparent=trace)
        single = service.place(ITEMS, traceparent=trace).json()
        (one,), (other,) = service.records(told["orderId"]), service.records(single["orderId"])
        names = [name for name, _ in one.headers() or []]
        assert names == [name for name, _ in other.headers() or []]
        given = dict(one.headers() or [])
        assert given["ce_id"] == f"{told['orderId']}:order.created".encode()
        assert given["traceparent"] == trace.encode()
        assert decode_created(one.value()).items == decode_created(other.value()).items

    def test_fails_by_the_line(self, service: OrderService) -> None:
        good = json.dumps(ITEMS).encode()
        lines = [
            good,
            b"{",
            b'{"userId":1,"items":[{"sku":"A","qty":0}]}',
            b"",
            b'{"userId":1,"items":[{"sku":"' + b"x" * (1 << 20) + b'","qty":1}]}',
            b"\xff",
            good + b"\r",
            good,
        ]
        told = bulk(service, b"\n".join(lines))
        assert [(one["line"], one["status"]) for one in told] == [
            (1, 202),
            (2, 400),
            (3, 422),
            (5, 413),
            (6, 400),
            (7, 202),
            (8, 202),
        ]
        assert told[2]["field"] == "items[0].qty"
        for one in told:
            if one["status"] != 202:
                assert one["type"].startswith("urn:orderstream:problem:")
                assert one["title"]
                assert one["detail"]

    def test_again_is_the_same_orders(self, service: OrderService) -> None:
        orders = [PRODUCT | {"orderId": f"again-{n}"} for n in range(1_200)]
        first = bulk(service, body_of(orders))
        assert {one["status"] for one in first} == {202}
        again = bulk(service, body_of(orders))
        assert again == [one | {"replayed": True} for one in first]
        for order_id in ("again-0", "again-1199"):
            assert len(service.records(order_id)) == 1
        single = service.place(orders[5])
        assert single.headers["idempotent-replayed"] == "true"
        other = bulk(service, body_of([orders[5] | {"quantity": 9}, orders[5]]))
        assert [one["status"] for one in other] == [409, 202]

    def test_with_an_id_twice_is_as_two_posts(self, service: OrderService) -> None:
        order = PRODUCT | {"orderId": "twice"}
        told = bulk(service, body_of([order, order, order | {"quantity": 9}, ITEMS, order]))
        assert [one["status"] for one in told] == [202, 202, 409, 202, 202]
        assert [one.get("replayed", False) for one in told] == [False, True, False, False, True]
        assert len(service.records("twice")) == 1

    def test_with_an_id_that_is_ours_to_give_is_refused(self, service: OrderService) -> None:
        given = service.place(ITEMS).json()["orderId"]
        (told,) = bulk(service, body_of([ITEMS | {"orderId": given + 1}]))
        assert (told["status"], told["field"]) == (409, "orderId")

    def test_of_nothing_is_answered_with_nothing(self, service: OrderService) -> None:
        assert bulk(service, b"") == []
        assert bulk(service, b"\n \n\r\n") == []

    def test_takes_no_idempotency_key_and_no_other_type(self, service: OrderService) -> None:
        def post(**headers: str) -> httpx.Response:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return service.http.post("/api/orders:bulk", content=b"", headers=named)

        assert problem_of(post(idempotency_key="k")) == (400, "invalid-key")
        assert problem_of(post(content_type="application/json")) == (415, "unsupported-media-type")
        assert problem_of(post(content_encoding="gzip")) == (415, "unsupported-media-type")
        for kind in ("application/jsonl", "application/json-lines; charset=utf-8"):
            assert post(content_type=kind).status_code == 200
        assert problem_of(post(origin="http://evil.example")) == (403, "foreign")


class TestManyOrders:
    def test_are_answered_in_order_whatever_their_number(self, service: OrderService) -> None:
        wanted, piece = 30_000, body_of([ITEMS]) * 100
        told: list[dict[str, Any]] = []
        with Stream(service.url) as stream:
            reading = Thread(
                target=lambda: told.extend(map(json.loads, stream.rest().splitlines()))
            )
            reading.start()
            for _ in range(wanted // 100):
                stream.send(piece)
            stream.send(b"")
            reading.join(60)
        assert [answer["line"] for answer in told] == list(range(1, wanted + 1))
        assert {answer["status"] for answer in told} == {202}
        assert len({answer["orderId"] for answer in told}) == wanted

    def test_take_no_memory(self, service: OrderService) -> None:
        piece, pieces = body_of([ITEMS]) * 1_000, 40

        def once() -> int:
            with Stream(service.url) as stream:
                reading = Thread(target=stream.rest)
                reading.start()
                for _ in range(pieces):
                    stream.send(piece)
                stream.send(b"")
                reading.join(120)
                assert not reading.is_alive()
            return service.rss()

        first = [once() for _ in range(2)][-1]
        assert [once() for _ in range(3)][-1] < first + MEMORY_SLACK

    def test_are_answered_while_others_are_still_to_come(self, service: OrderService) -> None:
        with Stream(service.url) as stream:
            for number in range(1, 4):
                stream.send(body_of([ITEMS]))
                assert stream.answer()["line"] == number
            stream.send(b'{"userId":')
            stream.send(b'1,"items":[{"sku":"A","qty":1}]}\n{')
            assert (stream.answer())["status"] == 202
            stream.send(b"")
            assert (stream.answer())["status"] == 400
            assert stream.rest() == b""

    def test_of_a_client_that_goes_are_accepted_as_far_as_they_came(
        self, service: OrderService
    ) -> None:
        orders = [PRODUCT | {"orderId": f"gone-{n}"} for n in range(700)]
        with Stream(service.url) as stream:
            stream.send(body_of(orders)[:-5])
            assert stream.answer()["orderId"] == "gone-0"
        until(lambda: service.records("gone-698"), what="the last whole line is an order")
        assert not service.records("gone-699")
        assert service.place(ITEMS).status_code == 202
