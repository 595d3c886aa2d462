from datetime import timedelta

import pytest

from orderstream.inventory import rules
from orderstream.inventory.rules import Cancel, Outcome, Standing, Wanted
from tests.builders import NOON, lines


def wanted(*of: tuple[str, int], key: str = "1") -> Wanted:
    return Wanted(key, lines(*of))


class TestReserve:
    def test_takes_every_line(self) -> None:
        free = {"MUG": 5, "CAP": 2}
        outcome = rules.reserve(wanted(("MUG", 3), ("CAP", 2)), free, NOON)
        assert outcome == Outcome("1", {"MUG": 3, "CAP": 2}, None, (), NOON)
        assert free == {"MUG": 2, "CAP": 0}

    def test_takes_nothing_when_one_line_is_short(self) -> None:
        free = {"MUG": 5, "CAP": 1}
        outcome = rules.reserve(wanted(("MUG", 3), ("CAP", 2)), free, NOON)
        assert (outcome.reason, outcome.short) == ("OUT_OF_STOCK", ("CAP",))
        assert free == {"MUG": 5, "CAP": 1}

    def test_two_lines_of_one_sku_count_together(self) -> None:
        free = {"MUG": 5}
        outcome = rules.reserve(wanted(("MUG", 3), ("MUG", 3)), free, NOON)
        assert (outcome.reason, outcome.short) == ("OUT_OF_STOCK", ("MUG",))
        assert free == {"MUG": 5}

    def test_takes_the_last_piece(self) -> None:
        free = {"MUG": 1}
        assert rules.reserve(wanted(("MUG", 1)), free, NOON).reason is None
        assert free == {"MUG": 0}

    def test_an_unknown_sku_is_named_as_such(self) -> None:
        outcome = rules.reserve(wanted(("NOPE", 1), ("MUG", 9)), {"MUG": 5}, NOON)
        assert (outcome.reason, outcome.short) == ("UNKNOWN_SKU", ("NOPE", "MUG"))


class TestReserveAll:
    def test_first_come_first_served_within_a_batch(self) -> None:
        orders = [
            wanted(("MUG", 2), key="a"),
            wanted(("MUG", 2), key="b"),
            wanted(("MUG", 1), key="c"),
        ]
        outcomes = rules.reserve_all(orders, {}, {}, {"MUG": 3}, NOON)
        assert [(key, o.reason) for key, o in outcomes.items()] == [
            ("a", None),
            ("b", "OUT_OF_STOCK"),
            ("c", None),
        ]

    def test_an_order_settled_before_is_not_settled_again(self) -> None:
        earlier = Outcome("a", {"MUG": 2}, None, (), NOON - timedelta(hours=1))
        free = {"MUG": 3}
        assert (
            rules.reserve_all([wanted(("MUG", 2), key="a")], {"a": earlier}, {}, free, NOON) == {}
        )
        assert free == {"MUG": 3}

    def test_an_order_twice_in_one_batch_is_settled_once(self) -> None:
        free = {"MUG": 3}
        outcomes = rules.reserve_all([wanted(("MUG", 2))] * 2, {}, {}, free, NOON)
        assert list(outcomes) == ["1"]
        assert free == {"MUG": 1}

    def test_an_order_that_was_cancelled_before_it_came_gets_nothing(self) -> None:
        free = {"MUG": 3}
        outcome = rules.reserve_all([wanted(("MUG", 2))], {}, {"1": "CANCELLED"}, free, NOON)["1"]
        assert outcome == Outcome("1", {"MUG": 2}, "CANCELLED", (), NOON)
        assert free == {"MUG": 3}


RESERVED = Standing("1", "RESERVED", {"MUG": 2})


class TestCancel:
    def test_releases_what_is_reserved_once(self) -> None:
        twice = [Cancel("1", "CANCELLED"), Cancel("1", "EXPIRED")]
        changed = rules.cancel_all(twice, {"1": RESERVED}, NOON)
        assert changed == {"1": Standing("1", "CANCELLED", {"MUG": 2}, NOON)}

    def test_of_an_order_not_known_yet_keeps_it_from_getting_anything(self) -> None:
        changed = rules.cancel_all([Cancel("1", "CANCELLED")], {}, NOON)
        assert changed == {"1": Standing("1", "CANCELLED", {})}

    @pytest.mark.parametrize("status", ["REJECTED", "CANCELLED", "EXPIRED", "FULFILLED"])
    def test_changes_nothing_that_is_over(self, status: rules.Status) -> None:
        known = {"1": Standing("1", status, {"MUG": 2})}
        assert rules.cancel_all([Cancel("1", "EXPIRED")], known, NOON) == {}


class TestFulfil:
    def test_takes_what_is_reserved_once(self) -> None:
        changed = rules.fulfil_all(["1", "1"], {"1": RESERVED})
        assert changed == {"1": Standing("1", "FULFILLED", {"MUG": 2})}
        assert rules.fulfil_all(["1"], changed) == {}

    def test_of_an_order_not_known_yet_waits_for_it(self) -> None:
        assert rules.fulfil_all(["1"], {}) == {"1": Standing("1", "FULFILLED", {})}

    @pytest.mark.parametrize("status", ["REJECTED", "CANCELLED", "EXPIRED"])
    def test_without_a_reservation_says_why_not(self, status: rules.Status) -> None:
        with pytest.raises(rules.NotReserved, match=f"order 1 cannot be fulfilled: it is {status}"):
            rules.fulfil_all(["1"], {"1": Standing("1", status, {})})


class TestTaken:
    def test_sums_reserved_orders_only(self) -> None:
        outcomes = [
            Outcome("a", {"MUG": 2, "CAP": 1}, None, (), NOON),
            Outcome("b", {"MUG": 3}, None, (), NOON),
            Outcome("c", {"MUG": 9}, "OUT_OF_STOCK", ("MUG",), NOON),
        ]
        assert rules.taken(outcomes) == {"MUG": 5, "CAP": 1}


class TestDrill:
    def test_the_drill_sku_fails(self) -> None:
        with pytest.raises(rules.DrillFailure, match="order 1 asks for the drill SKU FAIL"):
            rules.refuse_drill([wanted(("MUG", 1), ("FAIL", 1))], "FAIL")

    def test_no_drill_sku_no_drill(self) -> None:
        rules.refuse_drill([wanted(("", 1), ("FAIL", 1))], "")
