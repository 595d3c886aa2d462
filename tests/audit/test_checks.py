"""Each promise is seen to hold in a lawful world, and to be broken by what breaks it alone."""

from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest

from orderstream.audit import verify
from orderstream.audit.checks import CHECKS
from orderstream.audit.report import Behind, Report, Violation
from tests.audit.world import DECIDES, TOPICS, Place, World, later
from tests.builders import an_order, encode, rejected, reserved

ORDER = an_order(("MUG", 2), order_id=77)


def the_one(report: Report, kind: str) -> Violation:
    """Return the only violation there is."""
    broken = {name: found for name, found in report.counts.items() if found}
    assert broken == {kind: 1}, report.violations
    (violation,) = report.violations
    assert violation.kind == kind
    assert report.violated
    assert not report.proven
    return violation


def place_of(violation: Violation) -> Place:
    assert violation.topic is not None
    assert violation.partition is not None
    assert violation.offset is not None
    return violation.topic, violation.partition, violation.offset


class TestLawfulWorld:
    def test_nothing_is_found_in_it(self, world: World) -> None:
        world.fill_stores()
        report = world.judge()
        assert report.violations == []
        assert set(report.counts.values()) == {0}
        assert report.proven

    def test_orders_are_counted_by_what_the_log_says(self, world: World) -> None:
        world.fill_stores()
        report = world.judge()
        assert report.outcomes == {
            "CONFIRMED": 4,
            "REJECTED": 1,
            "FAILED": 2,
            "PENDING": 1,
            "CANCELLED": 0,
            "EXPIRED": 0,
            "FULFILLED": 0,
        }
        assert report.orders == 8
        assert report.records == 25

    def test_an_empty_one_holds_too(self, empty_world: World) -> None:
        empty_world.fill_stores()
        assert empty_world.judge().proven

    def test_a_projection_may_be_behind(self, world: World) -> None:
        world.fill_stores()
        late = world.accept(ORDER)
        world.decide(reserved(ORDER))  # Nobody has read these two yet.
        world.add_reservation(reserved(ORDER))
        world.run("UPDATE inventory.stock SET reserved = reserved + 2 WHERE sku = 'MUG'")
        assert late.offset() > 0
        assert not world.judge().violated

    def test_what_is_not_read_yet_is_no_violation_but_no_proof(self, world: World) -> None:
        world.fill_stores()
        behind = Behind("orderstream-view", "order.created", 0, 5, 2)
        report = msgspec.structs.replace(world.judge(), behind=[behind])
        assert not report.violated
        assert not report.proven

    def test_a_log_without_its_beginning_leaves_checks_undecided(self, world: World) -> None:
        world.fill_stores()
        world.add_page("from before", 0, later(0), None)
        report = world.judge(cut=["order.created[0]"])
        assert not report.violated
        assert not report.proven
        undecided = {check.name for check in report.checks if check.undecided}
        assert undecided == {check.name for check in CHECKS if check.whole_log}


