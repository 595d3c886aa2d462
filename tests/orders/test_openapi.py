"""The order service does what its OpenAPI document says, whatever it is asked."""

from tests.fuzzing import fuzz
from tests.orders.service import ITEMS, OrderService


def fewer(path: str) -> int:
    """Of those that wait for an order that nobody knows, or read a topic for each request."""
    return 20 if "{order_id}/" in path else 8 if "dead-letters" in path else 1


class TestTheOrderService:
    def test_answers_as_its_document_says(self, service: OrderService) -> None:
        service.place(ITEMS)
        seen = fuzz(service.url, 40, fewer)
        assert {202, 422} <= seen["POST /api/orders"]
        assert 200 in seen["POST /api/orders:bulk"]
        assert {200, 422} <= seen["GET /api/orders"]
        assert "GET /api/dead-letters" in seen
        assert service.place(ITEMS).status_code == 202
