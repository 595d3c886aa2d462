from itertools import count

import pytest

from orderstream.contract.errors import Unavailable
from orderstream.orders.store import Claim, Held
from orderstream.orders.store_postgres import FIRST_ID, PostgresClaims
from tests.stores.conftest import Emptied
from tests.waiting import together


@pytest.fixture
def claims(emptied: Emptied) -> PostgresClaims:
    return PostgresClaims(emptied("orders"))


def an_id(order_id: int | str, fingerprint: bytes = b"f") -> Claim:
    return Claim.of_order(order_id, fingerprint)


class TestClaim:
    def test_the_first_stays_and_the_second_is_told_of_it(self, claims: PostgresClaims) -> None:
        first = Claim.of_key("k", b"first", 1)
        assert claims.claim([first]) == {"key:k": Held(b"first", 1, published=False)}
        second = Claim.of_key("k", b"second", 2)
        assert claims.claim([second]) == {"key:k": Held(b"first", 1, published=False)}

    def test_of_32_at_once_one_is_first_and_all_are_told_the_same(
        self, claims: PostgresClaims
    ) -> None:
        wanted = [Claim.of_key("k", bytes([number]), number) for number in range(32)]
        answers = together([lambda claim=claim: claims.claim([claim]) for claim in wanted])
        held = answers[0]
        assert isinstance(held, dict)
        assert held["key:k"] in [Held(c.fingerprint, c.order_id, published=False) for c in wanted]
        assert answers == [held] * 32

    def test_batches_with_the_same_names_in_opposite_order_do_not_deadlock(
        self, claims: PostgresClaims
    ) -> None:
        batch = [an_id(f"order-{number}") for number in range(200)]
        answers = together([lambda: claims.claim(batch), lambda: claims.claim(batch[::-1])] * 4)
        assert all(isinstance(held, dict) and len(held) == 200 for held in answers)

    def test_keys_and_order_ids_are_names_of_their_own(self, claims: PostgresClaims) -> None:
        held = claims.claim([an_id("x", b"a"), Claim.of_key("x", b"b", 7)])
        assert held == {
            "order:x": Held(b"a", "x", published=False),
            "key:x": Held(b"b", 7, published=False),
        }

    @pytest.mark.parametrize("order_id", [7, "7", "007", 'q"\\{},🦊', 2**53 - 1])
    def test_an_id_keeps_its_type(self, claims: PostgresClaims, order_id: int | str) -> None:
        (held,) = claims.claim([an_id(order_id)]).values()
        assert held is not None
        assert (held.order_id, type(held.order_id)) == (order_id, type(order_id))

    def test_number_and_text_of_one_id_are_one_name(self, claims: PostgresClaims) -> None:
        claims.claim([an_id(7, b"first")])
        assert claims.claim([an_id("7", b"second")]) == {
            "order:7": Held(b"first", 7, published=False)
        }


class TestPublished:
    def test_is_noted_and_may_be_noted_again(self, claims: PostgresClaims) -> None:
        claims.claim([an_id("a"), an_id("b")])
        for _ in range(2):
            claims.published(["order:a", "order:nobody"])
        held = claims.claim([an_id("a"), an_id("b")])
        assert [h.published for h in held.values() if h] == [True, False]


class TestIdBlocks:
    def test_follow_each_other_and_never_overlap(self, claims: PostgresClaims) -> None:
        answers = together([lambda: claims.id_block(100)] * 16)
        ids = [number for block in answers if isinstance(block, list) for number in block]
        assert sorted(ids) == list(range(FIRST_ID, FIRST_ID + 1600))

    def test_leave_out_numbers_that_clients_have_claimed(self, claims: PostgresClaims) -> None:
        taken = [FIRST_ID + 3, str(FIRST_ID + 5)]
        claims.claim([an_id(number) for number in taken])
        claims.claim([Claim.of_key("k", b"f", FIRST_ID + 6), an_id(f"0{FIRST_ID + 7}")])
        block = claims.id_block(10)
        assert block == [FIRST_ID + n for n in range(10) if n not in (3, 5)]

    def test_a_number_that_was_handed_out_cannot_be_claimed(self, claims: PostgresClaims) -> None:
        block = claims.id_block(10)
        assert claims.claim([an_id(block[4]), an_id(str(block[5])), an_id("free")]) == {
            f"order:{block[4]}": None,
            f"order:{block[5]}": None,
            "order:free": Held(b"f", "free", published=False),
        }
        assert claims.claim([an_id(block[-1] + 1), an_id(FIRST_ID - 1)]) == {
            f"order:{block[-1] + 1}": Held(b"f", block[-1] + 1, published=False),
            f"order:{FIRST_ID - 1}": Held(b"f", FIRST_ID - 1, published=False),
        }

    def test_one_whose_publishing_had_no_known_outcome_can_be_claimed_again(
        self, claims: PostgresClaims
    ) -> None:
        number = claims.id_block(10)[0]
        for _ in range(2):
            claims.unknown([an_id(number)])
        assert claims.claim([an_id(number)]) == {
            f"order:{number}": Held(b"f", number, published=False)
        }

    def test_in_a_race_a_number_is_claimed_or_handed_out_never_both(
        self, claims: PostgresClaims
    ) -> None:
        numbers = count(FIRST_ID + 20, 50)
        wanted = [next(numbers) for _ in range(12)]
        calls = [lambda number=number: claims.claim([an_id(number)]) for number in wanted]
        blocks = [lambda: claims.id_block(50)] * 12
        answers = together([call for pair in zip(calls, blocks, strict=True) for call in pair])
        claimed = {
            held.order_id
            for answer in answers
            if isinstance(answer, dict)
            for held in answer.values()
            if held is not None
        }
        given = [number for answer in answers if isinstance(answer, list) for number in answer]
        assert len(given) == len(set(given)) == 600 - len(claimed)
        assert not claimed & set(given)
        assert claimed | set(given) == set(range(FIRST_ID, FIRST_ID + 600))


class TestWithoutTheRowOfTheNextId:
    def test_no_id_is_given_and_none_claimed_rather_than_one_twice(self, emptied: Emptied) -> None:
        database = emptied("orders")
        claims = PostgresClaims(database)
        with database.transaction() as tx:
            tx.execute("DELETE FROM id_block")
        try:
            with pytest.raises(Unavailable, match="id_block"):
                claims.id_block(10)
            with pytest.raises(Unavailable, match="id_block"):
                claims.claim([an_id("mine")])
        finally:
            with database.transaction() as tx:
                tx.execute("INSERT INTO id_block (next) VALUES (%s)", (FIRST_ID,))
