"""Reads from the log what came after the backup, and writes it down in temporary tables.

Where to begin is what the view had read when the backup was taken, which is in the backup: what it
has read of what inventory said, or of what the order service published, was in their stores first.
How far inventory had heard of ends of orders is not: those are read from where `prune` has been.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from psycopg import Connection, sql

from orderstream.contract.envelope import CLAIM
from orderstream.contract.errors import Malformed
from orderstream.contract.events import (
    InventoryRejected,
    OrderFulfilled,
    decode_cancelled,
    decode_fulfilled,
    decode_rejected,
    decode_released,
    decode_reserved,
)
from orderstream.contract.topics import Topics
from orderstream.contract.values import quantities_by_sku
from orderstream.orders.rules import number_of
from orderstream.orders.store import Claim
from orderstream.orders.store_postgres import FIRST_ID
from orderstream.recovery.statements import TABLES
from orderstream.runtime.log_reader import LogReader
from orderstream.runtime.stage import Positions, Record

FLUSH_ROWS = 5_000

Row = tuple[object, ...]


class Facts:
    """The facts of one session. `seen` is what the view had read, `answered` what inventory has."""

    def __init__(
        self, connection: Connection, topics: Topics, seen: Positions, answered: Positions
    ) -> None:
        self._connection = connection
        self._topics = topics
        self._read_order = topics.read_order
        self._seen = seen
        self._answered = answered
        self._rows: dict[str, list[Row]] = {}
        self.ids: list[int] = []  # Numbers that orders have which brought none.
        self.orders = 0
        connection.execute(TABLES)

    def read(self, log: LogReader, forgotten: Positions) -> None:
        """Read the log up to its end; `forgotten` is up to where inventory was pruned."""
        t = self._topics
        ends_of_orders = (t.order_cancelled, t.order_fulfilled)
        every = (
            t.order_created,
            t.inventory_reserved,
            t.inventory_rejected,
            t.inventory_released,
            *ends_of_orders,
        )
        ends = log.stable_ends(log.partitions(every))
        begins = {
            at: (forgotten if at[0] in ends_of_orders else self._seen).get(at, 0) for at in ends
        }
        for records in log.read(ends, begins):
            for record in records:
                with suppress(Malformed):  # Whoever reads it parks it, or has.
                    for table, row in self._facts(record):
                        self._add(table, row)
        for table, rows in self._rows.items():
            self._copy(table, rows)

    def _facts(self, record: Record) -> Iterator[tuple[str, Row]]:
        topic, value, t = record.topic(), record.value(), self._topics
        if topic == t.order_created:
            order = self._read_order(value, record.key())
            self.orders += 1
            claims = list(_claims(record, order.order_id))
            number = number_of(order.key)
            brought = f"order:{order.order_id}" in [claim.name for claim in claims]
            if number is not None and number >= FIRST_ID and not brought:
                self.ids.append(number)
            for claim in claims:
                yield "log_claim", _row_of(claim)
        elif topic == t.inventory_reserved:
            event = decode_reserved(value)
            quantities = _json(quantities_by_sku(event.items))
            yield "log_decided", (event.key, quantities, None, None, event.decided_at)
        elif topic == t.inventory_rejected:
            yield "log_decided", _rejected(decode_rejected(value))
        elif topic == t.inventory_released:
            released = decode_released(value)
            yield "log_released", (released.key, released.cause, released.released_at)
        else:
            fulfilled = topic == t.order_fulfilled
            ended = decode_fulfilled(value) if fulfilled else decode_cancelled(value)
            at = (topic or "", record.partition() or 0)
            offset = record.offset() or 0
            event = value if offset >= self._seen.get(at, 0) else None
            answered = offset < self._answered.get(at, 0)
            if isinstance(ended, OrderFulfilled):
                yield (
                    "log_ended",
                    (ended.key, "FULFILLED", ended.fulfilled_at, answered, event),
                )
            else:
                yield "log_ended", (ended.key, ended.cause, ended.cancelled_at, answered, event)

    def _add(self, table: str, row: Row) -> None:
        rows = self._rows.setdefault(table, [])
        rows.append(row)
        if len(rows) >= FLUSH_ROWS:
            self._copy(table, rows)
            rows.clear()

    def _copy(self, table: str, rows: Sequence[Row]) -> None:
        statement = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)


def _rejected(event: InventoryRejected) -> Row:
    quantities = _json(quantities_by_sku(event.items))
    short = _json(event.short) if event.short else None
    return (event.key, quantities, event.reason, short, event.decided_at)


def _claims(record: Record, order_id: int | str) -> Iterator[Claim]:
    for name, value in record.headers() or ():
        if name == CLAIM:
            with suppress(ValueError):  # Not ours then.
                yield Claim.of_header(value or b"", order_id)


def _row_of(claim: Claim) -> Row:
    number = number_of(str(claim.order_id)) if claim.name.startswith("order:") else None
    numeric = isinstance(claim.order_id, int)
    return (claim.name, claim.fingerprint, str(claim.order_id), numeric, number)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
