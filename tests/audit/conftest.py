"""A world with every lawful course of an order in it, in a database that forgets it afterwards."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.audit.world import TOPICS, World, later
from tests.builders import an_order, rejected, reserved


@pytest.fixture
def empty_world(template_dsn: str) -> Iterator[World]:
    """Nothing on the log, nothing in the stores."""
    with psycopg.connect(template_dsn) as connection:
        connection.execute("SET timezone = 'UTC'")
        yield World(connection)
        connection.rollback()


@pytest.fixture
def world(empty_world: World) -> World:
    """Orders that were reserved, rejected, repeated, failed, redriven; stores not filled yet."""
    world = empty_world
    order = an_order(("MUG", 2), ("TEA", 1), ("MUG", 1), order_id=1)
    world.accept(order)
    world.decide(reserved(order, at=later(1)))

    order = an_order(("MUG", 9), ("NOPE", 2), order_id="two")
    world.accept(order)
    world.decide(rejected(order, "NOPE", reason="UNKNOWN_SKU", at=later(70)))

    # The client did not learn the outcome and sent it again: published twice, decided once.
    order = an_order(order_id=3)
    again = an_order(order_id=3, at=later(5))
    world.accept(order)
    world.accept(again)
    world.decide(reserved(order, at=later(6)))
    world.decide(reserved(again, at=later(6)))

    record = world.accept(an_order(("FAIL", 1), order_id=4))
    second_try = world.try_again(record, 1)
    third_try = world.try_again(second_try, 2)
    world.park(third_try, at=later(10))

    # Failed, put right by a person, then decided.
    order = an_order(order_id=5)
    first = world.accept(order)
    parked = world.park(first, at=later(20))
    world.say(TOPICS.order_created, parked.key(), parked.value(), parked.headers())
    world.decide(reserved(order, at=later(200)))

    unreadable = world.say(TOPICS.order_created, b"6", b"not JSON")
    world.park(world.try_again(unreadable, 1), at=later(30))
    nobodys = world.say(TOPICS.order_created, None, b'{"orderId":7}')
    world.park(nobodys)

    # The view gave up on this one: its loss, the order's course goes on.
    order = an_order(order_id=8)
    world.park(world.accept(order), by="orderstream-view")
    world.decide(reserved(order, at=later(3)))

    world.inventory_is_up_to_date()
    world.accept(an_order(order_id=9, at=later(300)))  # Still on its way.
    return world
