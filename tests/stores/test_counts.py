from datetime import timedelta

import pytest

from orderstream.analytics.rules import Counted, Failed, count
from orderstream.analytics.store_postgres import PostgresCounts
from orderstream.runtime.database import Database
from tests.builders import NOON, an_order, rejected, reserved
from tests.stores.conftest import Emptied
from tests.waiting import together


@pytest.fixture
def database(emptied: Emptied) -> Database:
    return emptied("analytics")


@pytest.fixture
def counts(database: Database) -> PostgresCounts:
    return PostgresCounts(database)


def add(database: Database, *events: Counted) -> None:
    counts = PostgresCounts(database)
    with database.transaction() as tx:
        before = counts.facts(tx, [event.key for event in events])
        counts.add(tx, count(events, before))


def outcomes_of(**counted: int) -> dict[str, int]:
    names = ("CONFIRMED", "REJECTED", "FAILED", "CANCELLED", "EXPIRED", "FULFILLED")
    return dict.fromkeys(names, 0) | counted


def outcomes(counts: PostgresCounts) -> tuple[int, int, int]:
    found = counts.summary()["outcomes"]
    return found["CONFIRMED"], found["REJECTED"], found["FAILED"]


MUGS = an_order(("MUG", 2), ("CAP", 1), order_id=1)


class TestSummary:
    def test_of_nothing(self, counts: PostgresCounts) -> None:
        assert counts.summary() == {
            "orders": 0,
            "outcomes": outcomes_of(),
            "decisionLatencyMs": {"p50": None, "p99": None},
        }

    def test_each_outcome_is_counted(self, database: Database, counts: PostgresCounts) -> None:
        add(
            database,
            reserved(MUGS),
            rejected(an_order(order_id=2)),
            rejected(an_order(order_id=3)),
            Failed("4", NOON),
        )
        assert outcomes(counts) == (1, 2, 1)
        assert counts.summary()["orders"] == 4

    def test_an_order_read_twice_is_counted_once(
        self, database: Database, counts: PostgresCounts
    ) -> None:
        add(database, reserved(MUGS), reserved(MUGS))
        add(database, reserved(MUGS))
        assert outcomes(counts) == (1, 0, 0)
        assert counts.top(1) == [{"sku": "MUG", "sold": 2, "lost": 0}]

    @pytest.mark.parametrize("batches", [1, 2])
    @pytest.mark.parametrize("order", [(0, 1, 0), (1, 0, 0), (0, 0, 1)])
    def test_failed_and_decided_in_any_order_it_counts_as_decided(
        self, database: Database, counts: PostgresCounts, batches: int, order: tuple[int, ...]
    ) -> None:
        both = (Failed("1", NOON), reserved(MUGS, NOON + timedelta(minutes=3)))
        events = [both[index] for index in order]
        for batch in [events] if batches == 1 else [events[:1], events[1:]]:
            add(database, *batch)
        assert outcomes(counts) == (1, 0, 0)
        minutes = counts.timeseries(NOON, NOON + timedelta(hours=1))
        assert [minute["outcomes"] for minute in minutes] == [
            outcomes_of(FAILED=1),
            outcomes_of(CONFIRMED=1),
        ]

    def test_quantiles_are_at_most_a_bucket_too_high(
        self, database: Database, counts: PostgresCounts
    ) -> None:
        for number in range(1, 101):
            order = an_order(order_id=number)
            add(database, reserved(order, NOON + timedelta(milliseconds=number * 10)))
        latency = counts.summary()["decisionLatencyMs"]
        assert 500 <= latency["p50"] <= 500 * 2 ** (1 / 4)
        assert 990 <= latency["p99"] <= 990 * 2 ** (1 / 4)

    def test_rivals_count_an_order_once(self, database: Database, counts: PostgresCounts) -> None:
        answers = together([lambda: add(database, reserved(MUGS), Failed("9", NOON))] * 8)
        assert answers == [None] * 8
        assert outcomes(counts) == (1, 0, 1)


class TestTimeseries:
    def test_counts_by_the_minute_of_the_decision_from_and_not_including_the_end(
        self, database: Database, counts: PostgresCounts
    ) -> None:
        for number, seconds in enumerate((0, 59, 60, 120)):
            at = NOON + timedelta(seconds=seconds)
            add(database, reserved(an_order(order_id=number), at))
        minutes = counts.timeseries(NOON, NOON + timedelta(minutes=2))
        assert [(m["minute"], m["outcomes"]["CONFIRMED"]) for m in minutes] == [
            ("2026-11-21T12:00:00.000Z", 2),
            ("2026-11-21T12:01:00.000Z", 1),
        ]


class TestTop:
    def test_best_sellers_first_with_what_was_asked_for_in_vain(
        self, database: Database, counts: PostgresCounts
    ) -> None:
        add(
            database,
            reserved(an_order(("MUG", 3), ("MUG", 2), ('{"C,A\\P', 7), order_id=1)),
            rejected(an_order(("MUG", 50), ("PEN", 1), order_id=2), "MUG"),
        )
        assert counts.top(10) == [
            {"sku": '{"C,A\\P', "sold": 7, "lost": 0},
            {"sku": "MUG", "sold": 5, "lost": 50},
        ]
        assert len(counts.top(1)) == 1