class TestOrders:
    def test_lost(self, world: World) -> None:
        record = world.accept(ORDER)
        world.inventory_is_up_to_date()
        world.fill_stores()
        report = world.judge()
        assert report.counts["lost"] == 2  # Number 9 is on its way no longer.
        found = {violation.order_id: place_of(violation) for violation in report.violations}
        assert found["77"] == record.place
        assert set(found) == {"77", "9"}

    def test_an_order_whose_try_is_due_later_is_not_lost(self, world: World) -> None:
        record = world.accept(ORDER)
        world.inventory_is_up_to_date()
        world.try_again(record, 1)
        world.fill_stores()
        kinds = {violation.order_id for violation in world.judge().violations}
        assert kinds == {"9"}

    def test_said_too_often(self, world: World) -> None:
        world.accept(ORDER)
        world.decide(reserved(ORDER))
        again = world.decide(reserved(ORDER))
        world.fill_stores()
        violation = the_one(world.judge(), "doubled")
        assert violation.order_id == "77"
        assert place_of(violation) == again.place
        assert violation.detail == "put in 1 times, said 2 times"

    def test_another_try_explains_no_second_saying(self, world: World) -> None:
        record = world.accept(ORDER)
        world.decide(reserved(ORDER))
        world.try_again(record, 1)
        again = world.decide(reserved(ORDER))
        world.fill_stores()
        assert place_of(the_one(world.judge(), "doubled")) == again.place

    def test_reserved_and_rejected(self, world: World) -> None:
        world.accept(ORDER)
        world.accept(ORDER)
        world.decide(reserved(ORDER))
        contrary = world.decide(rejected(ORDER, "MUG"))
        world.fill_stores()
        report = world.judge()
        (violation,) = [found for found in report.violations if found.kind == "doubled"]
        assert violation.order_id == "77"
        assert place_of(violation) == contrary.place
        assert violation.detail == "both reserved and rejected"
        # The store can agree with one of them only.
        assert {kind for kind, found in report.counts.items() if found} == {
            "doubled",
            "outcome_unstored",
        }

    def test_said_with_different_contents(self, world: World) -> None:
        world.accept(ORDER)
        world.accept(ORDER)
        world.decide(reserved(ORDER, at=later(1)))
        other = world.decide(reserved(ORDER, at=later(2)))
        world.fill_stores()
        report = world.judge()
        (violation,) = [found for found in report.violations if found.kind == "doubled"]
        assert place_of(violation) == other.place
        assert violation.detail == "said twice with different contents"

    def test_decided_without_an_order(self, world: World) -> None:
        record = world.decide(reserved(ORDER))
        world.fill_stores()
        violation = the_one(world.judge(), "unordered")
        assert violation.order_id == "77"
        assert place_of(violation) == record.place

    def test_decided_about_other_items(self, world: World) -> None:
        world.accept(ORDER)
        record = world.decide(reserved(an_order(("MUG", 3), order_id=77)))
        world.fill_stores()
        violation = the_one(world.judge(), "altered")
        assert place_of(violation) == record.place
        assert violation.detail == 'decided {"MUG": 3}, ordered {"MUG": 2}'

    def test_misnamed(self, world: World) -> None:
        world.accept(ORDER)
        record = world.decide(reserved(ORDER), event_id="78:inventory.reserved")
        world.fill_stores()
        violation = the_one(world.judge(), "misnamed")
        assert violation.order_id == "77"
        assert place_of(violation) == record.place


class TestDeadLetters:
    def test_parked_though_decided(self, world: World) -> None:
        record = world.accept(ORDER)
        world.decide(reserved(ORDER))
        parked = world.park(record)
        world.fill_stores()
        violation = the_one(world.judge(), "parked_though_decided")
        assert violation.order_id == "77"
        assert place_of(violation) == parked.place

    def test_parked_twice(self, world: World) -> None:
        record = world.accept(ORDER)
        world.park(record)
        second = world.park(world.try_again(record, 1))
        world.fill_stores()
        violation = the_one(world.judge(), "parked_twice")
        assert violation.order_id == "77"
        assert place_of(violation) == second.place
        assert str(record.offset()) in violation.detail

    @pytest.mark.parametrize(
        "value", [None, b"", b"[]", b'{"orderId":77,"items":[]}', b"\xff", b'"\\u0000"']
    )
    def test_unreadable_and_not_parked(self, empty_world: World, value: bytes | None) -> None:
        record = empty_world.say(TOPICS.order_created, b"77", value)
        empty_world.inventory_is_up_to_date()
        empty_world.fill_stores()
        violation = the_one(empty_world.judge(), "unreadable_unparked")
        assert violation.order_id == "77"
        assert place_of(violation) == record.place
        assert violation.detail

    def test_unreadable_and_to_be_tried_again(self, empty_world: World) -> None:
        record = empty_world.say(TOPICS.order_created, b"77", b"not JSON")
        empty_world.inventory_is_up_to_date()
        empty_world.try_again(record, 1)
        empty_world.fill_stores()
        assert empty_world.judge().proven

    def test_a_dead_letter_of_another_record_is_none_of_this_one(self, empty_world: World) -> None:
        record = empty_world.say(TOPICS.order_created, b"77", b"not JSON")
        other = empty_world.say(TOPICS.order_created, b"77", b"not JSON")
        empty_world.park(other)
        empty_world.inventory_is_up_to_date()
        empty_world.fill_stores()
        assert place_of(the_one(empty_world.judge(), "unreadable_unparked")) == record.place

    def test_a_key_that_is_not_text_is_nobodys(self, empty_world: World) -> None:
        record = empty_world.say(TOPICS.order_created, b"\xff\x00", b"not JSON")
        empty_world.say(
            TOPICS.order_created_dead,
            record.key(),
            record.value(),
            [
                ("kafka_dlt-original-topic", b"order.created"),
                ("kafka_dlt-original-partition", record.partition().to_bytes(4, "big")),
                ("kafka_dlt-original-offset", record.offset().to_bytes(8, "big")),
                ("kafka_dlt-original-consumer-group", DECIDES.encode()),
            ],
        )
        empty_world.inventory_is_up_to_date()
        empty_world.fill_stores()
        assert empty_world.judge().proven


