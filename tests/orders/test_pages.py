"""What the order service answers besides taking orders: pages, lists, health, documentation."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from orderstream.contract.events import Event, OrderCreated
from orderstream.order_view.rules import Seen
from tests.builders import NOON, an_order, rejected, reserved
from tests.orders.service import ITEMS, OrderService, problem_of
from tests.waiting import until

LATER = NOON + timedelta(seconds=2)


def seen(event: Event) -> Seen:
    created = isinstance(event, OrderCreated)
    event_type = "order.created" if created else "inventory.decided"
    return Seen(event, event_type, NOON if created else LATER, event_type, 0, 0)


def page_of(service: OrderService, order_id: str) -> dict[str, Any]:
    answer = service.http.get(f"/api/orders/{order_id}")
    assert answer.status_code == 200
    return answer.json()


class TestOneOrder:
    def test_is_pending_until_it_is_decided(self, service: OrderService) -> None:
        order = an_order(("MUG", 2), order_id="page-1", user_id=42)
        service.show([seen(order)])
        page = page_of(service, "page-1")
        assert (page["orderId"], page["status"], page["userId"]) == ("page-1", "PENDING", 42)
        assert page["items"] == [{"sku": "MUG", "qty": 2}]
        service.show([seen(reserved(order, LATER))])
        page = page_of(service, "page-1")
        assert page["status"] == "CONFIRMED"
        assert (page["createdAt"], page["decidedAt"]) == (
            "2026-11-21T12:00:00.000Z",
            "2026-11-21T12:00:02.000Z",
        )
        assert [entry["type"] for entry in page["timeline"]] == [
            "order.created",
            "inventory.decided",
        ]

    def test_that_was_rejected_says_why(self, service: OrderService) -> None:
        order = an_order(("MUG", 2), order_id="page-2")
        service.show([seen(order), seen(rejected(order, "MUG", at=LATER))])
        page = page_of(service, "page-2")
        assert (page["status"], page["reason"], page["short"]) == (
            "REJECTED",
            "OUT_OF_STOCK",
            ["MUG"],
        )

    def test_that_nobody_knows_is_not_found(self, service: OrderService) -> None:
        answer = service.http.get("/api/orders/nobody")
        assert problem_of(answer) == (404, "unknown-order")


class TestAList:
    def test_is_newest_first_and_goes_on_at_its_cursor(self, service: OrderService) -> None:
        orders = [
            an_order(order_id=f"list-{n}", user_id="lister", at=NOON + timedelta(seconds=n // 2))
            for n in range(5)
        ]
        service.show([seen(order) for order in orders])
        found: list[list[str]] = []
        cursor: str | None = None
        while cursor is not None or not found:
            query = {"userId": "lister", "limit": 2} | ({"cursor": cursor} if cursor else {})
            page = service.http.get("/api/orders", params=query).json()
            found.append([order["orderId"] for order in page["orders"]])
            cursor = page["nextCursor"]
        assert found == [["list-4", "list-3"], ["list-2", "list-1"], ["list-0"]]

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ({"cursor": "nonsense"}, "cursor"),
            ({"status": "LOST"}, "status"),
            ({"limit": "0"}, "limit"),
            ({"limit": "501"}, "limit"),
            ({"from": "yesterday"}, "from"),
        ],
    )
    def test_by_what_is_no_question_is_refused_with_the_field(
        self, service: OrderService, query: dict[str, str], field: str
    ) -> None:
        answer = service.http.get("/api/orders", params=query)
        assert problem_of(answer) == (422, "invalid-request")
        assert answer.json()["field"] == field


class TestPreferWait:
    def test_is_answered_with_the_decision(self, service: OrderService) -> None:
        order = an_order(("MUG", 1), order_id="wait-1")
        body = {"userId": 42, "orderId": "wait-1", "items": [{"sku": "MUG", "qty": 1}]}
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(service.place, body, Prefer="respond-async, wait=14")
            until(lambda: service.records("wait-1"), what="the order is in the log")
            service.show([seen(order), seen(reserved(order, LATER))])
            assert answer.result().status_code == 200
        assert answer.result().json() == page_of(service, "wait-1")
        assert answer.result().headers["location"] == "/api/orders/wait-1"

    @pytest.mark.parametrize("prefer", ["wait=0", "wait=soon", "wait", "return=minimal"])
    def test_is_answered_as_ever_when_the_time_is_up_or_none(
        self, service: OrderService, prefer: str
    ) -> None:
        answer = service.place(ITEMS, Prefer=prefer)
        assert (answer.status_code, answer.json()["status"]) == (202, "PENDING")


class TestTheService:
    def test_is_alive_and_ready(self, service: OrderService) -> None:
        assert service.http.get("/healthz").json() == {"status": "alive"}
        assert service.http.get("/readyz").json() == {"status": "ready"}

    def test_counts_what_it_answers(self, service: OrderService) -> None:
        service.place(ITEMS)
        service.place({})
        metrics = service.http.get("/metrics")
        assert metrics.headers["content-type"].startswith("text/plain")
        assert 'orderstream_orders_total{status="202"}' in metrics.text
        assert 'orderstream_orders_total{status="422"}' in metrics.text

    def test_has_pages_that_describe_it(self, service: OrderService) -> None:
        docs = service.http.get("/docs")
        assert docs.status_code == 200
        assert "/openapi.json" in docs.text

    def test_describes_the_post_with_all_three_shapes(self, service: OrderService) -> None:
        document = service.http.get("/openapi.json").json()
        post = document["paths"]["/api/orders"]["post"]
        shapes = post["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
        schemas = [document["components"]["schemas"][s["$ref"].rpartition("/")[2]] for s in shapes]
        assert [set(schema["required"]) for schema in schemas] == [
            {"userId", "items"},
            {"orderId", "productId", "quantity"},
            {"order_id", "user_id", "item", "quantity"},
        ]
        assert set(post["responses"]) >= {"200", "202", "400", "409", "413", "422", "503"}
        assert {p["name"] for p in post["parameters"]} == {"Idempotency-Key", "Prefer"}

    def test_describes_its_pages(self, service: OrderService) -> None:
        paths = service.http.get("/openapi.json").json()["paths"]
        assert set(paths) >= {"/api/orders", "/api/orders/{order_id}", "/healthz", "/readyz"}
        assert set(paths["/api/orders"]) == {"get", "post"}

    @pytest.mark.parametrize(
        ("method", "path", "status"), [("GET", "/nowhere", 404), ("DELETE", "/api/orders", 405)]
    )
    def test_says_in_a_problem_what_it_does_not_have(
        self, service: OrderService, method: str, path: str, status: int
    ) -> None:
        assert problem_of(service.http.request(method, path))[0] == status
