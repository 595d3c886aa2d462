from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from psycopg import errors

from orderstream.contract.errors import TransactionAborted
from orderstream.inventory.rules import Outcome, Wanted
from orderstream.inventory.store import StockLevel, TooFew
from orderstream.inventory.store_postgres import LOCK_STOCK, READ_OUTCOMES, PostgresStock
from orderstream.runtime.database import Database
from tests.builders import NOON, lines
from tests.stores.conftest import Emptied
from tests.waiting import together, until

WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"
ODD_SKUS = (
    'quo"te',
    "apo'strophe",
    "back\\slash",
    "end\\",
    "{brace}",
    "com,ma",
    "NULL",
    "null",
    "🦊 fox",
    " space ",
    "%s",
    "日本",
)


@pytest.fixture
def database(emptied: Emptied) -> Database:
    return emptied("inventory")


@pytest.fixture
def stock(database: Database) -> PostgresStock:
    return PostgresStock(database)


def wanted(*of: tuple[str, int], key: str = "1") -> Wanted:
    return Wanted(key, lines(*of))


def settle(database: Database, *orders: Wanted) -> dict[str, Outcome]:
    with database.transaction() as tx:
        return PostgresStock(database).settle(tx, orders, NOON)


def level(stock: PostgresStock, sku: str) -> tuple[int, int]:
    found = stock.level(sku)
    assert found is not None
    return found.on_hand, found.reserved


class TestSettle:
    def test_reserves_all_lines_and_remembers_the_outcome(
        self, database: Database, stock: PostgresStock
    ) -> None:
        stock.set_on_hand([("MUG", 5), ("CAP", 2)])
        outcomes = settle(database, wanted(("MUG", 2), ("CAP", 1), ("MUG", 1)))
        assert outcomes == {"1": Outcome("1", {"MUG": 3, "CAP": 1}, None, (), NOON)}
        assert level(stock, "MUG") == (5, 3)
        assert level(stock, "CAP") == (2, 1)

    def test_a_rejected_order_takes_nothing(self, database: Database, stock: PostgresStock) -> None:
        stock.set_on_hand([("MUG", 5), ("CAP", 2)])
        outcomes = settle(
            database,
            wanted(("MUG", 1), ("CAP", 3), key="short"),
            wanted(("MUG", 1), ("NOPE", 1), key="unknown"),
        )
        assert outcomes["short"].reason == "OUT_OF_STOCK"
        assert outcomes["short"].short == ("CAP",)
        assert outcomes["unknown"].reason == "UNKNOWN_SKU"
        assert outcomes["unknown"].short == ("NOPE",)
        assert level(stock, "MUG") == (5, 0)

    def test_an_outcome_once_given_is_repeated_word_for_word(
        self, database: Database, stock: PostgresStock
    ) -> None:
        stock.set_on_hand([("MUG", 5)])
        orders = [
            wanted(("MUG", 4), key="a"),
            wanted(("MUG", 4), key="b"),
            wanted(("NOPE", 1), key="c"),
        ]
        first = settle(database, *orders)
        stock.set_on_hand([("MUG", 100), ("NOPE", 100)])
        assert settle(database, *reversed(orders)) == first
        assert level(stock, "MUG") == (100, 4)

    def test_a_rolled_back_batch_leaves_no_trace(
        self, database: Database, stock: PostgresStock
    ) -> None:
        stock.set_on_hand([("MUG", 5)])

        def settle_and_fail() -> None:
            with database.transaction() as tx:
                stock.settle(tx, [wanted(("MUG", 5))], NOON)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            settle_and_fail()
        assert level(stock, "MUG") == (5, 0)
        assert settle(database, wanted(("MUG", 1)))["1"].quantities == {"MUG": 1}

    def test_no_orders_no_outcomes(self, database: Database) -> None:
        assert settle(database) == {}

    def test_odd_skus_come_back_as_they_went_in(
        self, database: Database, stock: PostgresStock
    ) -> None:
        assert set(stock.set_on_hand([(sku, 3) for sku in ODD_SKUS])) == {
            StockLevel(sku, 3, 0) for sku in ODD_SKUS
        }
        all_at_once = wanted(*((sku, 2) for sku in ODD_SKUS), key="all")
        each = [wanted((sku, 2), key=f"order {sku}") for sku in ODD_SKUS]
        first = settle(database, all_at_once, *each)
        assert first["all"].quantities == dict.fromkeys(ODD_SKUS, 2)
        for order in each:
            assert first[order.order_key].short == (order.lines[0].sku,)
        assert settle(database, *each, all_at_once) == first
        assert sorted(found.sku for found in stock.levels("", 100)) == sorted(ODD_SKUS)
        assert {level(stock, sku) for sku in ODD_SKUS} == {(3, 2)}


