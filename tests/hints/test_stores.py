"""Claims and stock are the same with any Redis as with none."""

from collections.abc import Callable, Iterator
from contextlib import closing
from time import monotonic
from typing import Any

import pytest

from orderstream.contract.errors import Unavailable
from orderstream.inventory.rules import Wanted
from orderstream.inventory.stock_hinted import EMPTY, HintedStock
from orderstream.inventory.store import StockLevel, StockStore
from orderstream.inventory.store_postgres import PostgresStock
from orderstream.orders.claims_hinted import HintedClaims
from orderstream.orders.store import Claim, ClaimStore, Held
from orderstream.orders.store_postgres import FIRST_ID, PostgresClaims
from orderstream.runtime.clock import utc_now
from orderstream.runtime.database import Database
from orderstream.runtime.hints import AVOIDED_S, PREFIX, Hints
from tests.builders import lines
from tests.conftest import database_copy
from tests.own_redis import OwnRedis
from tests.ports import own_port

NAMES = [f"order:{n}" for n in ("a", "b", "c", FIRST_ID, 7)] + ["key:k", "key:l"]
STATES = ["there", "emptied", "knows-all", "wrong-types", "refused", "hanging"]
Between = Callable[[], object]


@pytest.fixture(params=STATES)
def hints(
    request: pytest.FixtureRequest, redis: OwnRedis, hanging: str
) -> Iterator[tuple[Hints, Between]]:
    """A Redis in some state, and what happens to it before each call."""
    client: Any = redis.client
    url, between = redis.url, lambda: None
    match request.param:
        case "emptied":
            between = client.flushall
        case "knows-all":
            between = lambda: client.mset({f"{PREFIX}claim:{name}": b"1" for name in NAMES})  # noqa: E731
        case "wrong-types":
            for name in NAMES:
                client.rpush(f"{PREFIX}claim:{name}", "x")
            client.set(f"{PREFIX}{EMPTY}", "x")
        case "refused":
            url = f"redis://127.0.0.1:{own_port()}/0"
        case "hanging":
            url = hanging
    with closing(Hints(url)) as hints:
        yield hints, between


def said_of_claims(store: ClaimStore, between: Between) -> list[Any]:
    """Do everything with claims that changes what is said later."""

    def claim(*claims: Claim) -> dict[str, Held | None]:
        between()
        return store.claim(claims)

    given = store.id_block(10)
    said: list[Any] = [given]
    for _ in range(3):
        said += [
            claim(Claim.of_order("a", b"1"), Claim.of_order(7, b"1")),
            claim(Claim.of_order("a", b"2")),
            claim(Claim.of_order(FIRST_ID, b"1")),
            claim(Claim.of_key("k", b"1", "a"), Claim.of_order("b", b"1")),
            claim(Claim.of_key("k", b"2", "b"), Claim.of_order("c", b"2")),
        ]
        between()
        store.published(["order:a", "key:k"])
        store.unknown([Claim.of_order(FIRST_ID, b"3")])
        said += [claim(Claim.of_order(FIRST_ID, b"1")), claim(Claim.of_order("a", b"1"))]
    return said


class TestClaims:
    def test_are_the_same_as_without(
        self, hints: tuple[Hints, Between], dsn: str, template_dsn: str
    ) -> None:
        with database_copy(template_dsn) as other, closing(Database(other, "orders")) as database:
            wanted = said_of_claims(PostgresClaims(database), lambda: None)
        with closing(Database(dsn, "orders")) as database:
            store = HintedClaims(PostgresClaims(database), hints[0])
            assert said_of_claims(store, hints[1]) == wanted

    def test_that_are_repeated_write_nothing(self, redis: OwnRedis, dsn: str) -> None:
        with closing(Database(dsn, "orders")) as database, closing(Hints(redis.url)) as hints:
            store = HintedClaims(PostgresClaims(database), hints)
            first = store.claim([Claim.of_order("a", b"1")])
            with database.transaction() as tx:
                tx.execute("LOCK TABLE claim IN EXCLUSIVE MODE")  # Reading goes on, no more.
                assert store.claim([Claim.of_order("a", b"1")]) == first


