"""Whose an order is: the same on the log, on its page and under its Idempotency-Key."""

from typing import TypeVar

import msgspec
import pytest

from orderstream.contract.events import InventoryReserved, OrderCreated
from tests.audit.test_checks import place_of, the_one
from tests.audit.world import TOPICS, LogRecord, World, later
from tests.builders import an_order, encode, reserved

E = TypeVar("E", OrderCreated, InventoryReserved)


def of(owner: str, event: E) -> E:
    return msgspec.structs.replace(event, owner=owner)


def owned(world: World, owner: str, order_id: int) -> LogRecord:
    """An order of an owner's is accepted and decided; the record of the decision."""
    order = an_order(order_id=order_id)
    world.accept(of(owner, order))
    return world.decide(of(owner, reserved(order, at=later(order_id))))


@pytest.fixture
def said(empty_world: World) -> LogRecord:
    """The decision on order 1, which is shop's; 2 is market's, 3 nobody's, 4 not decided yet."""
    world = empty_world
    said = owned(world, "shop", 1)
    owned(world, "market", 2)
    nobodys = an_order(order_id=3)
    world.accept(nobodys)
    world.decide(reserved(nobodys))
    world.inventory_is_up_to_date()
    world.accept(of("shop", an_order(order_id=4)))
    world.fill_stores()
    world.add_claim("key@shop:a:b", "1")
    world.add_claim("key@market:a:b", "2")
    world.add_claim("key:a@b:c", "3")
    world.add_claim("order:1", "1")
    world.add_claim("key@shop:never published", "5")
    return said


@pytest.mark.usefixtures("said")
class TestLawful:
    def test_nothing_is_found_in_it(self, empty_world: World) -> None:
        assert empty_world.judge().violations == []

    def test_an_operator_may_give_an_order_to_another(self, empty_world: World) -> None:
        world = empty_world
        order = an_order(order_id=6)
        parked = world.park(world.accept(of("shop", order)))
        given = of("market", order)
        world.say(TOPICS.order_created, parked.key(), encode(given), parked.headers())
        said = of("market", reserved(order))
        world.decide(said)
        world.add_page("6", 20, order.created_at, said.decided_at, "market")
        world.add_reservation(said)
        world.add_claim("key@shop:c", "6")
        report = world.judge()
        assert {report.counts[name] for name in ("view_owner", "claimed_by_another")} == {0}
        assert report.counts["owner_altered"] == 0

    def test_an_order_that_could_not_be_read_is_nobodys(self, empty_world: World) -> None:
        world = empty_world
        world.park(world.say(TOPICS.order_created, b"7", b"not JSON"))
        world.run(
            "UPDATE order_view.position SET next = 1 WHERE topic = %s AND partition = 1",
            TOPICS.order_created_dead,
        )
        world.add_page("7", 10, None, None)
        assert world.judge().counts["view_owner"] == 0


class TestUnlawful:
    @pytest.mark.parametrize("value", ["NULL", "'market'", "'zoo'", "'a'"])
    def test_a_page_of_another(self, empty_world: World, said: LogRecord, value: str) -> None:
        empty_world.run(f"UPDATE order_view.orders SET owner = {value} WHERE order_id = '1'")
        violation = the_one(empty_world.judge(), "view_owner")
        assert violation.order_id == "1"
        assert place_of(violation) == said.place
        whom = value.strip("'").replace("NULL", "nobody")
        assert violation.detail == f"the page is of {whom}, the log says shop"

    @pytest.mark.usefixtures("said")
    def test_a_page_of_somebody_for_an_order_of_nobodys(self, empty_world: World) -> None:
        empty_world.run("UPDATE order_view.orders SET owner = 'shop' WHERE order_id = '3'")
        violation = the_one(empty_world.judge(), "view_owner")
        assert violation.detail == "the page is of shop, the log says nobody"

    @pytest.mark.usefixtures("said")
    def test_a_page_of_another_before_it_is_decided(self, empty_world: World) -> None:
        empty_world.run("UPDATE order_view.orders SET owner = 'market' WHERE order_id = '4'")
        assert the_one(empty_world.judge(), "view_owner").order_id == "4"

    @pytest.mark.parametrize(
        ("name", "order_id", "owner"),
        [
            ("key@market:x", "1", "shop"),
            ("key:x", "1", "shop"),
            ("key@market:x", "3", "nobody"),
        ],
    )
    @pytest.mark.usefixtures("said")
    def test_a_key_that_stands_for_anothers_order(
        self, empty_world: World, name: str, order_id: str, owner: str
    ) -> None:
        empty_world.add_claim(name, order_id)
        violation = the_one(empty_world.judge(), "claimed_by_another")
        assert violation.order_id == order_id
        assert place_of(violation)[0] == TOPICS.order_created
        assert violation.detail == f"{name} stands for an order of {owner}"

    @pytest.mark.parametrize("another", ["market", None])
    def test_decided_as_anothers(self, empty_world: World, another: str | None) -> None:
        order = an_order(order_id=1)
        empty_world.accept(of("shop", order))
        decision = reserved(order)
        record = empty_world.decide(of(another, decision) if another else decision)
        empty_world.inventory_is_up_to_date()
        empty_world.fill_stores()
        violation = the_one(empty_world.judge(), "owner_altered")
        assert place_of(violation) == record.place
        whom = another or "nobody"
        assert violation.detail == f"decided as an order of {whom}, accepted as one of shop"
