"""What an operator put back is no second saying of it, and hides none."""

import pytest

from tests.audit.test_checks import place_of, the_one
from tests.audit.world import DECIDES, TOPICS, LogRecord, World, later
from tests.builders import an_order, cancelled, encode, released, reserved


def origin(topic: str) -> list[tuple[str, bytes]]:
    return [("kafka_dlt-original-topic", topic.encode())]


class TestAnOutcome:
    def test_that_was_redriven_for_a_projection_was_said_once(self, empty_world: World) -> None:
        order = an_order()
        empty_world.accept(order)
        said = empty_world.decide(reserved(order, at=later(1)))
        headers = said.headers() + origin(TOPICS.inventory_reserved)
        empty_world.say(TOPICS.inventory_reserved, said.key(), said.value(), headers)
        empty_world.inventory_is_up_to_date()
        empty_world.fill_stores()
        assert empty_world.judge().counts["doubled"] == 0

    def test_that_was_said_twice_is_found_beside_a_redriven_one(self, empty_world: World) -> None:
        order = an_order()
        empty_world.accept(order)
        said = empty_world.decide(reserved(order, at=later(1)))
        for headers in (said.headers(), said.headers() + origin(TOPICS.inventory_reserved)):
            empty_world.say(TOPICS.inventory_reserved, said.key(), said.value(), headers)
        empty_world.inventory_is_up_to_date()
        empty_world.fill_stores()
        assert empty_world.judge().counts["doubled"] == 1


class TestAnOrder:
    def test_that_was_redriven_with_other_items_is_reserved_as_these(
        self, empty_world: World
    ) -> None:
        drill = an_order(("FAIL", 1))
        parked = empty_world.park(empty_world.accept(drill), at=later(5))
        mended = an_order(("MUG", 1))
        empty_world.say(TOPICS.order_created, parked.key(), encode(mended), parked.headers())
        empty_world.decide(reserved(mended, at=later(9)))
        empty_world.inventory_is_up_to_date()
        empty_world.fill_stores()
        assert empty_world.judge().violations == []

    def test_that_failed_again_after_a_redrive_is_parked_once_each_time(
        self, empty_world: World
    ) -> None:
        parked = empty_world.park(empty_world.accept(an_order(("FAIL", 1))), at=later(5))
        again = empty_world.say(
            TOPICS.order_created, parked.key(), parked.value(), parked.headers()
        )
        empty_world.park(again, by=DECIDES, at=later(9))
        empty_world.inventory_is_up_to_date()
        empty_world.fill_stores()
        assert empty_world.judge().violations == []


class TestARelease:
    @pytest.fixture
    def said(self, empty_world: World) -> LogRecord:
        """An order was cancelled, and inventory said that its stock is free."""
        order = an_order()
        empty_world.accept(order)
        empty_world.decide(reserved(order, at=later(1)))
        empty_world.end(cancelled(order, at=later(2)))
        return empty_world.release(released(order, at=later(3)))

    def again(self, world: World, said: LogRecord, topic: str) -> LogRecord:
        headers = said.headers() + origin(topic)
        return world.say(said.topic(), said.key(), said.value(), headers)

    def test_that_was_redriven_for_a_projection_was_said_once(
        self, empty_world: World, said: LogRecord
    ) -> None:
        self.again(empty_world, said, TOPICS.inventory_released)
        self.again(empty_world, said, TOPICS.inventory_released)
        empty_world.inventory_is_up_to_date()
        empty_world.fill_stores()
        assert empty_world.judge().violations == []

    def test_that_was_said_twice_is_found_beside_a_redriven_one(
        self, empty_world: World, said: LogRecord
    ) -> None:
        self.again(empty_world, said, TOPICS.inventory_released)
        second = empty_world.say(said.topic(), said.key(), said.value(), said.headers())
        empty_world.inventory_is_up_to_date()
        empty_world.fill_stores()
        violation = the_one(empty_world.judge(), "released_twice")
        assert place_of(violation) == second.place
        assert violation.detail == "over 1 times, released 2 times"

    def test_with_the_history_of_another_topic_is_a_saying_of_its_own(
        self, empty_world: World, said: LogRecord
    ) -> None:
        self.again(empty_world, said, TOPICS.order_cancelled)
        empty_world.inventory_is_up_to_date()
        empty_world.fill_stores()
        assert the_one(empty_world.judge(), "released_twice").order_id == "1"

    def test_of_a_cancellation_that_was_redriven_is_said_for_each(
        self, empty_world: World, said: LogRecord
    ) -> None:
        order = an_order()
        end = cancelled(order, at=later(2))
        headers = origin(TOPICS.order_cancelled)
        empty_world.say(TOPICS.order_cancelled, said.key(), encode(end), headers)
        empty_world.release(released(order, at=later(3)))
        empty_world.inventory_is_up_to_date()
        empty_world.fill_stores()
        assert empty_world.judge().violations == []
