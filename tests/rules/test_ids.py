"""Order ids: each is given once, and by turns of one partition."""

from collections import Counter
from operator import itemgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderstream.orders.ids import OrderIds, partition_of

turns = st.lists(st.none() | st.integers(0, 9), max_size=60)


class TestOrderIds:
    @given(turns, st.integers(1, 7), st.integers(0, 40))
    def test_each_is_given_once(self, turns: list[int | None], partitions: int, more: int) -> None:
        ids = OrderIds(partitions)
        ids.put(range(1_000, 1_000 + len(turns)))
        ids.put(range(5_000, 5_000 + more))
        given = [ids.take(turn) for turn in turns]
        assert len(set(given)) == len(turns)
        assert len(ids) == more
        rest = [ids.take(None) for _ in range(more)]
        assert sorted(given + rest) == [
            *range(1_000, 1_000 + len(turns)),
            *range(5_000, 5_000 + more),
        ]
        with pytest.raises(IndexError):
            ids.take(3)

    @given(st.lists(st.integers(0, 400), max_size=10), turns, st.integers(1, 7))
    def test_many_at_once_are_given_once_too(
        self, many: list[int], turns: list[int | None], partitions: int
    ) -> None:
        ids = OrderIds(partitions)
        ids.put(range(sum(many) + len(turns)))
        given = [ids.take(turn) for turn in turns]
        for count in many:
            given += ids.take_many(count)
        assert sorted(given) == list(range(sum(many) + len(turns)))
        with pytest.raises(IndexError):
            ids.take_many(1)

    @pytest.mark.parametrize(
        "first", [0, 7, 90, 995, 9_990, 99_999, 10**6, 9_999_999, 2**31, 10**15]
    )
    def test_a_turn_is_one_partition_s(self, first: int) -> None:
        ids = OrderIds(4)
        ids.put(range(first, first + 500))
        ids.put(range(first + 600, first + 10_000))
        for turn in range(8):
            given = {partition_of(b"%d" % ids.take(turn), 4) for _ in range(20)}
            assert given == {turn % 4}

    @pytest.mark.parametrize("lower", [5_000, 999_990])
    def test_lower_ones_of_a_database_set_back_have_their_partition_too(self, lower: int) -> None:
        ids = OrderIds(4)
        ids.put(range(1_000_000, 1_000_128))
        ids.put(range(lower, lower + 500))
        given = [(turn % 4, ids.take(turn)) for turn in range(8) for _ in range(20)]
        assert min(given, key=itemgetter(1))[1] < 1_000_000
        assert all(partition_of(b"%d" % order_id, 4) == turn for turn, order_id in given)

    def test_without_turns_they_are_given_in_their_order(self) -> None:
        ids = OrderIds(4)
        ids.put(range(10_000, 10_500))
        assert [ids.take(None) for _ in range(500)] == list(range(10_000, 10_500))


class TestPartitionOf:
    # From org.apache.kafka.common.utils.UtilsTest.testMurmur2; tests/kafka asks librdkafka.
    @pytest.mark.parametrize(
        ("key", "murmur2"),
        [
            (b"21", -973932308),
            (b"foobar", -790332482),
            (b"a-little-bit-long-string", -985981536),
            (b"a-little-bit-longer-string", -1486304829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            (b"abc", 479470107),
        ],
    )
    def test_it_is_java_s(self, key: bytes, murmur2: int) -> None:
        assert partition_of(key, 2**31) == murmur2 & 0x7FFFFFFF

    def test_ids_spread(self) -> None:
        counts = Counter(partition_of(b"%d" % n, 4) for n in range(10_000, 20_000))
        assert min(counts.values()) > 2_300
