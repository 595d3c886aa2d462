"""The order service with a Redis: what it refuses at the door, and what it goes on without."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orderstream.inventory.stock_hinted import EMPTY
from orderstream.runtime.clock import utc_now
from orderstream.runtime.hints import PREFIX
from tests.conftest import SettingsOf
from tests.kafka.topics import create
from tests.kafka.workers import stock
from tests.orders.service import OrderService, problem_of
from tests.own_redis import OwnRedis
from tests.waiting import until


def order(*skus: str, **more: object) -> dict[str, object]:
    return {"userId": 1, "items": [{"sku": sku, "qty": 1} for sku in skus], **more}


def doubt(redis: OwnRedis, *skus: str) -> None:
    """Say that these are gone, true or not."""
    redis.client.zadd(PREFIX + EMPTY, dict.fromkeys(skus, utc_now().timestamp() + 60))


@pytest.fixture
def service(settings_of: SettingsOf, redis: OwnRedis, tmp_path: Path) -> Iterator[OrderService]:
    settings = settings_of(REDIS_URL=redis.url, ORDERSTREAM_FAST_REJECT="1")
    service = OrderService(create(settings), tmp_path)
    service.start()
    yield service
    service.end()
    service.http.close()


class TestAnOrderForGoods:
    def test_that_are_gone_is_refused_and_only_that(
        self, service: OrderService, redis: OwnRedis
    ) -> None:
        stock(service.settings, GONE=0, MUG=5)
        known = order("GONE", orderId="known")
        assert service.place(known).status_code == 202  # Redis does not say so yet.
        doubt(redis, "GONE", "MUG", "NEVER-STOCKED")
        until(lambda: service.place(order("GONE")).status_code == 409, what="it is refused")
        refused = service.place(order("MUG", "GONE", orderId="new"))
        assert problem_of(refused) == (409, "out-of-stock")
        assert refused.json()["short"] == ["GONE"]
        assert service.records("new") == []
        # Redis lies of these: the store decides.
        assert service.place(order("MUG")).status_code == 202
        assert service.place(order("NEVER-STOCKED")).status_code == 202
        # A repeat gets the answer that it got.
        assert service.place(known).headers["idempotent-replayed"] == "true"
        # What was refused is free: once there is some, the same id may bring another order.
        stock(service.settings, GONE=1)
        assert service.place(order("GONE", orderId="new")).status_code == 202

    def test_that_are_gone_is_accepted_while_redis_is_away(
        self, service: OrderService, redis: OwnRedis
    ) -> None:
        stock(service.settings, GONE=0)
        doubt(redis, "GONE")
        until(lambda: service.place(order("GONE")).status_code == 409, what="it is refused")
        redis.end()
        try:
            until(lambda: service.place(order("GONE")).status_code == 202, what="it is accepted")
            ready = service.http.get("/readyz")
            assert (ready.status_code, list(ready.json()["without"])) == (200, ["redis"])
            first = service.place(order("A", orderId="x"))
            second = service.place(order("A", orderId="x"))
            assert [first.status_code, second.status_code] == [202, 202]
            assert second.headers["idempotent-replayed"] == "true"
        finally:
            redis.start()
        until(lambda: "without" not in service.http.get("/readyz").json(), what="Redis is back")