class TestInventory:
    @pytest.fixture
    def world(self, world: World) -> World:
        world.accept(ORDER)
        return world

    def test_said_but_not_stored(self, world: World) -> None:
        record = world.decide(reserved(ORDER))
        world.fill_stores()
        world.run("DELETE FROM inventory.reservation WHERE order_id = '77'")
        world.run("UPDATE inventory.stock SET reserved = reserved - 2 WHERE sku = 'MUG'")
        violation = the_one(world.judge(), "outcome_unstored")
        assert violation.order_id == "77"
        assert place_of(violation) == record.place

    @pytest.mark.parametrize(
        ("change", "detail"),
        [
            ("""quantities = '{"TEA": 1}'""", 'said {"MUG": 2}, the store has {"TEA": 1}'),
            ("reason = 'UNKNOWN_SKU'", "UNKNOWN_SKU"),
            ("""short = '["TEA"]'""", "TEA"),
            ("decided_at = decided_at + interval '1 us'", "12:00:00.000001"),
            ("status = 'RESERVED', reason = NULL, quantities = '{}'", "the store says RESERVED"),
        ],
    )
    def test_said_otherwise_than_stored(self, world: World, change: str, detail: str) -> None:
        record = world.decide(rejected(ORDER, "MUG"))
        world.fill_stores()
        world.run(f"UPDATE inventory.reservation SET {change} WHERE order_id = '77'")
        violation = the_one(world.judge(), "outcome_unstored")
        assert place_of(violation) == record.place
        assert detail in violation.detail

    def test_stored_but_not_said(self, empty_world: World) -> None:
        record = empty_world.accept(ORDER)
        parked = empty_world.park(record)
        empty_world.inventory_is_up_to_date()
        empty_world.fill_stores()
        empty_world.add_reservation(rejected(ORDER, "MUG"))
        violation = the_one(empty_world.judge(), "reservation_unsaid")
        assert parked.key() == b"77"
        assert violation.order_id == "77"
        assert place_of(violation) == record.place

    def test_stored_for_an_order_that_the_log_does_not_know(self, world: World) -> None:
        world.fill_stores()
        world.add_reservation(rejected(an_order(order_id=78), "MUG"))
        violation = the_one(world.judge(), "reservation_unsaid")
        assert violation.order_id == "78"
        assert violation.topic is None

    def test_stored_and_about_to_be_said(self, world: World) -> None:
        world.fill_stores()
        world.add_reservation(rejected(ORDER, "MUG"))
        assert not world.judge().violated

    def test_stock_is_not_the_sum_of_reservations(self, world: World) -> None:
        world.fill_stores()
        world.run("UPDATE inventory.stock SET reserved = reserved + 1 WHERE sku = 'TEA'")
        violation = the_one(world.judge(), "stock_sum")
        assert violation.detail == "SKU TEA: reserved 2, its reservations sum to 1"

    def test_a_sku_without_stock_is_reserved(self, world: World) -> None:
        world.fill_stores()
        world.run("DELETE FROM inventory.stock WHERE sku = 'TEA'")
        violation = the_one(world.judge(), "stock_sum")
        assert violation.detail == "SKU TEA: reserved 0, its reservations sum to 1"

    @pytest.mark.parametrize("on_hand", [-1, 0])
    def test_more_is_reserved_than_there_is(self, world: World, on_hand: int) -> None:
        world.fill_stores()
        world.run("ALTER TABLE inventory.stock DROP CONSTRAINT no_oversell")
        world.run("ALTER TABLE inventory.stock DROP CONSTRAINT stock_on_hand_check")
        world.run("UPDATE inventory.stock SET on_hand = %s WHERE sku = 'TEA'", on_hand)
        violation = the_one(world.judge(), "stock_range")
        assert violation.detail == f"SKU TEA: on hand {on_hand}, reserved 1"


