"""Server-sent events: live, of one order or of all, and nothing missed after a cut."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import httpx
import psutil
import pytest

from orderstream.contract.events import OrderCreated
from orderstream.order_view.rules import Seen
from orderstream.runtime.stage import Output
from tests.builders import NOON, an_order, cancelled, encode, reserved
from tests.kafka.topics import put
from tests.orders.service import OrderService, problem_of
from tests.waiting import until


class Stream:
    """An open stream of events, read as they come."""

    def __init__(self, answer: httpx.Response) -> None:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        self.encoding = answer.headers.get("content-encoding", "identity")
        self._lines = answer.iter_lines()
        self.last_id = ""

    def take(self, count: int, only: str | None = None) -> list[dict[str, Any]]:
        """Wait for so many events (of one order, if named) and return them."""
        found: list[dict[str, Any]] = []
        event = ""
        while len(found) < count:
            name, _, value = next(self._lines).partition(": ")
            if name == "id":
                self.last_id = value
            elif name == "event":
                event = value
            elif name == "data":
                data = json.loads(value)
                assert data["type"] == event
                if only in (None, str(data["orderId"])):
                    found.append(data)
        return found

    def begin(self) -> None:
        """Wait until it is told where it begins."""
        while not self.last_id:
            name, _, value = next(self._lines).partition(": ")
            if name == "id":
                self.last_id = value


@contextmanager
def listening(
    service: OrderService, path: str, last_id: str | None = None, *, accepts: str = "gzip"
) -> Iterator[Stream]:
    headers = {"accept-encoding": accepts}
    if last_id is not None:
        headers["last-event-id"] = last_id
    with service.http.stream("GET", path, headers=headers, timeout=60) as answer:
        yield Stream(answer)


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def said(service: OrderService, order: OrderCreated, *events: Any) -> None:
    """Write what inventory and others say of an order."""
    put(service.settings, *outputs(service, order, *events))


def befell(service: OrderService, *events: Any) -> None:
    """Write what happened to an order on its page."""
    seen = [(event, *topic_and_type(service, event)) for event in events]
    service.show([Seen(event, kind, NOON, topic, 0, 7) for event, topic, kind in seen])


def outputs(service: OrderService, order: OrderCreated, *events: Any) -> list[Output]:
    key = order.key.encode()
    return [Output(topic_and_type(service, e)[0], key, encode(e), []) for e in events]


def topic_and_type(service: OrderService, event: Any) -> tuple[str, str]:
    topics = service.settings.topics
    return {
        "InventoryReserved": (topics.inventory_reserved, "inventory.reserved"),
        "OrderCancelled": (topics.order_cancelled, "order.cancelled"),
    }[type(event).__name__]


@pytest.fixture
def order(service: OrderService) -> OrderCreated:
    """An order that is on the log and in the view."""
    answer = service.place({"userId": 42, "items": [{"sku": "MUG", "qty": 1}]})
    order_id = answer.json()["orderId"]
    record = service.records(order_id)[0]
    order = an_order(order_id=order_id)
    place = record.topic() or "", record.partition() or 0, record.offset() or 0
    service.show([Seen(order, "order.created", NOON, *place)])
    return order


def one_of(processes: list[psutil.Process]) -> list[psutil.Process] | None:
    """Return them if there is one: that of a test before may not have ended yet."""
    return processes if len(processes) == 1 else None


class TestOneOrder:
    def test_is_told_from_its_first_event_on_and_then_live(
        self, service: OrderService, order: OrderCreated
    ) -> None:
        with listening(service, f"/api/orders/{order.order_id}/events") as stream:
            (first,) = stream.take(1)
            assert (first["type"], first["orderId"]) == ("order.created", order.order_id)
            assert first["eventId"] == f"{order.key}:order.created"
            befell(service, reserved(order), cancelled(order))
            assert sorted(types(stream.take(2))) == ["inventory.reserved", "order.cancelled"]

    def test_goes_on_behind_the_last_id(self, service: OrderService, order: OrderCreated) -> None:
        path = f"/api/orders/{order.order_id}/events"
        with listening(service, path) as stream:
            stream.take(1)
        with listening(service, path, stream.last_id) as again:
            befell(service, reserved(order))
            assert types(again.take(1)) == ["inventory.reserved"]

    def test_hears_nothing_of_others(self, service: OrderService, order: OrderCreated) -> None:
        other = an_order(order_id="other")
        with listening(service, f"/api/orders/{order.order_id}/events") as stream:
            stream.take(1)
            befell(service, reserved(other))
            befell(service, reserved(order))
            assert stream.take(1)[0]["orderId"] == order.order_id

    def test_that_nobody_knows_is_404(self, service: OrderService) -> None:
        assert problem_of(service.http.get("/api/orders/nobody/events"))[0] == 404


class TestAll:
    @pytest.mark.parametrize("accepts", ["identity", "gzip"])
    def test_are_told_as_they_happen(
        self, service: OrderService, order: OrderCreated, accepts: str
    ) -> None:
        with listening(service, "/api/events", accepts=accepts) as stream:
            assert stream.encoding == accepts
            stream.begin()
            said(service, order, reserved(order))
            assert types(stream.take(1, order.key)) == ["inventory.reserved"]

    def test_who_was_cut_off_misses_nothing(
        self, service: OrderService, order: OrderCreated
    ) -> None:
        with listening(service, "/api/events") as stream:
            stream.begin()
            said(service, order, reserved(order))
            stream.take(1, order.key)
        others = [an_order(order_id=f"{order.key}-{number}") for number in range(50)]
        said_of = [outputs(service, other, reserved(other), cancelled(other)) for other in others]
        put(service.settings, *chain.from_iterable(said_of))
        with listening(service, "/api/events", stream.last_id) as again:
            missed = again.take(100)
            assert {(event["orderId"], event["type"]) for event in missed} == {
                (other.order_id, kind)
                for other in others
                for kind in ("inventory.reserved", "order.cancelled")
            }
            said(service, order, cancelled(order))
            assert types(again.take(1, order.key)) == ["order.cancelled"]

    def test_garbage_in_a_topic_cuts_nobody_off(
        self, service: OrderService, order: OrderCreated
    ) -> None:
        with listening(service, "/api/events") as stream:
            stream.begin()
            put(service.settings, Output(service.settings.topics.order_created, b"x", b"\xff", []))
            said(service, order, reserved(order))
            assert types(stream.take(1, order.key)) == ["inventory.reserved"]

    @pytest.mark.parametrize("last_id", ["garbage", "0.0", "zz.0.1", "-", "0.0.1-"])
    def test_an_id_that_is_not_ours_is_422(self, service: OrderService, last_id: str) -> None:
        answer = service.http.get("/api/events", headers={"last-event-id": last_id})
        assert problem_of(answer) == (422, "invalid-request")
        assert answer.json()["field"] == "Last-Event-ID"

    def test_ends_with_the_service_and_not_the_service_with_it(
        self, service: OrderService, order: OrderCreated
    ) -> None:
        with listening(service, "/api/events") as stream:
            stream.begin()
            service.end()
            service.start()
            said(service, order, reserved(order))
        with listening(service, "/api/events", stream.last_id) as again:
            assert types(again.take(1, order.key)) == ["inventory.reserved"]

    def test_leaves_no_process_behind_however_the_service_ends(self, service: OrderService) -> None:
        with listening(service, "/api/events") as stream:
            stream.begin()
            readers = until(lambda: one_of(service.children()), what="one process reads")
            assert readers[0].nice() == 19
            service.end(signal.SIGKILL)
            gone, alive = psutil.wait_procs(readers, timeout=10)
            assert gone
            assert not alive
        service.start()

    def test_one_whose_reader_ends_is_cut_off_and_comes_again(
        self, service: OrderService, order: OrderCreated
    ) -> None:
        with listening(service, "/api/events") as stream:
            stream.begin()
            readers = until(lambda: one_of(service.children()), what="one process reads")
            readers[0].kill()
            with pytest.raises(StopIteration):
                stream.take(1)
        said(service, order, reserved(order))
        with listening(service, "/api/events", stream.last_id) as again:
            assert types(again.take(1, order.key)) == ["inventory.reserved"]
