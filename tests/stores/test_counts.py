from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import pytest

from orderstream.analytics.ranges import Cut, Range, Unit
from orderstream.analytics.rules import Accepted, Changes, Counted, Failed, count
from orderstream.analytics.store_postgres import PostgresCounts
from orderstream.runtime.database import Database
from tests.builders import (
    NOON,
    an_order,
    cancelled,
    fulfilled,
    rejected,
    released,
    reserved,
)
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
        keys = [event.key for event in events]
        counts.add(tx, keys, partial(count, keys, events))


def outcomes_of(**counted: int) -> dict[str, int]:
    names = ("CONFIRMED", "REJECTED", "FAILED", "CANCELLED", "EXPIRED", "FULFILLED")
    return dict.fromkeys(names, 0) | counted


def sold(counts: PostgresCounts, of: Range | None = None) -> dict[str, tuple[int, int]]:
    return {row["sku"]: (row["sold"], row["lost"]) for row in counts.skus(of, 100)}


def outcomes(counts: PostgresCounts) -> tuple[int, int, int]:
    found = counts.summary()["outcomes"]
    return found["CONFIRMED"], found["REJECTED"], found["FAILED"]


MUGS = an_order(("MUG", 2), ("CAP", 1), order_id=1)
HOUR = Range(NOON, NOON + timedelta(hours=1))
MINUTES = Cut(Unit.MINUTE, UTC)


