"""Cancel, fulfil, expire: legal changes only, each decided once, whoever dies."""

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from orderstream.contract.events import Event, decode_cancelled, decode_fulfilled
from orderstream.order_view.rules import Seen
from orderstream.orders.changes_postgres import PostgresChanges
from orderstream.orders.store import Change
from orderstream.runtime.clock import utc_now
from orderstream.runtime.database import Database
from tests.builders import an_order, cancelled, encode, rejected, reserved
from tests.conftest import database_copy, own_settings
from tests.kafka.topics import create, headers_of, read
from tests.orders.service import OrderService, problem_of
from tests.waiting import together, until

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NAMES = {"OrderCreated": "order.created", "InventoryReserved": "inventory.reserved"}


def seen(event: Event, number: int = 0) -> Seen:
    name = NAMES.get(type(event).__name__, "other")
    return Seen(event, name, utc_now(), name, 0, number)


def confirmed(service: OrderService, order_id: int | str, decided_ago_s: float = 0) -> None:
    """Show the order as confirmed, as if inventory had decided."""
    order = an_order(order_id=order_id)
    decided_at = utc_now() - timedelta(seconds=decided_ago_s)
    service.show([seen(order), seen(reserved(order, decided_at))])


def end(service: OrderService, order_id: int | str, what: str, **why: str) -> tuple[int, Any]:
    answer = service.http.post(f"/api/orders/{order_id}/{what}", json=why)
    if answer.status_code >= 400:
        problem_of(answer)
    return answer.status_code, answer.json()


def said(service: OrderService, order_id: int | str) -> list[str]:
    """Return what the log says became of the order."""
    topics = service.settings.topics
    found = read(service.settings, topics.order_cancelled, topics.order_fulfilled)
    return [r.topic() or "" for r in found if r.key() == str(order_id).encode()]


class TestCancel:
    def test_of_a_confirmed_order_is_on_the_log_when_it_is_answered(
        self, service: OrderService
    ) -> None:
        confirmed(service, "c1")
        answer = end(service, "c1", "cancel", reason="changed my mind")
        assert answer == (200, {"orderId": "c1", "status": "CANCELLED"})
        topic = service.settings.topics.order_cancelled
        (record,) = [r for r in read(service.settings, topic) if r.key() == b"c1"]
        event = decode_cancelled(record.value())
        assert (event.order_id, event.reason, event.user_id) == ("c1", "changed my mind", 42)
        assert ("ce_id", b"c1:order.cancelled") in headers_of(record)

    @pytest.mark.parametrize(("given", "carried"), [(TRACE, [TRACE.encode()]), ("00-a-b-01", [])])
    def test_carries_the_trace_of_the_request(
        self, service: OrderService, given: str, carried: list[bytes]
    ) -> None:
        key = f"traced-{given}"
        confirmed(service, key)
        answer = service.http.post(f"/api/orders/{key}/fulfil", headers={"traceparent": given})
        assert answer.status_code == 200
        log = read(service.settings, service.settings.topics.order_fulfilled)
        (record,) = [r for r in log if r.key() == key.encode()]
        assert [value for name, value in headers_of(record) if name == "traceparent"] == carried

    def test_again_is_the_same_answer_and_one_record(self, service: OrderService) -> None:
        confirmed(service, "c2")
        answers = together([lambda: end(service, "c2", "cancel")] * 8)
        assert answers == [(200, {"orderId": "c2", "status": "CANCELLED"})] * 8
        assert set(said(service, "c2")) == {service.settings.topics.order_cancelled}

    def test_of_an_order_that_is_still_on_its_way_is_legal(self, service: OrderService) -> None:
        service.show([seen(an_order(order_id=7))])
        assert end(service, 7, "cancel") == (200, {"orderId": 7, "status": "CANCELLED"})

    @pytest.mark.parametrize("what", ["cancel", "fulfil"])
    def test_of_an_unknown_order_is_404(self, service: OrderService, what: str) -> None:
        status, problem = end(service, "nobody", what)
        assert (status, problem["type"]) == (404, "urn:orderstream:problem:unknown-order")

    def test_of_a_rejected_order_is_409_with_its_status(self, service: OrderService) -> None:
        service.show([seen(rejected(an_order(order_id="c3")))])
        status, problem = end(service, "c3", "cancel")
        assert (status, problem["orderStatus"]) == (409, "REJECTED")
        assert problem["detail"] == "Order c3 cannot be cancelled: it is REJECTED."
        assert said(service, "c3") == []

    def test_a_reason_beyond_its_length_is_422(self, service: OrderService) -> None:
        confirmed(service, "c4")
        status, problem = end(service, "c4", "cancel", reason="x" * 501)
        assert (status, problem["field"]) == (422, "reason")


