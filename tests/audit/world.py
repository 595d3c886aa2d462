"""A small log and the stores that go with it, to be audited as they are or with something wrong."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec
from msgspec import UNSET, UnsetType
from psycopg import Connection

from orderstream.audit.facts import Facts
from orderstream.audit.report import Report
from orderstream.audit.verify import judge
from orderstream.contract.events import (
    InventoryRejected,
    InventoryReleased,
    InventoryReserved,
    OrderCancelled,
    OrderCreated,
    OrderFulfilled,
    encode,
)
from orderstream.contract.topics import Topics
from orderstream.contract.values import quantities_by_sku
from orderstream.runtime.clock import to_epoch_ms
from tests.builders import NOON

TOPICS = Topics()
DECIDES = "orderstream-inventory"
ON_HAND = 1_000
PARTITIONS = 2

STATUS = {"EXPIRED": 30, "CANCELLED": 31, "FULFILLED": 32}
FACTS = {
    "ACCEPTED": 128,
    "FAILED": 1,
    "CONFIRMED": 2,
    "REJECTED": 4,
    "EXPIRED": 8,
    "CANCELLED": 16,
    "FULFILLED": 32,
    "RELEASED": 64,
}
NOTICES = {
    "FAILED": "order.failed",
    "CONFIRMED": "inventory.reserved",
    "REJECTED": "inventory.rejected",
    "EXPIRED": "order.cancelled",
    "CANCELLED": "order.cancelled",
    "FULFILLED": "order.fulfilled",
}

Place = tuple[str, int, int]
Decision = InventoryReserved | InventoryRejected


@dataclass(frozen=True)
class LogRecord:
    """One record of the log."""

    at: datetime
    place: Place
    record_key: bytes | None
    record_value: bytes | None
    record_headers: list[tuple[str, bytes]]

    def topic(self) -> str:
        return self.place[0]

    def partition(self) -> int:
        return self.place[1]

    def offset(self) -> int:
        return self.place[2]

    def key(self) -> bytes | None:
        return self.record_key

    def value(self) -> bytes | None:
        return self.record_value

    def headers(self) -> list[tuple[str, bytes]]:
        return self.record_headers

    def timestamp(self) -> tuple[int, int]:
        return 1, to_epoch_ms(self.at)


@dataclass
class Known:
    """What the log has said of one order."""

    created_at: datetime | None = None
    accepted_at: datetime | None = None
    owner: str | UnsetType = UNSET
    decisions: list[Decision] = field(default_factory=list[Decision])
    failed_at: datetime | None = None
    ends: list[OrderCancelled | OrderFulfilled] = field(
        default_factory=list[OrderCancelled | OrderFulfilled]
    )
    released: InventoryReleased | None = None

    @property
    def facts(self) -> dict[str, datetime]:
        """What analytics counts of it, and when that was."""
        facts = {} if self.accepted_at is None else {"ACCEPTED": self.accepted_at}
        if self.failed_at is not None:
            facts["FAILED"] = self.failed_at
        for decision in self.decisions:
            if isinstance(decision, InventoryReserved):
                facts.setdefault("CONFIRMED", decision.decided_at)
            elif decision.reason != "CANCELLED":
                facts.setdefault("REJECTED", decision.decided_at)
        for end in self.ends[:1]:
            facts[_name(end)] = _at(end)
        return facts if self.released is None else facts | {"RELEASED": self.released.released_at}

    @property
    def status(self) -> tuple[int, str]:
        for end in self.ends:
            return STATUS[_name(end)], _name(end)
        if any(isinstance(decision, InventoryRejected) for decision in self.decisions):
            return 21, "REJECTED"
        if self.decisions:
            return 20, "CONFIRMED"
        return (0, "PENDING") if self.failed_at is None else (10, "FAILED")


class World:
    """Writes the log record by record; `fill_stores` then does what correct services would.

    The database is that of the connection's open transaction, and gone with it.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._facts = Facts(connection, TOPICS, DECIDES)
        self._facts.create_tables()
        self._ends = {(topic, n): 0 for topic in TOPICS.all() for n in range(PARTITIONS)}
        self._known: dict[str, Known] = {}
        self._answered = dict(self._ends)

    # The log ------------------------------------------------------------------------------

    def accept(self, order: OrderCreated) -> LogRecord:
        """An order comes in."""
        known = self._known.setdefault(order.key, Known())
        if known.created_at is None:
            known.created_at, known.owner = order.created_at, order.owner
        known.accepted_at = known.accepted_at or order.created_at or NOON
        return self.say(TOPICS.order_created, order.key.encode(), encode(order))

    def try_again(self, record: LogRecord, attempt: int) -> LogRecord:
        """Inventory puts a record to the retry topic."""
        headers = [("retry_topic-attempts", attempt.to_bytes(4, "big"))]
        headers += _origin("kafka_original-", _first_place(record), DECIDES)
        return self.say(TOPICS.order_created_retry, record.key(), record.value(), headers)

    def park(
        self, record: LogRecord, by: str = DECIDES, at: datetime = NOON, key: bytes | None = None
    ) -> LogRecord:
        """A service gives up on a record."""
        order_key = key or record.key()
        if by == DECIDES and order_key is not None:
            known = self._known.setdefault(order_key.decode(), Known())
            known.failed_at = known.failed_at or at
        headers = record.headers() + _origin("kafka_dlt-original-", _first_place(record), by)
        return self.say(TOPICS.order_created_dead, order_key, record.value(), headers, at)

    def decide(self, decision: Decision, event_id: str | None = None) -> LogRecord:
        """Inventory says what it decided."""
        self._known.setdefault(decision.key, Known()).decisions.append(decision)
        confirmed = isinstance(decision, InventoryReserved)
        name = "inventory.reserved" if confirmed else "inventory.rejected"
        topic = TOPICS.inventory_reserved if confirmed else TOPICS.inventory_rejected
        headers = [("ce_id", (event_id or f"{decision.key}:{name}").encode())]
        return self.say(topic, decision.key.encode(), encode(decision), headers)

    def end(self, end: OrderCancelled | OrderFulfilled) -> LogRecord:
        """Somebody cancels or fulfils an order, or it expires."""
        self._known.setdefault(end.key, Known()).ends.append(end)
        cancelled = isinstance(end, OrderCancelled)
        topic = TOPICS.order_cancelled if cancelled else TOPICS.order_fulfilled
        return self.say(topic, end.key.encode(), encode(end))

    def release(self, released: InventoryReleased) -> LogRecord:
        """Inventory says that stock is free again."""
        self._known[released.key].released = released
        return self.say(TOPICS.inventory_released, released.key.encode(), encode(released))

    def say(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        at: datetime = NOON,
    ) -> LogRecord:
        """Write any record."""
        partition = sum(key or b"") % PARTITIONS
        place = (topic, partition, self._ends[topic, partition])
        record = LogRecord(at, place, key, value, list(headers))
        self._ends[topic, partition] += 1
        self._facts.add(record)
        return record

    def inventory_is_up_to_date(self) -> None:
        """Inventory has answered all that is on the log now."""
        self._answered = dict(self._ends)

    # The stores ---------------------------------------------------------------------------

    def fill_stores(self) -> None:
        """Write what correct services would have written by now."""
        taken: Counter[str] = Counter()
        sold: Counter[str] = Counter()
        lost: Counter[str] = Counter()
        outcomes: Counter[str] = Counter()
        minutes: Counter[tuple[datetime, str]] = Counter()
        decided = 0
        for key, known in self._known.items():
            status, name = known.status
            first = known.decisions[0] if known.decisions else None
            created_at = known.created_at or (first and first.ordered_at)
            owner = first.owner if first else known.owner
            self.add_page(key, status, created_at, first and first.decided_at, owner)
            facts = known.facts
            for fact, at in facts.items():
                if fact in NOTICES:
                    self.add_notice(key, NOTICES[fact])
                if fact != "RELEASED":
                    minutes[_minute(at), fact] += 1
            if facts:
                number = sum(FACTS[fact] for fact in facts)
                self.run("INSERT INTO analytics.counted_names VALUES (%s, %s)", key, number)
                outcomes[name] += 1
            if first is None:
                continue
            self.add_reservation(first, known)
            quantities = quantities_by_sku(first.items)
            if isinstance(first, InventoryReserved):
                decided += 1
                if known.released is None:
                    sold.update(quantities)
                    taken.update({} if known.ends else quantities)
                else:
                    sold.update(dict.fromkeys(quantities, 0))
            elif first.reason != "CANCELLED":
                decided += 1
                lost.update({sku: quantities[sku] for sku in first.short})
        for sku, reserved in taken.items():
            self.run("INSERT INTO inventory.stock VALUES (%s, %s, %s)", sku, ON_HAND, reserved)
        for sku in sold.keys() | lost.keys():
            self.run("INSERT INTO analytics.per_sku VALUES (%s, %s, %s)", sku, sold[sku], lost[sku])
        for name, orders in outcomes.items():
            self.run("INSERT INTO analytics.per_outcome VALUES (%s, %s)", name, orders)
        for (minute, name), orders in minutes.items():
            self.run("INSERT INTO analytics.per_minute VALUES (%s, %s, %s)", minute, name, orders)
        self.run("INSERT INTO analytics.latency VALUES (0, %s)", decided)
        decisions = {TOPICS.inventory_reserved, TOPICS.inventory_rejected}
        decisions |= {TOPICS.order_created_dead, TOPICS.order_cancelled, TOPICS.order_fulfilled}
        decisions.add(TOPICS.inventory_released)
        for schema, topics in (
            ("order_view", decisions | {TOPICS.order_created}),
            ("notification", decisions),
            ("analytics", decisions | {TOPICS.order_created}),
        ):
            for (topic, n), end in self._ends.items():
                if topic in topics:
                    self.run(f"INSERT INTO {schema}.position VALUES (%s, %s, %s)", topic, n, end)

    def add_page(
        self,
        key: str,
        status: int,
        created_at: datetime | None,
        decided_at: datetime | None,
        owner: str | UnsetType = UNSET,
    ) -> None:
        self.run(
            "INSERT INTO order_view.orders (order_id, numeric_id, numeric_user, status,"
            " created_at, decided_at, owner, timeline)"
            " VALUES (%s, true, true, %s, %s, %s, %s, '[]')",
            key,
            status,
            created_at,
            decided_at,
            None if owner is UNSET else owner,
        )

    def add_pending(self, key: str, accepted_at: datetime) -> None:
        """Analytics has read that the order was accepted."""
        self.run("INSERT INTO analytics.counted_names VALUES (%s, %s)", key, FACTS["ACCEPTED"])
        self.run(
            "INSERT INTO analytics.per_outcome AS c VALUES ('PENDING', 1)"
            " ON CONFLICT (outcome) DO UPDATE SET orders = c.orders + 1"
        )
        self.run(
            "INSERT INTO analytics.per_minute VALUES (%s, 'ACCEPTED', 1)", _minute(accepted_at)
        )

    def add_claim(self, name: str, key: str) -> None:
        self.run(
            "INSERT INTO orders.claim (name, fingerprint, order_id, numeric_id)"
            " VALUES (%s, '', %s, true)",
            name,
            key,
        )

    def add_notice(self, key: str, event_type: str) -> None:
        self.run(
            "INSERT INTO notification.notice VALUES (%s, 'log', %s, NULL, 'SENT', 'x', now())",
            f"{key}:{event_type}",
            key,
        )

    def add_reservation(self, decision: Decision, known: Known | None = None) -> None:
        rejected = decision if isinstance(decision, InventoryRejected) else None
        released = None if known is None else known.released
        end = None if known is None or not known.ends else _name(known.ends[0])
        self.run(
            "INSERT INTO inventory.reservation VALUES (%s, %s, %s, %s, %s, %s, %s)",
            decision.key,
            "REJECTED" if rejected else end or "RESERVED",
            msgspec.json.encode(quantities_by_sku(decision.items)).decode(),
            rejected and rejected.reason,
            msgspec.json.encode(rejected.short).decode() if rejected and rejected.short else None,
            decision.decided_at,
            released and released.released_at,
        )

    def run(self, statement: str, *values: object) -> None:
        """Change the stores; exactly one row is meant, except by a change of the schema."""
        changed = self.connection.execute(statement.encode(), values).rowcount
        assert changed in (1, -1)

    # The audit ----------------------------------------------------------------------------

    def judge(self, cut: Sequence[str] = ()) -> Report:
        """Audit log and stores."""
        self._facts.flush()
        self._facts.mark(
            {p: end for p, end in self._ends.items() if p[0] in self._facts.names.values()},
            self._answered,
        )
        return judge(self.connection, self._facts, cut=cut)


def later(seconds: float) -> datetime:
    """Return a time after noon."""
    return NOON + timedelta(seconds=seconds)


def _first_place(record: LogRecord) -> Place:
    """Return where a record that may be another try was first."""
    headers = dict(record.headers())
    if "kafka_original-topic" not in headers:
        return record.place
    return (
        headers["kafka_original-topic"].decode(),
        int.from_bytes(headers["kafka_original-partition"], "big"),
        int.from_bytes(headers["kafka_original-offset"], "big"),
    )


def _origin(prefix: str, place: Place, group: str) -> list[tuple[str, bytes]]:
    return [
        (prefix + "topic", place[0].encode()),
        (prefix + "partition", place[1].to_bytes(4, "big")),
        (prefix + "offset", place[2].to_bytes(8, "big")),
        (prefix + "consumer-group", group.encode()),
    ]


def _name(end: OrderCancelled | OrderFulfilled) -> str:
    return end.cause if isinstance(end, OrderCancelled) else "FULFILLED"


def _at(end: OrderCancelled | OrderFulfilled) -> datetime:
    return end.cancelled_at if isinstance(end, OrderCancelled) else end.fulfilled_at


def _minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)
