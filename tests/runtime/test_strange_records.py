"""Records that no program of ours wrote: each ends somewhere, and those behind it go on."""

from collections.abc import Callable, Iterator

import pytest

from orderstream.contract.errors import Malformed
from orderstream.contract.events import decode_rejected, decode_reserved, failed_order_key
from orderstream.contract.topics import Topics
from orderstream.inventory.stage import inventory_stage
from orderstream.inventory.store_postgres import PostgresStock
from orderstream.runtime.broker_memory import MemoryBroker
from orderstream.runtime.database import Database
from orderstream.runtime.failure import ATTEMPTS, DUE
from orderstream.runtime.stage import Output
from tests.builders import an_order, encode, key_of
from tests.runtime.crashing import Script, ScriptedDatabase, run_until_idle

TOPICS = Topics()


@pytest.fixture
def database(dsn: str) -> Iterator[ScriptedDatabase]:
    database = ScriptedDatabase(dsn, "inventory")
    yield database
    database.close()


Run = Callable[..., MemoryBroker]


@pytest.fixture
def run(database: ScriptedDatabase) -> Run:
    def run(*records: Output) -> MemoryBroker:
        with Database.transaction(database) as tx:
            tx.execute("INSERT INTO stock (sku, on_hand) VALUES ('MUG', 5)")
        broker = MemoryBroker()
        for record in records:
            broker.append(record)
        stage = inventory_stage(PostgresStock(database), TOPICS, "FAIL")
        run_until_idle(stage, broker, database, Script())
        return broker

    return run


def created(order_id: int | str, quantity: int = 1, key: bytes | None = None) -> Output:
    order = an_order(("MUG", quantity), order_id=order_id)
    return Output(TOPICS.order_created, key or key_of(order), encode(order), [])


class TestInTheRetryTopic:
    @pytest.mark.parametrize(
        "header",
        [
            (ATTEMPTS, b"\xff" * 5000),
            (ATTEMPTS, b"\xff" * 4),
            (ATTEMPTS, b"\xff\xff\xff\xfe"),
            (DUE, b"\x7f" + b"\xff" * 7),
            (DUE, b"\x7f" * 500),
            ("kafka_original-topic", b"nobody-made-this"),
            ("kafka_original-partition", b"\xff" * 9),
        ],
    )
    def test_garbage_is_parked_with_the_orders_and_holds_nobody_up(
        self, run: Run, header: tuple[str, bytes]
    ) -> None:
        broker = run(
            Output(TOPICS.order_created_retry, b"1", b"\x00garbage", [header]),
            Output(TOPICS.order_created_retry, b"1", encode(an_order(order_id=2)), []),
            created(3),
        )
        assert [r.value() for r in broker.log(TOPICS.order_created_dead)] == [b"\x00garbage"]
        assert {r.key() for r in broker.log(TOPICS.inventory_reserved)} == {b"2", b"3"}


class TestAnOrderOfAnotherProgram:
    @pytest.mark.parametrize(
        "value",
        [
            b'{"orderId":1,"items":[{"sku":"MUG","qty":1}],"createdAt":"2026-01-01T00:00:00"}',
            b'{"orderId":1,"items":[{"sku":"MUG","qty":1}],"userId":"a\\u0000b"}',
            b'{"orderId":1,"items":[{"sku":"MUG","qty":1000001}]}',
            b'{"orderId":1,"items":['
            + b'{"sku":"MUG","qty":1},' * 500
            + b'{"sku":"MUG","qty":1}]}',
            b'{"orderId":1,"items":[{"sku":"MUG","qty":1}],"x":' + b"[" * 9999 + b"]" * 9999 + b"}",
        ],
        ids=["no-zone", "nul", "quantity", "items", "deep"],
    )
    def test_beyond_the_limits_is_parked_before_anything_is_reserved(
        self, run: Run, value: bytes
    ) -> None:
        broker = run(Output(TOPICS.order_created, b"1", value, []), created(2))
        assert [r.value() for r in broker.log(TOPICS.order_created_dead)] == [value]
        assert [r.key() for r in broker.log(TOPICS.inventory_reserved)] == [b"2"]


class TestTheSameOrderId:
    def test_with_other_items_gets_what_was_decided_first(self, run: Run) -> None:
        broker = run(created(1, 2), created(1, 4))
        said = [decode_reserved(r.value()) for r in broker.log(TOPICS.inventory_reserved)]
        assert [[(line.sku, line.qty) for line in event.items] for event in said] == [
            [("MUG", 2)],
            [("MUG", 2)],
        ]

    def test_rejected_once_is_rejected_for_ever(self, run: Run) -> None:
        broker = run(created(1, 9), created(1, 1))
        said = [decode_rejected(r.value()) for r in broker.log(TOPICS.inventory_rejected)]
        assert [event.items[0].qty for event in said] == [9, 9]
        assert broker.log(TOPICS.inventory_reserved) == []


class TestWhoseDeadLetter:
    def test_the_value_names_the_order_whatever_the_key_is(self) -> None:
        value = encode(an_order(order_id=7))
        assert failed_order_key(None, value, None, "us") == "7"
        assert failed_order_key(b"9", value, "us", "us") == "7"

    def test_the_key_has_to_do_where_the_value_cannot_be_read(self) -> None:
        assert failed_order_key(b"9", b"garbage", "us", "us") == "9"

    @pytest.mark.parametrize("key", [None, b"", b"\xff", b"a\x00b"])
    def test_without_both_it_is_nobodys(self, key: bytes | None) -> None:
        with pytest.raises(Malformed):
            failed_order_key(key, b"garbage", "us", "us")

    def test_another_groups_failure_is_not_the_orders(self) -> None:
        with pytest.raises(Malformed):
            failed_order_key(b"9", encode(an_order()), "analytics", "us")
