"""Kafka away: the client hears so within 5 s, and what it was told to do next is safe."""

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from orderstream.contract.envelope import header
from orderstream.contract.events import decode_created
from orderstream.runtime.publisher import CONFIRM_TIMEOUT_MS
from orderstream.wiring.order import CLAIM_PATIENCE_S
from tests.brokers import OwnKafka
from tests.bulk import Stream, body_of
from tests.conftest import database_copy, own_settings
from tests.kafka.topics import create, headers_of
from tests.orders.service import ITEMS, PRODUCT, OrderService, problem_of
from tests.waiting import together, until

PROMISED_S = 5.0
WITHIN_S = PROMISED_S + 3.0  # On a machine that has much else to do.


@pytest.fixture(scope="module")
def broker() -> Iterator[OwnKafka]:
    with OwnKafka.at_hand() as broker:
        broker.start()
        yield broker


@pytest.fixture
def service(
    broker: OwnKafka, template_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OrderService]:
    with database_copy(template_dsn) as dsn:
        settings = create(own_settings(broker.start(), dsn))
        service = OrderService(settings, tmp_path_factory.mktemp("order"))
        service.start()
        yield service
        service.end()
        service.http.close()


def timed(place: Callable[[], httpx.Response]) -> tuple[float, httpx.Response]:
    began = time.monotonic()
    answer = place()
    return time.monotonic() - began, answer


def events(service: OrderService, order_id: int | str) -> set[bytes | None]:
    """Return the ids of the events in the log that say that this order was accepted."""
    return {header(headers_of(record), "ce_id") for record in service.records(order_id)}


class TestKafkaSilent:
    def test_what_an_answer_waits_for_takes_less_than_is_promised(self) -> None:
        assert CLAIM_PATIENCE_S + CONFIRM_TIMEOUT_MS / 1000 < PROMISED_S

    def test_the_outcome_is_unknown_within_5_s_and_a_repeat_is_one_order(
        self, service: OrderService, broker: OwnKafka
    ) -> None:
        brought = PRODUCT | {"orderId": "brought"}
        calls: list[Callable[[], httpx.Response]] = [
            lambda: service.post(ITEMS),
            lambda: service.post(brought),
            lambda: service.post(ITEMS, Idempotency_Key="k"),
        ]
        assert service.place(ITEMS).status_code == 202
        broker.freeze()
        answers = together([lambda call=call: timed(call) for call in calls])
        broker.resume()
        told: list[dict[str, Any]] = []
        for took_and_answer in answers:
            assert isinstance(took_and_answer, tuple), took_and_answer
            took, answer = took_and_answer
            assert took < WITHIN_S
            assert problem_of(answer) == (503, "outcome-unknown")
            assert int(answer.headers["retry-after"]) >= 1
            told.append(answer.json())
        given, brought_id, keyed = (problem["orderId"] for problem in told)
        assert isinstance(given, int)
        assert brought_id == "brought"

        repeats: list[Callable[[], httpx.Response]] = [
            lambda: service.post(ITEMS | {"orderId": given}),
            lambda: service.post(brought),
            lambda: service.post(ITEMS, Idempotency_Key="k"),
        ]
        for order_id, repeat in zip((given, "brought", keyed), repeats, strict=True):
            assert accepted(repeat)["orderId"] == order_id
            assert events(service, order_id) == {f"{order_id}:order.created".encode()}
        other = service.place(ITEMS | {"orderId": given, "userId": 43})
        assert problem_of(other) == (409, "conflict")

    def test_a_bulk_says_so_by_the_line_and_a_repeat_of_it_is_the_same_orders(
        self, service: OrderService, broker: OwnKafka
    ) -> None:
        orders = [ITEMS] * 600 + [PRODUCT | {"orderId": f"silent-{n}"} for n in range(600)]
        placed = service.place(ITEMS).json()["orderId"]
        with Stream(service.url) as stream:
            stream.send(body_of([ITEMS]))
            first = stream.answer()["orderId"]
            broker.freeze()
            stream.send(body_of(orders))
            told = [stream.answer() for _ in orders]
            broker.resume()
        assert [answer["line"] for answer in told] == list(range(2, len(orders) + 2))
        kinds = {answer["type"].rpartition(":")[2] for answer in told}
        assert kinds == {"outcome-unknown"}
        repeats = [
            order | {"orderId": answer["orderId"]}
            for order, answer in zip(orders, told, strict=True)
        ]

        def accepted_all() -> bool:
            with Stream(service.url) as stream:
                stream.send(body_of(repeats))
                return all([stream.answer()["status"] == 202 for _ in repeats])

        until(accepted_all, what="all are accepted")
        written = {record.key() for record in service.log()}
        ids = [placed, first, *(answer["orderId"] for answer in told)]
        assert written == {str(order_id).encode() for order_id in ids}
        for order_id in (told[0]["orderId"], "silent-599"):
            assert events(service, order_id) == {f"{order_id}:order.created".encode()}