class TestTheDatabaseItself:
    @pytest.mark.parametrize(
        "bypass",
        [
            "UPDATE stock SET reserved = on_hand + 1",
            "UPDATE stock SET reserved = -1",
            "UPDATE stock SET on_hand = reserved - 1",
            "UPDATE stock SET on_hand = -1, reserved = -1",
            "INSERT INTO stock (sku, on_hand, reserved) VALUES ('CAP', 1, 2)",
        ],
    )
    def test_refuses_an_oversell_from_one_who_bypasses_the_rule(
        self, database: Database, stock: PostgresStock, bypass: str
    ) -> None:
        stock.set_on_hand([("MUG", 5)])
        settle(database, wanted(("MUG", 3)))
        with pytest.raises(errors.CheckViolation), database.transaction() as tx:
            tx.execute(bypass.encode())
        assert level(stock, "MUG") == (5, 3)

    def test_refuses_a_second_outcome_for_one_order(
        self, database: Database, stock: PostgresStock
    ) -> None:
        stock.set_on_hand([("MUG", 5)])
        settle(database, wanted(("MUG", 3)))
        again = (
            "INSERT INTO reservation (order_id, status, quantities, decided_at)"
            " SELECT order_id, 'RESERVED', quantities, decided_at FROM reservation"
        )
        with pytest.raises(errors.UniqueViolation), database.transaction() as tx:
            tx.execute(again)


class TestRivals:
    def test_of_twenty_who_want_the_last_piece_exactly_one_gets_it(
        self, database: Database, stock: PostgresStock
    ) -> None:
        stock.set_on_hand([("MUG", 1)])
        orders = [wanted(("MUG", 1), key=f"order-{number}") for number in range(20)]
        answers = together([lambda order=order: settle(database, order) for order in orders])
        reasons = [
            answer[order.order_key].reason
            for answer, order in zip(answers, orders, strict=True)
            if not isinstance(answer, BaseException)
        ]
        assert sorted(reasons, key=str) == [None] + ["OUT_OF_STOCK"] * 19
        assert level(stock, "MUG") == (1, 1)

    def test_the_same_order_settled_by_many_at_once_is_taken_once(
        self, database: Database, stock: PostgresStock
    ) -> None:
        stock.set_on_hand([("MUG", 100)])
        answers = together([lambda: settle(database, wanted(("MUG", 2)))] * 12)
        assert answers == [{"1": Outcome("1", {"MUG": 2}, None, (), NOON)}] * 12
        assert level(stock, "MUG") == (100, 2)

    def test_who_is_late_for_an_order_without_a_known_sku_steps_back(
        self, database: Database, stock: PostgresStock
    ) -> None:
        order = wanted(("NOPE", 1))
        with ThreadPoolExecutor() as pool:
            with database.transaction() as tx:
                first = stock.settle(tx, [order], NOON)
                late = pool.submit(settle, database, order)
                until(lambda: tx.execute(WAITING).fetchone() == (1,))
            with pytest.raises(TransactionAborted):  # Nothing is wrong with the order.
                late.result()
        assert settle(database, order) == first

    def test_batches_with_the_same_skus_in_opposite_order_do_not_deadlock(
        self, database: Database, stock: PostgresStock
    ) -> None:
        skus = [f"SKU-{number}" for number in range(30)]
        stock.set_on_hand([(sku, 1000) for sku in skus])

        def batches(worker: str, order_of_skus: Sequence[str]) -> int:
            for round_ in range(10):
                settle(
                    database,
                    *(wanted((sku, 1), key=f"{worker}-{round_}-{sku}") for sku in order_of_skus),
                )
            return 300

        def restock(order_of_skus: Sequence[str]) -> int:
            for round_ in range(10):
                stock.set_on_hand([(sku, 1000 + round_) for sku in order_of_skus])
            return 0

        answers = together(
            [
                lambda: batches("a", skus),
                lambda: batches("b", skus[::-1]),
                lambda: batches("c", skus[15:] + skus[:15]),
                lambda: restock(skus[::-1]),
            ]
        )
        assert answers == [300, 300, 300, 0]
        assert {(found.on_hand, found.reserved) for found in stock.levels("", 100)} == {(1009, 30)}