class TestSummary:
    def test_of_nothing(self, counts: PostgresCounts) -> None:
        assert counts.summary() == {
            "orders": 0,
            "pending": 0,
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
        assert sold(counts) == {"CAP": (1, 0), "MUG": (2, 0)}

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
        minutes = counts.timeseries(HOUR, MINUTES)
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
        minutes = counts.timeseries(Range(NOON, NOON + timedelta(minutes=2)), MINUTES)
        assert [(m["minute"], m["outcomes"]["CONFIRMED"]) for m in minutes] == [
            ("2026-11-21T12:00:00.000Z", 2),
            ("2026-11-21T12:01:00.000Z", 1),
        ]

    def test_hours_and_days_are_those_of_the_zone(
        self, database: Database, counts: PostgresCounts
    ) -> None:
        for number, at in enumerate(("18:14", "18:15", "18:45")):
            when = datetime.fromisoformat(f"2026-11-21T{at}+00:00")
            add(database, Accepted(str(number), when))
        of = Range(NOON, NOON + timedelta(days=1))

        def accepted(unit: Unit, zone: str) -> list[tuple[str, int]]:
            cut = Cut(unit, ZoneInfo(zone))
            return [(r[unit.value][:13], r["accepted"]) for r in counts.timeseries(of, cut)]

        assert accepted(Unit.HOUR, "UTC") == [("2026-11-21T18", 3)]
        assert accepted(Unit.DAY, "Asia/Kathmandu") == [("2026-11-21T00", 1), ("2026-11-22T00", 2)]
        assert accepted(Unit.HOUR, "Asia/Kathmandu") == [
            ("2026-11-21T23", 1),
            ("2026-11-22T00", 2),
        ]

    def test_empty_units_are_left_out_or_zero(
        self, database: Database, counts: PostgresCounts
    ) -> None:
        add(database, reserved(MUGS, NOON + timedelta(minutes=1)))
        of = Range(NOON, NOON + timedelta(minutes=3))
        found = [row["outcomes"]["CONFIRMED"] for row in counts.timeseries(of, MINUTES, True)]
        assert found == [0, 1, 0]
        assert len(counts.timeseries(of, MINUTES)) == 1
        latency = counts.latency_over_time(of, MINUTES, True)
        assert [sum(histogram.values()) for _, histogram in latency] == [0, 1, 0]

    def test_a_late_event_lands_in_its_own_minute(
        self, database: Database, counts: PostgresCounts
    ) -> None:
        add(database, reserved(an_order(order_id=1), NOON + timedelta(minutes=50)))
        add(database, reserved(an_order(order_id=2), NOON + timedelta(minutes=1)))
        minutes = counts.timeseries(HOUR, MINUTES)
        assert [minute["minute"][11:16] for minute in minutes] == ["12:01", "12:50"]
        assert [row["minute"][11:16] for row in counts.skus_over_time(HOUR, MINUTES, 9)] == [
            "12:01",
            "12:50",
        ]
        assert [row["minute"][11:16] for row in counts.users_over_time(HOUR, MINUTES, 9)] == [
            "12:01",
            "12:50",
        ]
        assert [at[11:16] for at, _ in counts.latency_over_time(HOUR, MINUTES)] == [
            "12:01",
            "12:50",
        ]


class TestSkus:
    def test_best_sellers_first_with_what_was_asked_for_in_vain(
        self, database: Database, counts: PostgresCounts
    ) -> None:
        add(
            database,
            reserved(an_order(("MUG", 3), ("MUG", 2), ('{"C,A\\P', 7), order_id=1)),
            rejected(an_order(("MUG", 50), ("PEN", 1), order_id=2), "MUG"),
        )
        cap = {"sku": '{"C,A\\P', "sold": 7, "lost": 0, "sellThrough": 1.0}
        mug = {"sku": "MUG", "sold": 5, "lost": 50, "sellThrough": 0.0909}
        for of in (None, HOUR):
            assert counts.skus(of, 10) == [cap, mug]
            assert counts.skus(of, 1) == [cap]
            assert counts.skus(of, 1, "lost") == [mug]
            assert counts.skus(of, 10, sku="MUG") == [mug]
        before = Range(NOON - timedelta(hours=1), NOON)
        assert counts.skus(before, 10) == []

    def test_what_came_back_is_taken_off_in_its_own_minute(
        self, database: Database, counts: PostgresCounts
    ) -> None:
        add(database, reserved(MUGS), cancelled(MUGS), released(MUGS))
        assert sold(counts) == {"CAP": (0, 0), "MUG": (0, 0)}
        rows = counts.skus_over_time(HOUR, MINUTES, 1, sku="MUG")
        assert [(row["minute"][14:16], row["sold"]) for row in rows] == [("00", 2), ("01", -2)]

    @pytest.mark.parametrize("begin", [0, 1])
    def test_a_range_by_the_quarter_or_not_has_the_same(
        self, database: Database, counts: PostgresCounts, begin: int
    ) -> None:
        for number in range(60):
            at = NOON + timedelta(minutes=number)
            add(database, reserved(an_order(("MUG", number), order_id=number), at))
        of = Range(NOON + timedelta(minutes=begin), NOON + timedelta(minutes=30 + begin))
        wanted = sum(range(begin, 30 + begin))
        assert sold(counts, of) == {"MUG": (wanted, 0)}
        for zone in ("UTC", "Asia/Kathmandu"):
            rows = counts.skus_over_time(of, Cut(Unit.HOUR, ZoneInfo(zone)), 1)
            assert sum(row["sold"] for row in rows) == wanted

    def test_only_those_with_most_are_followed_over_time(
        self, database: Database, counts: PostgresCounts
    ) -> None:
        add(database, reserved(MUGS))
        (row,) = counts.skus_over_time(HOUR, MINUTES, 1)
        assert row["sku"] == "MUG"


class TestUsers:
    def test_those_of_whom_most_was_decided_first(
        self, database: Database, counts: PostgresCounts
    ) -> None:
        for number, user in enumerate(("ann", "bob", "bob", '"{'), 1):
            add(database, reserved(an_order(order_id=number, user_id=user)))
        add(database, fulfilled(an_order(order_id=1, user_id="ann")), Failed("9", NOON, "ann"))
        assert counts.users(HOUR, 2) == [
            {"userId": "ann", "outcomes": outcomes_of(CONFIRMED=1, FAILED=1, FULFILLED=1)},
            {"userId": "bob", "outcomes": outcomes_of(CONFIRMED=2)},
        ]
        (odd,) = counts.users(HOUR, 9, '"{')
        assert odd["outcomes"] == outcomes_of(CONFIRMED=1)

    def test_batches_add_up(self, database: Database, counts: PostgresCounts) -> None:
        for number in range(3):
            add(database, reserved(an_order(order_id=number)))
        assert counts.users(HOUR, 1) == [{"userId": "42", "outcomes": outcomes_of(CONFIRMED=3)}]


class TestFunnel:
    def test_says_how_far_orders_came_and_where_they_are(
        self, database: Database, counts: PostgresCounts
    ) -> None:
        orders = [an_order(order_id=number) for number in range(1, 5)]
        add(database, *(Accepted(order.key, NOON) for order in orders))
        add(database, reserved(orders[0]), reserved(orders[1]), rejected(orders[2]))
        add(database, fulfilled(orders[0]))
        steps, now = counts.funnel(HOUR)
        assert {row["step"]: (row["orders"], row["share"]) for row in steps if row["orders"]} == {
            "ACCEPTED": (4, 1.0),
            "CONFIRMED": (2, 0.5),
            "REJECTED": (1, 0.25),
            "FULFILLED": (1, 0.25),
        }
        assert now == outcomes_of(PENDING=1, CONFIRMED=1, REJECTED=1, FULFILLED=1)
        assert counts.summary()["pending"] == 1


class TestLatency:
    def test_histograms_of_minutes_are_merged_by_adding(
        self, database: Database, counts: PostgresCounts
    ) -> None:
        for number, minute in enumerate((0, 1, 1)):
            order = an_order(order_id=number, at=NOON + timedelta(minutes=minute))
            add(database, reserved(order, NOON + timedelta(minutes=minute, milliseconds=2)))
        assert counts.latency(HOUR) == {4: 3}
        assert [found for _, found in counts.latency_over_time(HOUR, MINUTES)] == [{4: 1}, {4: 2}]


class TestIds:
    @pytest.mark.parametrize(
        "key", ["0", "63", "64", "007", "-5", "1_0", "٣", " 7", "9" * 18, "9" * 19, "x" * 128, "é"]
    )
    def test_each_is_another_order_and_known_again(
        self, database: Database, counts: PostgresCounts, key: str
    ) -> None:
        add(database, Accepted(key, NOON), Accepted("7", NOON), Accepted("10", NOON))
        add(database, Accepted(key, NOON), Failed(key, NOON))
        known: dict[str, int] = {}

        def nothing_new(facts: Mapping[str, int]) -> Changes:
            known.update(facts)
            return Changes()

        with database.transaction() as tx:
            counts.add(tx, [key, "7", "3", "7"], nothing_new)
            assert known == {key: 129, "7": 128}
            rows = tx.execute("SELECT order_id, facts FROM counted").fetchall()
        assert dict(rows) == {key: 129, "7": 128, "10": 128}
