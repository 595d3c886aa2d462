"""The promise of design.md section 2: whatever call is the last one before a crash, log and store
come out as if nothing had happened."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

import pytest

from orderstream.analytics.stage import analytics_stage
from orderstream.analytics.store_postgres import PostgresCounts
from orderstream.contract.errors import OutcomeUnknown, TransactionAborted, Unavailable
from orderstream.contract.events import OrderCancelled
from orderstream.contract.topics import Topics
from orderstream.inventory.stage import inventory_stage
from orderstream.inventory.store_postgres import PostgresStock
from orderstream.notification.channels import LogChannel
from orderstream.notification.stage import notification_stage
from orderstream.notification.store_postgres import PostgresNotices
from orderstream.order_view.stage import view_stage
from orderstream.order_view.store_postgres import PostgresView
from orderstream.runtime.broker_memory import MemoryBroker
from orderstream.runtime.database import Database
from orderstream.runtime.stage import Stage
from tests.builders import (
    an_order,
    cancelled,
    encode,
    fulfilled,
    key_of,
    rejected,
    released,
    reserved,
)
from tests.runtime.crashing import (
    GROUP,
    RECORDS_MAX,
    Crash,
    Script,
    ScriptedDatabase,
    run_until_idle,
)

TOPICS = Topics()

# What is stored of a batch depends on where batches end, which a crash may change.
SHOWN = {
    "user_batch": """(SELECT minute, outcome, user_id, sum(n)
        FROM user_batch, unnest(users, orders) AS each (user_id, n) GROUP BY 1, 2, 3) AS sums"""
}


@dataclass
class World:
    """A stage, its input, and what to compare when it is done."""

    schema: str
    stage: Callable[[Database], Stage]
    fill: Callable[[MemoryBroker], None]
    tables: dict[str, str]
    outputs: tuple[str, ...] = ()

    def run(self, database: ScriptedDatabase, script: Script) -> dict[str, Any]:
        with Database.transaction(database) as tx:
            for table in (*self.tables, *(["position"] if self.schema != "inventory" else [])):
                tx.execute(f"DELETE FROM {table}".encode())
            if self.schema == "inventory":
                tx.execute("INSERT INTO stock (sku, on_hand) VALUES ('MUG', 5), ('CAP', 100)")
        broker = MemoryBroker()
        self.fill(broker)
        # A full batch makes it busy, so that it keeps back what something follows.
        stage = replace(self.stage(database), busy_records=RECORDS_MAX)
        run_until_idle(stage, broker, database, script)
        database.script = Script()
        with database.transaction() as tx:
            found: dict[str, Any] = {
                table: _unordered(
                    tx.execute(f"SELECT * FROM {SHOWN.get(table, table)} ORDER BY {order}".encode())
                )
                for table, order in self.tables.items()
            }
        for topic in self.outputs:
            found[topic] = [(r.key(), r.value(), _told(r.headers())) for r in broker.log(topic)]
        committed = broker.committed.get("test", {})
        # An aborted transaction leaves a gap in the topics that the stage writes itself.
        found["offsets"] = {at: n for at, n in committed.items() if at[0] not in self.outputs}
        assert all(found[table] for table in self.tables)
        return found


def _unordered(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    """A timeline is put in order when it is read: how it is stored depends on the batches."""
    return [
        [sorted(value, key=str) if isinstance(value, list) else value for value in row]
        for row in rows
    ]


def _told(headers: Any) -> list[tuple[str, bytes]]:
    """A stack trace names lines of code, which differ with the path taken; the rest may not."""
    return [h for h in headers if "stacktrace" not in h[0]]


def created(broker: MemoryBroker) -> None:
    orders = [
        an_order(("MUG", 2), order_id=1),
        an_order(("MUG", 2), ("CAP", 1), order_id="two"),
        an_order(("FAIL", 1), order_id=3),
        an_order(("MUG", 2), order_id=4),
        an_order(("MUG", 2), order_id=1),  # Published twice after an unknown outcome.
        an_order(("CAP", 1), order_id=5),
        an_order(("NOPE", 1), order_id=6),
        an_order(("MUG", 1), order_id=7),
        an_order(("MUG", 1), order_id=8),
    ]
    for number, order in enumerate(orders):
        broker.put(TOPICS.order_created, key_of(order), encode(order))
        if number == 4:
            broker.put(TOPICS.order_created, b"junk", b"{not json")
    for end in (
        cancelled(orders[0]),
        cancelled(orders[0]),  # Said twice.
        fulfilled(orders[7]),
        cancelled(an_order(order_id=9)),
        fulfilled(orders[3]),  # Nothing is set aside for it: parked.
    ):
        is_cancelled = isinstance(end, OrderCancelled)
        topic = TOPICS.order_cancelled if is_cancelled else TOPICS.order_fulfilled
        broker.put(topic, key_of(end), encode(end))
    broker.put(TOPICS.order_created, b"9", encode(an_order(("MUG", 1), order_id=9)))


def decided(broker: MemoryBroker) -> None:
    created(broker)
    for number in range(1, 5):
        order = an_order(("MUG", number), order_id=number)
        broker.put(TOPICS.inventory_reserved, key_of(order), encode(reserved(order)))
    broker.put(TOPICS.inventory_reserved, b"1", encode(reserved(an_order(("MUG", 1)))))
    broker.put(TOPICS.inventory_reserved, b"junk", b"\xff")
    broker.put(TOPICS.inventory_released, b"1", encode(released(an_order(("MUG", 1)))))
    for number in range(5, 8):
        order = an_order(("MUG", number), order_id=number)
        broker.put(TOPICS.inventory_rejected, key_of(order), encode(rejected(order)))
    broker.put(TOPICS.order_created_dead, b"3", b"{}", [("kafka_dlt-exception-message", b"no")])
    broker.put(TOPICS.order_created_dead, b"9", b"{}", [("kafka_dlt-exception-message", b"no")])
    elsewhere = [("kafka_dlt-original-consumer-group", b"somebody-else")]
    broker.put(TOPICS.order_created_dead, b"8", b"{}", elsewhere)


WORLDS = {
    "inventory": World(
        "inventory",
        lambda db: inventory_stage(PostgresStock(db), TOPICS, "FAIL"),
        created,
        {"stock": "sku", "reservation": "order_id"},
        (
            TOPICS.inventory_reserved,
            TOPICS.inventory_rejected,
            TOPICS.inventory_released,
            TOPICS.order_created_retry,
            TOPICS.order_created_dead,
            TOPICS.dead_letter(TOPICS.order_fulfilled),
        ),
    ),
    "view": World(
        "order_view",
        lambda db: view_stage(PostgresView(db), TOPICS, GROUP),
        decided,
        {"orders": "order_id", "position": "topic, partition"},
    ),
    "notification": World(
        "notification",
        lambda db: notification_stage(PostgresNotices(db), LogChannel(), ["mail"], TOPICS, GROUP),
        decided,
        {"notice": "event_id", "position": "topic, partition"},
    ),
    "analytics": World(
        "analytics",
        lambda db: analytics_stage(PostgresCounts(db), TOPICS, GROUP),
        decided,
        {
            "counted_names": "order_id",
            "counted_numbers": "block",
            "per_outcome": "outcome",
            "per_minute": "minute, outcome",
            "per_sku": "sku",
            "sku_minute": "minute, sku",
            "sku_quarter": "minute, sku",
            "user_batch": "minute, outcome, user_id",
            "latency": "bucket",
            "latency_minute": "minute, bucket",
            "position": "topic, partition",
        },
    ),
}


@pytest.fixture(autouse=True)
def own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of a second a look: how long records wait decides what is called."""
    monkeypatch.setattr("orderstream.runtime.loop.monotonic", partial(next, count(0, 0.1)))


@pytest.fixture(autouse=True)
def soon_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that wait are many: a topic that is ahead is read no further, and later it is again."""
    monkeypatch.setattr("orderstream.runtime.pairing.MANY", 1)


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> World:
    return WORLDS[request.param]


@pytest.fixture
def database(dsn: str, world: World) -> Iterator[ScriptedDatabase]:
    database = ScriptedDatabase(dsn, world.schema)
    yield database
    database.close()


@pytest.mark.parametrize("fault", [Crash, Unavailable, OutcomeUnknown, TransactionAborted])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
class TestAFaultAtEveryCall:
    def test_log_and_store_are_those_of_a_run_without(
        self, database: ScriptedDatabase, world: World, fault: type[BaseException], after: bool
    ) -> None:
        smooth = Script()
        expected = world.run(database, smooth)
        assert len(smooth.names) > 15
        assert ("release" in smooth.names) == (world.schema == "order_view")
        calls: set[str | None] = set()
        for number in range(len(smooth.names)):
            script = Script(number, after, fault)
            found = world.run(database, script)
            assert script.fired is not None
            calls.add(script.fired)
            assert found == expected, f"{fault.__name__} {'after' if after else 'before'} "
            f"call {number}, {script.fired}"
        assert calls == set(smooth.names)
