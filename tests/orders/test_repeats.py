"""What is sent twice is one order, whoever sends it and however often at once."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx
import pytest

from tests.orders.service import ITEM, ITEMS, PRODUCT, OrderService, problem_of
from tests.waiting import together

_ids: Iterator[int] = count(1)


def fresh() -> str:
    """Return an order id or a key that no other test uses."""
    return f"repeat-{next(_ids)}"


def answers_of(calls: list[Any]) -> list[httpx.Response]:
    answers = together(calls)
    assert all(isinstance(answer, httpx.Response) for answer in answers), answers
    return answers  # pyright: ignore[reportReturnType]


class TestAnOrderId:
    @pytest.mark.parametrize(
        ("shape", "name"), [(ITEMS, "orderId"), (PRODUCT, "orderId"), (ITEM, "order_id")]
    )
    def test_with_the_same_order_gets_the_same_answer_and_one_record(
        self, service: OrderService, shape: dict[str, Any], name: str
    ) -> None:
        order = shape | {name: fresh()}
        first, second = service.place(order), service.place(order)
        assert (first.status_code, second.status_code) == (202, 202)
        assert first.json() == second.json()
        assert first.headers["location"] == second.headers["location"]
        assert "idempotent-replayed" not in first.headers
        assert second.headers["idempotent-replayed"] == "true"
        assert len(service.records(order[name])) == 1

    def test_with_another_order_is_a_conflict(self, service: OrderService) -> None:
        order = PRODUCT | {"orderId": fresh()}
        service.place(order)
        answer = service.place(order | {"quantity": 3})
        assert problem_of(answer) == (409, "conflict")
        assert answer.json()["field"] == "orderId"
        assert len(service.records(order["orderId"])) == 1

    def test_in_another_shape_is_the_same_order(self, service: OrderService) -> None:
        order_id = fresh()
        service.place({"orderId": order_id, "userId": "u", "items": [{"sku": "laptop", "qty": 1}]})
        answer = service.place(ITEM | {"order_id": order_id, "user_id": "u"})
        assert answer.status_code == 202
        assert len(service.records(order_id)) == 1

    def test_at_once_from_many_is_one_record(self, service: OrderService) -> None:
        order = PRODUCT | {"orderId": fresh()}
        answers = answers_of([lambda: service.place(order)] * 32)
        assert {answer.status_code for answer in answers} == {202}
        assert len(service.records(order["orderId"])) == 1


class TestAKey:
    def test_with_the_same_order_gets_the_same_answer_and_one_record(
        self, service: OrderService
    ) -> None:
        key = fresh()
        first = service.place(ITEMS, Idempotency_Key=key)
        second = service.place(ITEMS, Idempotency_Key=key)
        assert (first.status_code, second.status_code) == (202, 202)
        assert first.json() == second.json()
        assert second.headers["idempotent-replayed"] == "true"
        assert len(service.records(first.json()["orderId"])) == 1

    def test_with_another_order_is_refused(self, service: OrderService) -> None:
        key = fresh()
        service.place(ITEMS, Idempotency_Key=key)
        answer = service.place(ITEMS | {"userId": 43}, Idempotency_Key=key)
        assert problem_of(answer) == (422, "conflict")
        assert answer.json()["field"] == "Idempotency-Key"

    def test_from_64_at_once_is_one_order(self, service: OrderService) -> None:
        key = fresh()
        before = len(service.log())
        answers = answers_of([lambda: service.place(ITEMS, Idempotency_Key=key)] * 64)
        assert {answer.status_code for answer in answers} == {202}
        (order_id,) = {answer.json()["orderId"] for answer in answers}
        assert len(service.records(order_id)) == 1
        assert len(service.log()) == before + 1

    def test_from_many_with_other_orders_at_once_is_one_order(self, service: OrderService) -> None:
        key = fresh()
        before = len(service.log())
        answers = answers_of(
            [
                lambda user=user: service.place(ITEMS | {"userId": user}, Idempotency_Key=key)
                for user in range(16)
            ]
        )
        assert sorted(answer.status_code for answer in answers) == [202] + [422] * 15
        assert len(service.log()) == before + 1

    def test_of_its_own_for_each_of_two_equal_orders_makes_two(self, service: OrderService) -> None:
        ids = [service.place(ITEMS, Idempotency_Key=fresh()).json()["orderId"] for _ in range(2)]
        assert len(set(ids)) == 2

    def test_with_an_order_id_keeps_the_id(self, service: OrderService) -> None:
        order = PRODUCT | {"orderId": fresh()}
        answers = [service.place(order, Idempotency_Key=fresh()) for _ in range(2)]
        assert [answer.json()["orderId"] for answer in answers] == [order["orderId"]] * 2
        assert len(service.records(order["orderId"])) == 1

    def test_none_and_no_id_is_a_new_order_each_time(self, service: OrderService) -> None:
        ids = [service.place(ITEMS).json()["orderId"] for _ in range(2)]
        assert len(set(ids)) == 2
