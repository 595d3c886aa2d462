"""What a busy stage keeps back until what follows it is here, and for how long."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orderstream.runtime.pairing import KEPT_MAX, Pairing
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


def reserved(key: bytes) -> Given:
    return Given(RESERVED, 0, 0, key)


class TestPairing:
    def test_an_order_waits_for_its_decision(self) -> None:
        pairing = Pairing(PAIRS)
        assert pairing.take([created(b"1")], 0.0, 1.0) == []
        assert pairing.keeps == 1
        assert pairing.take([reserved(b"1")], 0.1, 1.0) == [reserved(b"1"), created(b"1")]
        assert pairing.keeps == 0

    def test_one_whose_decision_came_first_does_not_wait(self) -> None:
        records = [reserved(b"1"), created(b"1")]
        assert Pairing(PAIRS).take(records, 0.0, 1.0) == records

    def test_at_rest_none_waits(self) -> None:
        assert Pairing(PAIRS).take([created(b"1")], 0.0, 0.0) == [created(b"1")]

    def test_a_batch_without_records_sets_all_free(self) -> None:
        pairing = Pairing(PAIRS)
        pairing.take([created(b"1")], 0.0, 1.0)
        assert pairing.take([], 0.1, 0.0) == [created(b"1")]

    def test_none_waits_longer_than_a_busy_stages_part_of_the_time(self) -> None:
        pairing = Pairing(PAIRS)
        pairing.take([created(b"1")], 0.0, 1.0)
        assert pairing.take([], 0.49, 0.5) == []
        assert pairing.take([], 0.51, 0.5) == [created(b"1")]

    def test_one_behind_an_undecided_one_waits_with_it_and_is_not_forgotten(self) -> None:
        pairing = Pairing(PAIRS)
        first, second, other = created(b"1", 0), created(b"2", 1), created(b"3", 0, 1)
        early = [first, second, other, reserved(b"2"), reserved(b"3")]
        assert pairing.take(early, 0.0, 1.0) == [reserved(b"2"), reserved(b"3"), other]
        assert pairing.take([reserved(b"1")], 0.1, 1.0) == [reserved(b"1"), first, second]

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
        next_of: defaultdict[int, int] = defaultdict(int)
        given: list[Given] = []
        taken: list[Any] = []
        batch: list[Given] = []
        for now, (is_decision, key, partition, ends_batch, busy) in enumerate(steps):
            if is_decision:
                record = Given(RESERVED, 0, now, b"%d" % key)
            else:
                record = created(b"%d" % key, next_of[partition], partition)
                next_of[partition] += 1
            batch.append(record)
            given.append(record)
            if ends_batch:
                taken += pairing.take(batch, now / 4, busy)
                batch = []
        taken += pairing.take(batch, 1e6, 1.0)
        taken += pairing.take([], 2e6, 0.0)
        assert pairing.keeps == 0
        assert sorted(taken, key=given.index) == given
        for partition in next_of:
            offsets = [r.at for r in taken if r.name == CREATED and r.number == partition]
            assert offsets == sorted(offsets)