class TestLevels:
    def test_a_page_goes_on_behind_the_last_sku(self, stock: PostgresStock) -> None:
        skus = [f"SKU-{number:02}" for number in range(7)]
        stock.set_on_hand([(sku, number) for number, sku in enumerate(skus)])
        pages: list[list[str]] = []
        after = ""
        while page := stock.levels(after, 3):
            pages.append([found.sku for found in page])
            after = page[-1].sku
        assert pages == [skus[:3], skus[3:6], skus[6:]]

    def test_an_unknown_sku_has_no_level(self, stock: PostgresStock) -> None:
        assert stock.level("NOPE") is None

    def test_available_is_what_is_on_hand_and_not_reserved(self) -> None:
        assert StockLevel("MUG", 5, 3).available == 2


class TestSetOnHand:
    def test_below_what_is_reserved_it_is_refused_naming_the_sku_and_nothing_is_set(
        self, database: Database, stock: PostgresStock
    ) -> None:
        stock.set_on_hand([("CAP", 5), ("MUG", 5)])
        settle(database, wanted(("MUG", 3)))
        with pytest.raises(TooFew, match=r"too few of MUG .* 3 are reserved") as caught:
            stock.set_on_hand([("CAP", 9), ("MUG", 2), ("NEW", 1)])
        assert (caught.value.sku, caught.value.reserved) == ("MUG", 3)
        assert level(stock, "CAP") == (5, 0)
        assert stock.level("NEW") is None

    def test_what_is_reserved_stays_reserved(
        self, database: Database, stock: PostgresStock
    ) -> None:
        stock.set_on_hand([("MUG", 5)])
        settle(database, wanted(("MUG", 3)))
        assert stock.set_on_hand([("MUG", 3)]) == [StockLevel("MUG", 3, 3)]


class TestAdjust:
    def test_adds_and_takes_away(self, stock: PostgresStock) -> None:
        stock.set_on_hand([("MUG", 5)])
        assert stock.adjust("MUG", 3) == StockLevel("MUG", 8, 0)
        assert stock.adjust("MUG", -8) == StockLevel("MUG", 0, 0)

    def test_an_unknown_sku_is_none(self, stock: PostgresStock) -> None:
        assert stock.adjust("NOPE", 1) is None

    @pytest.mark.parametrize(("reserved", "change"), [(0, -6), (3, -3), (5, -1)])
    def test_never_below_what_is_reserved(
        self, database: Database, stock: PostgresStock, reserved: int, change: int
    ) -> None:
        stock.set_on_hand([("MUG", 5)])
        if reserved:
            settle(database, wanted(("MUG", reserved)))
        with pytest.raises(TooFew) as caught:
            stock.adjust("MUG", change)
        assert (caught.value.sku, caught.value.reserved) == ("MUG", reserved)
        assert level(stock, "MUG") == (5, reserved)


@pytest.mark.parametrize("statement", [READ_OUTCOMES, LOCK_STOCK])
def test_a_table_that_was_empty_when_it_was_looked_at_is_not_read_whole(
    database: Database, statement: str
) -> None:
    """Plans made then stay in use while it grows, until the next ANALYZE."""
    with database.transaction() as tx:
        tx.execute("ANALYZE reservation, stock")
        keys = [str(number) for number in range(100)]
        plan = tx.execute(f"EXPLAIN {statement}".encode(), (keys,)).fetchall()
    assert "Seq Scan" not in str(plan)
    assert "Index" in str(plan)
