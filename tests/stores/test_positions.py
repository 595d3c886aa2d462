import pytest

from orderstream.contract.errors import TransactionAborted
from orderstream.runtime.database import Database
from orderstream.runtime.positions import StoredPositions
from orderstream.runtime.stage import Positions
from tests.stores.conftest import Emptied

A, B, C = ("orders", 0), ("orders", 1), ("others", 0)


@pytest.fixture
def database(emptied: Emptied) -> Database:
    return emptied("order_view")


def step(database: Database, positions: StoredPositions, after: Positions) -> None:
    with database.transaction() as tx:
        positions.advance(tx, after)
    positions.confirm(after)


def loaded(database: Database) -> StoredPositions:
    positions = StoredPositions(database)
    positions.load([A, B, C])
    return positions


class TestLoad:
    def test_leaves_out_what_was_never_read_and_what_was_not_asked_for(
        self, database: Database
    ) -> None:
        step(database, loaded(database), {A: 5, C: 7})
        assert StoredPositions(database).load([A, B]) == {A: 5}
        assert StoredPositions(database).load([]) == {}


class TestBegin:
    def test_keeps_where_a_partition_begins_but_not_twice(self, database: Database) -> None:
        loaded(database).begin({A: 5})
        step(database, loaded(database), {A: 9})
        loaded(database).begin({A: 5, B: 3})
        assert StoredPositions(database).load([A, B, C]) == {A: 9, B: 3}

    def test_is_a_place_to_advance_from(self, database: Database) -> None:
        positions = loaded(database)
        positions.begin({A: 5})
        step(database, positions, {A: 6})
        assert StoredPositions(database).load([A]) == {A: 6}


class TestAdvance:
    def test_moves_on_from_where_it_was(self, database: Database) -> None:
        positions = loaded(database)
        step(database, positions, {A: 5})
        step(database, positions, {A: 9, B: 2})
        assert StoredPositions(database).load([A, B, C]) == {A: 9, B: 2}

    def test_refuses_a_zombie_s_step_whole(self, database: Database) -> None:
        zombie = loaded(database)
        step(database, zombie, {A: 5, B: 5})
        successor = loaded(database)
        step(database, successor, {A: 8})
        with pytest.raises(TransactionAborted):
            step(database, zombie, {A: 6, B: 6, C: 1})
        assert StoredPositions(database).load([A, B, C]) == {A: 8, B: 5}

    def test_refuses_a_zombie_s_step_to_the_same_place(self, database: Database) -> None:
        zombie = loaded(database)
        step(database, zombie, {A: 5})
        step(database, loaded(database), {A: 8})
        with pytest.raises(TransactionAborted):
            step(database, zombie, {A: 8})

    def test_refuses_a_first_step_where_another_worker_began(self, database: Database) -> None:
        late = loaded(database)
        step(database, loaded(database), {A: 5})
        with pytest.raises(TransactionAborted):
            step(database, late, {A: 3})
        assert StoredPositions(database).load([A]) == {A: 5}

    def test_loading_again_is_a_new_start(self, database: Database) -> None:
        late = loaded(database)
        step(database, loaded(database), {A: 5})
        with pytest.raises(TransactionAborted):
            step(database, late, {A: 3})
        assert late.load([A]) == {A: 5}
        step(database, late, {A: 6})
        assert StoredPositions(database).load([A]) == {A: 6}

    def test_what_was_rolled_back_is_not_remembered(self, database: Database) -> None:
        positions = loaded(database)

        def advance_and_fail() -> None:
            with database.transaction() as tx:
                positions.advance(tx, {A: 5})
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            advance_and_fail()
        step(database, positions, {A: 5})
        assert StoredPositions(database).load([A]) == {A: 5}