class TestFulfil:
    def test_of_a_confirmed_order_is_on_the_log_when_it_is_answered(
        self, service: OrderService
    ) -> None:
        confirmed(service, "f1")
        assert end(service, "f1", "fulfil") == (200, {"orderId": "f1", "status": "FULFILLED"})
        topic = service.settings.topics.order_fulfilled
        (record,) = [r for r in read(service.settings, topic) if r.key() == b"f1"]
        assert decode_fulfilled(record.value()).order_id == "f1"

    def test_of_an_order_that_is_not_confirmed_yet_is_409(self, service: OrderService) -> None:
        service.show([seen(an_order(order_id="f2"))])
        status, problem = end(service, "f2", "fulfil")
        assert (status, problem["orderStatus"]) == (409, "PENDING")

    def test_and_cancel_at_once_leave_one_of_them(self, service: OrderService) -> None:
        for number in range(10):
            order_id = f"race-{number}"
            confirmed(service, order_id)
            calls = [partial(end, service, order_id, what) for what in ("cancel", "fulfil")]
            answers = [answer for answer in together(calls) if isinstance(answer, tuple)]
            assert sorted(status for status, _ in answers) == [200, 409]
            assert len(said(service, order_id)) == 1

    def test_what_the_log_does_not_show_yet_counts_nevertheless(
        self, service: OrderService
    ) -> None:
        confirmed(service, "f3")
        assert end(service, "f3", "cancel")[0] == 200
        status, problem = end(service, "f3", "fulfil")  # The view still says CONFIRMED.
        assert (status, problem["orderStatus"]) == (409, "CANCELLED")


class TestExpiry:
    @pytest.fixture
    def expiring(
        self, kafka: str, template_dsn: str, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[OrderService]:
        with database_copy(template_dsn) as dsn:
            settings = create(own_settings(kafka, dsn, ORDERSTREAM_RESERVATION_TTL="3600"))
            service = OrderService(settings, tmp_path_factory.mktemp("order"))
            service.start()
            yield service
            service.end()
            service.http.close()

    def test_is_swept_and_shown_at_once_and_keeps_from_fulfilling(
        self, expiring: OrderService
    ) -> None:
        confirmed(expiring, "old", decided_ago_s=3601)
        confirmed(expiring, "young", decided_ago_s=3500)
        pages = {i: expiring.http.get(f"/api/orders/{i}").json() for i in ("old", "young")}
        assert {i: page["status"] for i, page in pages.items()} == {
            "old": "EXPIRED",
            "young": "CONFIRMED",
        }
        listed = {
            status: [
                order["orderId"]
                for order in expiring.http.get(f"/api/orders?status={status}").json()["orders"]
            ]
            for status in ("EXPIRED", "CONFIRMED")
        }
        assert listed == {"EXPIRED": ["old"], "CONFIRMED": ["young"]}
        assert end(expiring, "old", "fulfil")[1]["orderStatus"] == "EXPIRED"
        until(lambda: said(expiring, "old"), what="the reservation is swept")
        topic = expiring.settings.topics.order_cancelled
        (record,) = read(expiring.settings, topic)
        assert decode_cancelled(record.value()).cause == "EXPIRED"
        assert end(expiring, "young", "fulfil")[0] == 200


class TestACrash:
    def test_between_decision_and_publishing_loses_nothing(self, service: OrderService) -> None:
        order = an_order(order_id="left-behind")
        service.show([seen(order), seen(reserved(order))])
        database = Database(service.settings.dsn(), "orders")
        at = utc_now() - timedelta(seconds=5)
        event = encode(cancelled(order))
        change = Change(order.key, "CANCELLED", event, at, TRACE.encode())
        PostgresChanges(database).decide([change])
        database.close()
        until(lambda: said(service, "left-behind"), what="what was left behind is published")
        log = read(service.settings, service.settings.topics.order_cancelled)
        (record,) = [r for r in log if r.key() == b"left-behind"]
        assert ("traceparent", TRACE.encode()) in headers_of(record)
        assert end(service, "left-behind", "cancel")[0] == 200