def said_of_stock(store: StockStore, database: Database, between: Between) -> list[Any]:
    """Do everything with stock, but read one SKU's level."""
    said: list[Any] = []
    for number in range(3):
        between()
        said.append(store.set_on_hand([("MUG", 3 + number), ("CUP", 5)]))
        with database.transaction() as tx:
            orders = [Wanted(f"{number}-{n}", lines(("MUG", 2))) for n in range(3)]
            outcomes = store.settle(tx, orders, utc_now())
        said.append({key: (o.quantities, o.reason, o.short) for key, o in outcomes.items()})
        between()
        said += [store.adjust("CUP", number), store.levels("", 10)]
        said.append(sorted(store.empty_of(["MUG", "CUP", "NONE"])))
    return said


class TestStock:
    def test_is_the_same_as_without(
        self, hints: tuple[Hints, Between], dsn: str, template_dsn: str
    ) -> None:
        with (
            database_copy(template_dsn) as other,
            closing(Database(other, "inventory")) as database,
        ):
            wanted = said_of_stock(PostgresStock(database), database, lambda: None)
        with closing(Database(dsn, "inventory")) as database:
            store = HintedStock(PostgresStock(database), hints[0])
            assert said_of_stock(store, database, hints[1]) == wanted

    def test_of_one_sku_is_read_from_redis_until_it_is_set(self, redis: OwnRedis, dsn: str) -> None:
        with closing(Database(dsn, "inventory")) as database, closing(Hints(redis.url)) as hints:
            below = PostgresStock(database)
            store = HintedStock(below, hints)
            below.set_on_hand([("MUG", 3)])
            assert store.level("MUG") == StockLevel("MUG", 3, 0)
            below.set_on_hand([("MUG", 4)])
            assert store.level("MUG") == StockLevel("MUG", 3, 0)
            store.set_on_hand([("MUG", 5)])
            assert store.level("MUG") == StockLevel("MUG", 5, 0)
            store.adjust("MUG", 1)
            assert store.level("MUG") == StockLevel("MUG", 6, 0)
            assert 0 < int(redis.client.pttl(f"{PREFIX}stock:MUG")) <= 1000  # pyright: ignore[reportArgumentType]

    @pytest.mark.parametrize("lie", [b"", b"x", b"[1]", b"[1,2]", b"[5,-1]", b'["a",1]', b"\xff"])
    def test_that_cannot_be_is_not_believed(self, redis: OwnRedis, dsn: str, lie: bytes) -> None:
        with closing(Database(dsn, "inventory")) as database, closing(Hints(redis.url)) as hints:
            store = HintedStock(PostgresStock(database), hints)
            store.set_on_hand([("MUG", 3)])
            redis.client.set(f"{PREFIX}stock:MUG", lie)
            assert store.level("MUG") == StockLevel("MUG", 3, 0)


class TestRedis:
    def test_that_hangs_is_left_alone(self, hanging: str) -> None:
        with closing(Hints(hanging)) as hints:
            began = monotonic()
            for _ in range(100):
                assert hints.get(["a", "b"]) == [None, None]
                assert hints.hold("sweep", "me", 5)
            assert monotonic() - began < AVOIDED_S
            with pytest.raises(Unavailable):
                hints.check()

    def test_gives_a_lock_to_one_who_may_keep_it(self, redis: OwnRedis) -> None:
        with closing(Hints(redis.url)) as hints:
            assert hints.hold("sweep", "me", 5)
            assert not hints.hold("sweep", "you", 5)
            assert hints.hold("sweep", "me", 5)
            redis.client.flushall()
            assert hints.hold("sweep", "you", 5)

    def test_forgets_who_was_put_into_a_group_long_ago(self, redis: OwnRedis) -> None:
        with closing(Hints(redis.url)) as hints:
            hints.add("g", ["old"], 100, 10)
            hints.add("g", ["new"], 105, 10)
            assert hints.members("g", 104) == {"old", "new"}
            assert hints.members("g", 112) == {"new"}
