"""What a busy stage keeps back until what follows it is here, and for how long."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderstream.runtime.pairing import KEPT_MAX, MANY, Pairing
from orderstream.runtime.stage import Pairs

CREATED, RESERVED = "order.created", "inventory.reserved"
PAIRS = Pairs(CREATED, frozenset({RESERVED}), 1.0)


@dataclass(frozen=True)
class Given:
    """A record of a topic."""

    name: str
    number: int
    at: int
    of: bytes

    def topic(self) -> str:
        return self.name

    def partition(self) -> int:
        return self.number

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes:
        return self.of

    def value(self) -> bytes | None:
        return None

    def headers(self) -> Any:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 1, 0


def created(key: bytes, at: int = 0, partition: int = 0) -> Given:
    return Given(CREATED, partition, at, key)


def reserved(key: bytes, at: int = 0) -> Given:
    return Given(RESERVED, 0, at, key)


class TestPairing:
    def test_an_order_waits_for_its_decision(self) -> None:
        pairing = Pairing(PAIRS)
        assert pairing.take([created(b"1")], 0.0, 1.0) == []
        assert pairing.keeps == 1
        assert pairing.take([reserved(b"1")], 0.1, 1.0) == [created(b"1"), reserved(b"1")]
        assert pairing.keeps == 0

    def test_a_decision_waits_for_its_order(self) -> None:
        pairing = Pairing(PAIRS)
        assert pairing.take([reserved(b"1")], 0.0, 1.0) == []
        assert pairing.take([created(b"1")], 0.1, 1.0) == [created(b"1"), reserved(b"1")]

    def test_what_has_no_other_half_does_not_wait(self) -> None:
        cancelled = Given("order.cancelled", 0, 0, b"1")
        assert Pairing(PAIRS).take([cancelled], 0.0, 1.0) == [cancelled]

    @pytest.mark.parametrize("busy", [0.0, 0.005])
    def test_at_rest_none_waits(self, busy: float) -> None:
        assert Pairing(PAIRS).take([created(b"1")], 0.0, busy) == [created(b"1")]

    def test_what_is_late_does_not_wait_for_one_that_went_alone(self) -> None:
        pairing = Pairing(PAIRS)
        pairing.take([created(b"1")], 0.0, 1.0)
        assert pairing.take([], 0.1, 0.0) == [created(b"1")]
        assert pairing.take([reserved(b"1")], 0.2, 1.0) == [reserved(b"1")]

    def test_none_waits_longer_than_a_busy_stages_part_of_the_time(self) -> None:
        pairing = Pairing(PAIRS)
        pairing.take([created(b"1")], 0.0, 1.0)
        assert pairing.take([], 0.49, 0.5) == []
        assert pairing.take([], 0.51, 0.5) == [created(b"1")]

    def test_where_waiting_is_in_vain_it_is_not_for_long(self) -> None:
        pairing = Pairing(PAIRS)
        for number in range(7):
            pairing.take([created(b"%d" % number, number)], 10.0 * number, 1.0)
        assert pairing.take([], 60.1, 1.0) == [created(b"6", 6)]

    def test_what_comes_too_late_is_waited_for_longer(self) -> None:
        pairing = Pairing(PAIRS)
        for number in range(20):
            key = b"%d" % number
            now = 10.0 * number
            assert pairing.take([created(key, number)], now, 1.0) == []
            assert pairing.take([], now + 2, 1.0) == [created(key, number)]
            assert pairing.take([reserved(key, number)], now + 3, 1.0) == [reserved(key, number)]

    def test_one_behind_an_undecided_one_waits_with_it_and_is_not_forgotten(self) -> None:
        pairing = Pairing(PAIRS)
        first, second, other = created(b"1", 0), created(b"2", 1), created(b"3", 0, 1)
        early = [first, second, other, reserved(b"2", 0), reserved(b"3", 1)]
        assert pairing.take(early, 0.0, 1.0) == [other, reserved(b"2", 0), reserved(b"3", 1)]
        last = reserved(b"1", 2)
        assert pairing.take([last], 0.1, 1.0) == [first, second, last]

    def test_no_more_are_kept_than_memory_allows(self) -> None:
        pairing = Pairing(PAIRS)
        many = [created(b"%d" % n, n) for n in range(KEPT_MAX)]
        assert pairing.take(many, 0.0, 1.0) == []
        assert len(pairing.take([created(b"one more", KEPT_MAX)], 0.0, 1.0)) == KEPT_MAX + 1

    def test_what_is_cleared_is_forgotten(self) -> None:
        pairing = Pairing(PAIRS)
        pairing.take([created(b"1"), created(b"2", 1), reserved(b"2")], 0.0, 1.0)
        pairing.clear()
        assert pairing.take([created(b"2")], 0.0, 1.0) == []  # Its decision comes again, too.

    def test_a_topic_that_is_ahead_is_read_no_further_until_the_other_has_caught_up(self) -> None:
        pairing = Pairing(PAIRS)
        pairing.take([created(b"%d" % n, n, n % 2) for n in range(MANY)], 0.0, 1.0)
        assert pairing.ahead() is None
        pairing.take([created(b"one more", MANY, 1)], 0.0, 1.0)
        assert pairing.ahead() == {(CREATED, 0): MANY - 1, (CREATED, 1): MANY + 1}
        pairing.take([reserved(b"%d" % n, n) for n in range(MANY // 2)], 0.0, 1.0)
        assert pairing.ahead() is None
        pairing.take([reserved(b"%d" % (MANY // 2), MANY // 2)], 0.0, 1.0)
        assert pairing.ahead() == {}

    @given(
        st.lists(
            st.tuples(
                st.booleans(),
                st.integers(0, 9),
                st.integers(0, 1),
                st.booleans(),
                st.sampled_from((0.0, 0.5, 1.0)),
            ),
            max_size=60,
        )
    )
    def test_each_record_comes_once_and_in_the_order_of_its_partition(
        self, steps: list[tuple[bool, int, int, bool, float]]
    ) -> None:
        pairing = Pairing(PAIRS)
        next_of: defaultdict[tuple[str, int], int] = defaultdict(int)
        given: list[Given] = []
        taken: list[Any] = []
        batch: list[Given] = []
        for now, (is_decision, key, partition, ends_batch, busy) in enumerate(steps):
            at = (RESERVED if is_decision else CREATED, partition)
            record = Given(*at, next_of[at], b"%d" % key)
            next_of[at] += 1
            batch.append(record)
            given.append(record)
            if ends_batch:
                taken += pairing.take(batch, now / 4, busy)
                batch = []
        taken += pairing.take(batch, 1e6, 1.0)
        taken += pairing.take([], 2e6, 0.0)
        assert pairing.keeps == 0
        assert sorted(taken, key=given.index) == given
        for at in next_of:
            offsets = [record.at for record in taken if (record.name, record.number) == at]
            assert offsets == sorted(offsets)
