"""What becomes of orders after they were decided: lawful, and with one thing wrong."""

from datetime import datetime

import pytest

from orderstream.contract.events import (
    InventoryReleased,
    OrderCancelled,
    OrderFulfilled,
    ReleaseCause,
)
from tests.audit.test_checks import the_one
from tests.audit.world import World, later
from tests.builders import an_order, rejected, reserved

CANCELLED_AT, RELEASED_AT = later(100), later(101)


def cancelled(order_id: int, cause: ReleaseCause = "CANCELLED") -> OrderCancelled:
    return OrderCancelled(order_id=order_id, cancelled_at=CANCELLED_AT, cause=cause)


def fulfilled(order_id: int, at: datetime = CANCELLED_AT) -> OrderFulfilled:
    return OrderFulfilled(order_id=order_id, fulfilled_at=at)


def released(order_id: int, cause: ReleaseCause = "CANCELLED") -> InventoryReleased:
    items = an_order(("MUG", 2), order_id=order_id).items
    return InventoryReleased(order_id=order_id, items=items, released_at=RELEASED_AT, cause=cause)


@pytest.fixture
def world(empty_world: World) -> World:
    """Orders that were cancelled, expired, fulfilled, and cancelled before they came."""
    world = empty_world
    for order_id in range(1, 5):
        order = an_order(("MUG", 2), order_id=order_id)
        world.accept(order)
        world.decide(reserved(order, at=later(order_id)))
    world.end(cancelled(1))
    world.release(released(1))
    world.end(cancelled(2, "EXPIRED"))
    world.release(released(2, "EXPIRED"))
    world.end(fulfilled(3))
    order = an_order(("MUG", 2), order_id=5)
    world.end(cancelled(5))
    world.accept(order)
    world.decide(rejected(order, reason="CANCELLED", at=later(110)))
    world.inventory_is_up_to_date()
    return world


class TestLawful:
    def test_nothing_is_found_in_it(self, world: World) -> None:
        world.fill_stores()
        report = world.judge()
        assert report.violations == []
        assert report.proven
        assert {name: n for name, n in report.outcomes.items() if n} == {
            "CONFIRMED": 1,
            "CANCELLED": 2,
            "EXPIRED": 1,
            "FULFILLED": 1,
        }

    def test_a_change_may_be_on_its_way(self, world: World) -> None:
        world.fill_stores()
        world.end(cancelled(4))
        assert world.judge().proven

    def test_cancelled_before_it_came_and_not_come_yet(self, world: World) -> None:
        world.end(cancelled(6))
        world.inventory_is_up_to_date()
        world.fill_stores()
        world.run(
            "INSERT INTO inventory.reservation (order_id, status, quantities)"
            " VALUES ('6', 'CANCELLED', '{}')"
        )
        assert world.judge().proven


class TestUnlawful:
    def test_cancelled_and_fulfilled(self, world: World) -> None:
        world.fill_stores()
        world.end(fulfilled(1))
        report = world.judge()
        assert report.counts["ended_twice"] == 1

    def test_cancelled_but_still_set_aside(self, world: World) -> None:
        world.fill_stores()
        world.run(
            "UPDATE inventory.reservation SET status = 'RESERVED', released_at = NULL"
            " WHERE order_id = '1'"
        )
        world.run("UPDATE inventory.stock SET reserved = reserved + 2 WHERE sku = 'MUG'")
        assert world.judge().counts["ended_in_vain"] == 1

    def test_released_and_not_said(self, empty_world: World) -> None:
        world = empty_world
        order = an_order(("MUG", 2), order_id=1)
        world.accept(order)
        world.decide(reserved(order))
        world.fill_stores()
        world.end(cancelled(1))
        world.inventory_is_up_to_date()
        world.run(
            "UPDATE inventory.reservation SET status = 'CANCELLED', released_at = now()"
            " WHERE order_id = '1'"
        )
        world.run("UPDATE inventory.stock SET reserved = 0 WHERE sku = 'MUG'")
        assert the_one(world.judge(), "released_unsaid").order_id == "1"

    def test_released_otherwise_than_stored(self, world: World) -> None:
        world.fill_stores()
        world.run("UPDATE inventory.reservation SET released_at = now() WHERE order_id = '1'")
        assert the_one(world.judge(), "released_unstored").order_id == "1"

    def test_released_twice(self, world: World) -> None:
        world.fill_stores()
        world.release(released(1))
        world.inventory_is_up_to_date()
        assert the_one(world.judge(), "released_twice").order_id == "1"

    def test_a_page_that_has_not_heard_of_it(self, world: World) -> None:
        world.fill_stores()
        world.run("UPDATE order_view.orders SET status = 20 WHERE order_id = '1'")
        assert the_one(world.judge(), "view_status").order_id == "1"

    def test_a_customer_who_was_not_told(self, world: World) -> None:
        world.fill_stores()
        world.run("DELETE FROM notification.notice WHERE event_id = '3:order.fulfilled'")
        assert the_one(world.judge(), "notice_missing").order_id == "3"

    def test_counted_as_sold_though_released(self, world: World) -> None:
        world.fill_stores()
        world.run("UPDATE analytics.per_sku SET sold = sold + 2 WHERE sku = 'MUG'")
        assert the_one(world.judge(), "analytics_skus")
