"""The order service killed while orders come in: whoever repeats an order has it once."""

import signal
from collections import defaultdict
from collections.abc import Iterator
from threading import Thread

import httpx
import pytest

from orderstream.contract.envelope import header
from orderstream.contract.events import decode_created
from tests.builders import lines
from tests.conftest import database_copy, own_settings
from tests.kafka.topics import create, headers_of
from tests.orders.service import OrderService
from tests.waiting import until

CLIENTS = 8


@pytest.fixture
def service(
    kafka: str, template_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OrderService]:
    with database_copy(template_dsn) as dsn:
        settings = create(own_settings(kafka, dsn))
        service = OrderService(settings, tmp_path_factory.mktemp("order"))
        service.start()
        yield service
        service.end()
        service.http.close()


class Client:
    """Places orders with ids of its own, one after the other, until the service is gone."""

    def __init__(self, service: OrderService, number: int) -> None:
        self._service = service
        self._number = number
        self.placed: list[str] = []
        self.answered: set[str] = set()
        self.thread = Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        with httpx.Client(base_url=self._service.url, timeout=15, trust_env=False) as http:
            while True:
                order_id = f"crash-{self._number}-{len(self.placed)}"
                self.placed.append(order_id)
                try:
                    answer = http.post("/api/orders", json=order(order_id))
                except httpx.TransportError:
                    return
                if answer.status_code == 202:
                    self.answered.add(order_id)


def order(order_id: str) -> dict[str, object]:
    return {"orderId": order_id, "productId": order_id, "quantity": 1}


class TestKilledUnderLoad:
    def test_what_was_answered_is_in_the_log_and_a_repeat_is_one_order(
        self, service: OrderService
    ) -> None:
        clients = [Client(service, number) for number in range(CLIENTS)]
        until(lambda: sum(len(client.answered) for client in clients) > 200, what="load")
        service.end(signal.SIGKILL)
        for client in clients:
            client.thread.join(20)
            assert not client.thread.is_alive()
        placed = {order_id for client in clients for order_id in client.placed}
        answered = {order_id for client in clients for order_id in client.answered}
        assert answered <= set(in_log(service))
        assert answered < placed

        service.start()
        for order_id in placed:
            answer = service.place(order(order_id))
            assert (answer.status_code, answer.json()["orderId"]) == (202, order_id)
        found = in_log(service)
        assert set(found) == placed
        # Twice at most, and as one event: the crash came before it was noted as published.
        assert all(len(set(events)) == 1 and len(events) <= 2 for events in found.values())


def in_log(service: OrderService) -> dict[str, list[bytes | None]]:
    """Return the event ids in the log by order, each with what that order asked for."""
    found: dict[str, list[bytes | None]] = defaultdict(list)
    for record in service.log():
        event = decode_created(record.value())
        assert event.items == lines((event.key, 1))
        found[event.key].append(header(headers_of(record), "ce_id"))
    return found