class TestView:
    @pytest.fixture
    def place(self, world: World) -> Place:
        """An order in a world with its stores; the place of what the log said of it last."""
        world.accept(ORDER)
        record = world.decide(reserved(ORDER, at=later(2)))
        world.fill_stores()
        return record.place

    def test_page_missing(self, world: World, place: Place) -> None:
        world.run("DELETE FROM order_view.orders WHERE order_id = '77'")
        violation = the_one(world.judge(), "view_missing")
        assert violation.order_id == "77"
        assert place_of(violation) == place

    @pytest.mark.usefixtures("place")
    def test_page_of_no_order(self, world: World) -> None:
        world.add_page("78", 0, later(0), None)
        violation = the_one(world.judge(), "view_extra")
        assert violation.order_id == "78"
        assert violation.topic is None

    @pytest.mark.parametrize(("status", "name"), [(0, "PENDING"), (10, "FAILED"), (21, "REJECTED")])
    def test_another_status(self, world: World, place: Place, status: int, name: str) -> None:
        world.run("UPDATE order_view.orders SET status = %s WHERE order_id = '77'", status)
        violation = the_one(world.judge(), "view_status")
        assert violation.order_id == "77"
        assert place_of(violation) == place
        assert violation.detail == f"the page says {name}, the log says CONFIRMED"

    @pytest.mark.parametrize("column", ["created_at", "decided_at"])
    @pytest.mark.parametrize("value", ["NULL", "{} - interval '1 us'", "{} + interval '1 us'"])
    def test_another_time(self, world: World, place: Place, column: str, value: str) -> None:
        world.run(
            f"UPDATE order_view.orders SET {column} = {value.format(column)} WHERE order_id = '77'"
        )
        violation = the_one(world.judge(), "view_times")
        assert violation.order_id == "77"
        assert place_of(violation) == place


class TestNotices:
    @pytest.mark.parametrize("kind", ["reserved", "rejected", "failed"])
    def test_missing(self, world: World, kind: str) -> None:
        record = world.accept(ORDER)
        say: dict[str, Callable[[], Place]] = {
            "reserved": lambda: world.decide(reserved(ORDER)).place,
            "rejected": lambda: world.decide(rejected(ORDER, "MUG")).place,
            "failed": lambda: world.park(record).place,
        }
        place = say[kind]()
        world.fill_stores()
        world.run("DELETE FROM notification.notice WHERE order_id = '77'")
        violation = the_one(world.judge(), "notice_missing")
        assert violation.order_id == "77"
        assert place_of(violation) == place
        assert kind in violation.detail

    @pytest.mark.parametrize(
        ("key", "event_type"),
        [("1", "order.failed"), ("1", "inventory.rejected"), ("78", "inventory.reserved")],
    )
    def test_of_what_did_not_happen(self, world: World, key: str, event_type: str) -> None:
        world.fill_stores()
        world.add_notice(key, event_type)
        violation = the_one(world.judge(), "notice_extra")
        assert violation.order_id == key
        assert f"{key}:{event_type}" in violation.detail

    def test_what_the_view_gave_up_on_is_no_failure(self, world: World) -> None:
        world.fill_stores()
        world.add_notice("8", "order.failed")
        assert the_one(world.judge(), "notice_extra").order_id == "8"


