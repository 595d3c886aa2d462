"""Each order counts once, as the last thing that it became."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderstream.analytics import rules
from orderstream.analytics.rules import (
    ACCEPTED,
    BUCKET_MAX,
    CANCELLED,
    CONFIRMED,
    EXPIRED,
    FAILED,
    FULFILLED,
    REJECTED,
    Accepted,
    Changes,
    Counted,
    Failed,
    count,
    sell_through,
)
from orderstream.contract.events import InventoryReleased, InventoryReserved, OrderCancelled
from tests.builders import (
    NOON,
    an_order,
    cancelled,
    fulfilled,
    rejected,
    released,
    reserved,
)

T = TypeVar("T")

SOON = NOON + timedelta(milliseconds=5)
NEXT_MINUTE = NOON + timedelta(minutes=1)
AT_NOON, AFTER = (int(at.timestamp()) // 60 for at in (NOON, NEXT_MINUTE))
ENDS = {"CANCELLED": CANCELLED, "EXPIRED": EXPIRED, "FULFILLED": FULFILLED}
MUGS = an_order(("MUG", 2), ("MUG", 1), ("CAP", 1))
OTHER = an_order(("CAP", 9), ("MUG", 1), order_id="x")


@st.composite
def histories(draw: st.DrawFn) -> list[list[Counted]]:
    """Events of a few orders, some said twice, in any order and cut into batches."""
    events: list[Counted] = []
    for number in range(draw(st.integers(1, 5))):
        order = an_order(("MUG", number + 1), order_id=number)
        decided = draw(st.sampled_from([reserved(order, SOON), rejected(order, at=SOON)]))
        told: list[Counted] = [decided, Failed(order.key, NEXT_MINUTE), Accepted(order.key, NOON)]
        end = draw(st.sampled_from([None, cancelled(order), fulfilled(order)]))
        told += [] if end is None else [end]
        if isinstance(end, OrderCancelled) and isinstance(decided, InventoryReserved):
            told.append(released(order))
        events += draw(st.lists(st.sampled_from(told), max_size=6))
    events = draw(st.permutations(events))
    cuts = sorted(draw(st.lists(st.integers(0, len(events)), max_size=3)))
    return [events[a:b] for a, b in pairwise([0, *cuts, len(events)])]


def summed(*batches: Sequence[Counted]) -> Changes:
    """Count batch after batch, as the store adds them up."""
    total = Changes()
    for batch in batches:
        changes = count([event.key for event in batch], batch, total.facts)
        total.facts |= changes.facts
        total.outcomes = added(total.outcomes, changes.outcomes)
        total.per_minute = added(total.per_minute, changes.per_minute)
        total.sold = added(total.sold, changes.sold)
        total.lost = added(total.lost, changes.lost)
        total.latency = added(total.latency, changes.latency)
        for place, users in changes.users.items():
            total.users[place] = added(total.users.get(place, Counter()), users)
    return total


def added(one: Counter[T], other: Counter[T]) -> Counter[T]:
    """Add, and leave out what is zero then."""
    total = Counter(one)
    total.update(other)
    return Counter({name: number for name, number in total.items() if number})


class TestCount:
    def test_a_reserved_order_is_sold_and_timed(self) -> None:
        total = summed([reserved(MUGS, SOON)])
        assert total.outcomes == {"CONFIRMED": 1}
        assert total.per_minute == {(AT_NOON, CONFIRMED): 1}
        assert (total.sold, total.lost) == ({(AT_NOON, "MUG"): 3, (AT_NOON, "CAP"): 1}, {})
        assert total.latency == {(AT_NOON, rules.bucket(5)): 1}
        assert total.users == {(AT_NOON, CONFIRMED): {"42": 1}}

    def test_an_accepted_order_is_pending_until_something_becomes_of_it(self) -> None:
        accepted = Accepted(MUGS.key, NOON)
        assert summed([accepted]).outcomes == {"PENDING": 1}
        assert summed([accepted]).per_minute == {(AT_NOON, ACCEPTED): 1}
        for batches in ([accepted], [reserved(MUGS)]), ([accepted, reserved(MUGS)],):
            assert summed(*batches).outcomes == {"CONFIRMED": 1}
        assert summed([reserved(MUGS)], [accepted]).outcomes == {"CONFIRMED": 1}

    def test_a_late_event_lands_in_its_own_minute(self) -> None:
        late = an_order(("MUG", 2), order_id="late")
        total = summed([reserved(MUGS, NEXT_MINUTE)], [reserved(late, NOON)])
        assert total.per_minute == {(AFTER, CONFIRMED): 1, (AT_NOON, CONFIRMED): 1}
        assert total.sold[AT_NOON, "MUG"] == 2
        assert total.users == {(AFTER, CONFIRMED): {"42": 1}, (AT_NOON, CONFIRMED): {"42": 1}}
        assert {minute for minute, _ in total.latency} == {AFTER, AT_NOON}

    @pytest.mark.parametrize(
        ("at", "minute"),
        [
            ("9999-12-31T23:59:59-05:00", 4_223_371_979),
            ("9999-12-31T23:59:59Z", 4_223_371_679),
            ("0001-01-01T00:00:00+01:00", -1_035_593_340),
            ("1969-12-31T23:59:59.999Z", -1),
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:01:00+00:00", 1),
        ],
    )
    def test_any_time_is_of_a_minute(self, at: str, minute: int) -> None:
        accepted = [Accepted("1", NOON), Accepted("2", datetime.fromisoformat(at))]
        per_minute = {(AT_NOON, ACCEPTED): 1, (minute, ACCEPTED): 1}
        assert summed(accepted).per_minute == summed(accepted[::-1]).per_minute == per_minute

    def test_an_order_of_nobody_is_no_users(self) -> None:
        assert summed([reserved(an_order(user_id=None))]).users == {}

    def test_a_rejected_order_loses_what_was_short_and_no_more(self) -> None:
        total = summed([rejected(OTHER, "CAP", at=SOON)])
        assert total.outcomes == {"REJECTED": 1}
        assert (total.sold, total.lost) == ({}, {(AT_NOON, "CAP"): 9})
        assert total.users == {(AT_NOON, REJECTED): {"42": 1}}

    def test_a_failed_order_counts_in_its_minute_and_has_no_latency(self) -> None:
        total = summed([Failed("1", NEXT_MINUTE + timedelta(seconds=59))])
        assert total.outcomes == {"FAILED": 1}
        assert total.per_minute == {(AFTER, FAILED): 1}
        assert total.latency == {}

    @pytest.mark.parametrize("event", [reserved(MUGS), rejected(MUGS), Failed("1", NOON)])
    def test_what_is_said_twice_counts_once(self, event: Counted) -> None:
        once = summed([event])
        assert summed([event, event]) == summed([event], [event]) == once

    def test_a_failure_gives_way_to_a_decision_but_stays_in_its_minute(self) -> None:
        total = summed([Failed("1", NOON)], [reserved(MUGS, NEXT_MINUTE)])
        assert total.outcomes == {"CONFIRMED": 1}
        assert total.per_minute == {(AT_NOON, FAILED): 1, (AFTER, CONFIRMED): 1}

    def test_a_failure_read_after_the_decision_changes_the_minute_only(self) -> None:
        total = summed([reserved(MUGS, NEXT_MINUTE)], [Failed("1", NOON)])
        assert total == summed([Failed("1", NOON)], [reserved(MUGS, NEXT_MINUTE)])

    @pytest.mark.parametrize("end", ["CANCELLED", "EXPIRED", "FULFILLED"])
    def test_an_order_that_is_over_counts_as_that(self, end: str) -> None:
        over = fulfilled(MUGS) if end == "FULFILLED" else cancelled(MUGS, end == "EXPIRED")
        total = summed([reserved(MUGS)], [over])
        assert total.outcomes == {end: 1}
        assert total.per_minute == {(AT_NOON, CONFIRMED): 1, (AFTER, ENDS[end]): 1}
        assert total == summed([over, reserved(MUGS)])

    def test_what_is_released_was_not_sold(self) -> None:
        total = summed([reserved(MUGS), cancelled(MUGS)], [released(MUGS)], [released(MUGS)])
        assert sum(total.sold.values()) == 0
        assert total.sold[AFTER, "MUG"] == -3  # In the minute in which it came back.

    def test_cancelled_before_it_came_is_no_rejection(self) -> None:
        total = summed([rejected(MUGS, reason="CANCELLED"), cancelled(MUGS)])
        assert total.outcomes == {"CANCELLED": 1}
        assert total.latency == {}

    @given(histories())
    def test_any_order_and_any_batching_add_up_to_the_same(
        self, batches: list[list[Counted]]
    ) -> None:
        events = [event for batch in batches for event in batch]
        in_order = sorted(events, key=lambda event: (event.key, type(event).__name__))
        assert summed(*batches) == summed(in_order)

    @given(histories())
    def test_every_order_has_one_outcome(self, batches: list[list[Counted]]) -> None:
        events = [event for batch in batches for event in batch]
        keys = {e.key for e in events if not isinstance(e, InventoryReleased)}
        assert sum(summed(*batches).outcomes.values()) == len(keys)


class TestSellThrough:
    @pytest.mark.parametrize(
        ("sold", "lost", "share"),
        [(3, 1, 0.75), (5, 0, 1.0), (0, 4, 0.0), (0, 0, None), (-2, 0, None), (-2, 3, 0.0)],
    )
    def test_is_the_share_of_what_was_wanted(
        self, sold: int, lost: int, share: float | None
    ) -> None:
        assert sell_through(sold, lost) == share


class TestLatency:
    @given(st.floats(0, 2**29, allow_nan=False))
    def test_a_bucket_holds_it_and_says_at_most_a_fifth_more(self, ms: float) -> None:
        said = rules.latency_ms(rules.bucket(ms))
        assert ms <= said * (1 + 1e-9)
        assert said <= max(ms, 1) * 1.2

    @pytest.mark.parametrize(("ms", "bucket"), [(-5, 0), (0, 0), (1, 0), (2, 4), (1e300, 120)])
    def test_the_ends_are_closed(self, ms: float, bucket: int) -> None:
        assert rules.bucket(ms) == bucket <= BUCKET_MAX

    @pytest.mark.parametrize(
        ("histogram", "quantile", "ms"),
        [
            ({}, 0.5, None),
            ({4: 0}, 0.5, None),
            ({4: 1}, 0.0, 2.0),
            ({4: 1}, 1.0, 2.0),
            ({0: 50, 8: 50}, 0.5, 1.0),  # The 50th of 100 is still in the first bucket.
            ({0: 50, 8: 50}, 0.51, 4.0),
            ({8: 1, 0: 99}, 0.99, 1.0),
            ({8: 1, 0: 99}, 0.991, 4.0),
        ],
    )
    def test_a_quantile_is_what_so_many_did_not_exceed(
        self, histogram: dict[int, int], quantile: float, ms: float | None
    ) -> None:
        assert rules.quantile_ms(histogram, quantile) == ms