class TestKafkaDead:
    def test_the_lines_of_a_bulk_are_refused_until_it_is_back(
        self, service: OrderService, broker: OwnKafka
    ) -> None:
        own = PRODUCT | {"orderId": "in-a-bulk"}
        with Stream(service.url) as stream:

            def statuses() -> set[int]:
                stream.send(body_of([ITEMS, own]))
                return {stream.answer()["status"] for _ in range(2)}

            until(lambda: statuses() == {202}, what="they are accepted")
            broker.kill()
            until(lambda: 503 in statuses(), what="they are refused")
            broker.start()
            until(lambda: statuses() == {202}, what="they are accepted again")
            stream.send(b"")
            assert stream.rest() == b""
        assert events(service, "in-a-bulk") == {b"in-a-bulk:order.created"}

    def test_orders_are_refused_at_once_and_accepted_again_when_it_is_back(
        self, service: OrderService, broker: OwnKafka
    ) -> None:
        assert service.place(ITEMS).status_code == 202
        broker.kill()
        refused_at_once(service)
        unready = service.http.get("/readyz")
        assert problem_of(unready) == (503, "not-ready")
        assert "kafka" in unready.json()["faults"]
        assert service.http.get("/healthz").status_code == 200
        broker.start()
        assert accepted(lambda: service.post(ITEMS))["status"] == "PENDING"

    def test_a_claim_outlives_a_crash_before_its_order_was_in_the_log(
        self, service: OrderService, broker: OwnKafka
    ) -> None:
        broker.kill()
        refused_at_once(service)
        claimed = PRODUCT | {"orderId": "claimed"}
        assert problem_of(service.post(claimed)) == (503, "unavailable")
        service.end(signal.SIGKILL)
        broker.start()
        service.start()
        other = service.place(claimed | {"quantity": 9})
        assert problem_of(other) == (409, "conflict")
        assert accepted(lambda: service.post(claimed))["orderId"] == "claimed"
        (record,) = service.records("claimed")
        assert decode_created(record.value()).items[0].qty == PRODUCT["quantity"]


def refused_at_once(service: OrderService) -> None:
    """Wait until the service knows that Kafka is away; each answer until then comes in time."""

    def refused() -> bool:
        took, answer = timed(lambda: service.post(ITEMS))
        assert took < WITHIN_S
        assert answer.headers["retry-after"]
        return problem_of(answer) == (503, "unavailable")

    until(refused, what="the service knows")


def accepted(place: Callable[[], httpx.Response]) -> dict[str, Any]:
    """Place an order until it is accepted, as a client does that was told to try again."""

    def look() -> dict[str, Any] | None:
        answer = place()
        assert answer.status_code in (202, 503), answer.text
        return answer.json() if answer.status_code == 202 else None

    return until(look, what="the order is accepted")