class TestAnalytics:
    def test_order_counts_as_something_else(self, world: World) -> None:
        world.fill_stores()
        world.run("UPDATE analytics.counted_names SET facts = 132 WHERE order_id = '1'")
        violation = the_one(world.judge(), "analytics_counted")
        assert violation.order_id == "1"
        assert place_of(violation)[0] == TOPICS.inventory_reserved
        assert violation.detail == "counts as REJECTED, ACCEPTED, the log says CONFIRMED, ACCEPTED"

    def test_order_does_not_count(self, world: World) -> None:
        world.fill_stores()
        world.run("DELETE FROM analytics.counted_names WHERE order_id = '1'")
        assert the_one(world.judge(), "analytics_counted").order_id == "1"

    def test_order_counts_that_is_none(self, world: World) -> None:
        world.fill_stores()
        world.run("INSERT INTO analytics.counted_names VALUES ('78', 1)")
        assert the_one(world.judge(), "analytics_counted").order_id == "78"

    def test_decided_order_still_counts_as_failed(self, world: World) -> None:
        world.fill_stores()
        world.run("UPDATE analytics.counted_names SET facts = 1 WHERE order_id = '5'")
        assert the_one(world.judge(), "analytics_counted").order_id == "5"

    @pytest.mark.parametrize(
        ("change", "kind", "detail"),
        [
            (
                "UPDATE analytics.per_outcome SET orders = orders + 1 WHERE outcome = 'FAILED'",
                "analytics_outcomes",
                "FAILED: counted 3, the log has 2",
            ),
            (
                "DELETE FROM analytics.per_outcome WHERE outcome = 'REJECTED'",
                "analytics_outcomes",
                "REJECTED: counted 0, the log has 1",
            ),
            (
                "UPDATE analytics.per_sku SET sold = sold - 1 WHERE sku = 'TEA'",
                "analytics_skus",
                "SKU TEA: sold 0, lost 0; the log says 1, 0",
            ),
            (
                "UPDATE analytics.per_sku SET lost = 0 WHERE sku = 'NOPE'",
                "analytics_skus",
                "SKU NOPE: sold 0, lost 0; the log says 0, 2",
            ),
            (
                "UPDATE analytics.per_minute SET orders = orders + 1 WHERE outcome = 'REJECTED'",
                "analytics_minutes",
                "2026-11-21 12:01:00+00 REJECTED: counted 2, the log has 1",
            ),
            (
                "UPDATE analytics.per_minute SET orders = 1 WHERE outcome = 'FAILED'",
                "analytics_minutes",
                "2026-11-21 12:00:00+00 FAILED: counted 1, the log has 3",
            ),
            (
                "UPDATE analytics.latency SET orders = orders - 1",
                "analytics_latency",
                "the histogram has 4 orders, the log 5",
            ),
        ],
    )
    def test_a_sum_is_wrong(self, world: World, change: str, kind: str, detail: str) -> None:
        world.fill_stores()
        world.run(change)
        assert the_one(world.judge(), kind).detail == detail


class TestReport:
    def test_all_are_counted_and_the_first_listed(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(verify, "LISTED_MAX", 2)
        world.fill_stores()
        for number in range(5):
            world.add_page(f"extra {number}", 0, later(0), None)
        report = world.judge()
        assert report.counts["view_extra"] == 5
        assert len(report.violations) == 2

    def test_every_check_is_named_once(self) -> None:
        names = [check.name for check in CHECKS]
        assert len(names) == len(set(names))
        assert all(check.sentence.endswith(".") for check in CHECKS)

    def test_a_retry_put_there_by_hand_is_an_order_of_its_own(self, world: World) -> None:
        world.accept(ORDER)
        world.decide(reserved(ORDER))
        world.say(TOPICS.order_created_retry, b"77", encode(ORDER))
        world.decide(reserved(ORDER))
        world.fill_stores()
        assert world.judge().proven

    def test_an_order_of_another_program_has_the_time_of_its_record(self, world: World) -> None:
        order = an_order(order_id=78)
        at = later(0) - timedelta(days=1)
        world.say(
            TOPICS.order_created, b"78", b'{"orderId":78,"items":[{"sku":"a","qty":1}]}', (), at
        )
        world.fill_stores()
        world.add_page(order.key, 0, at, None)
        world.add_pending(order.key, at)
        assert world.judge().proven
