"""Stock in PostgreSQL: lock, read, decide, write; four statements for a batch of any size."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from psycopg import Connection, errors

from orderstream.inventory.rules import Free, Outcome, Wanted, reserve_all, taken
from orderstream.inventory.store import StockLevel, TooFew
from orderstream.runtime.database import Database, pg_array

# One fixed order of locking for every writer, so that no two can wait for each other.
LOCK_STOCK = """
    SELECT sku, on_hand - reserved FROM stock
    WHERE sku = ANY(%s::text[]) ORDER BY sku FOR UPDATE
"""
READ_OUTCOMES = """
    SELECT order_id, quantities, reason, short, decided_at FROM reservation
    WHERE order_id = ANY(%s::text[])
"""
WRITE_OUTCOMES = """
    INSERT INTO reservation (order_id, status, quantities, reason, short, decided_at)
    SELECT order_id, CASE WHEN reason IS NULL THEN 'RESERVED' ELSE 'REJECTED' END,
        quantities::jsonb, reason, short::jsonb, %s
    FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[])
        AS o (order_id, quantities, reason, short)
"""
TAKE = """
    UPDATE stock SET reserved = reserved + t.quantity
    FROM unnest(%s::text[], %s::bigint[]) AS t (sku, quantity) WHERE stock.sku = t.sku
"""
SET_ON_HAND = """
    INSERT INTO stock AS s (sku, on_hand)
    SELECT * FROM unnest(%s::text[], %s::bigint[]) AS n (sku, on_hand) ORDER BY sku
    ON CONFLICT (sku) DO UPDATE SET on_hand = excluded.on_hand
    RETURNING sku, on_hand, reserved
"""
ADJUST = """
    UPDATE stock SET on_hand = on_hand + %s WHERE sku = %s RETURNING sku, on_hand, reserved
"""
LEVELS = "SELECT sku, on_hand, reserved FROM stock WHERE sku > %s ORDER BY sku LIMIT %s"
LEVEL = "SELECT sku, on_hand, reserved FROM stock WHERE sku = %s"


class PostgresStock:
    """The StockStore on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def settle(self, tx: Connection, orders: Sequence[Wanted], now: datetime) -> dict[str, Outcome]:
        """See StockStore. A rival's outcome, committed while we waited for the locks, is seen."""
        free = _lock(tx, orders)
        known = _read(tx, orders)
        fresh = reserve_all(orders, known, free, now)
        if fresh:
            _write(tx, list(fresh.values()), now)
        return known | fresh

    def levels(self, after: str, limit: int) -> list[StockLevel]:
        """See StockStore."""
        with self._database.transaction() as tx:
            return [StockLevel(*row) for row in tx.execute(LEVELS, (after, limit))]

    def level(self, sku: str) -> StockLevel | None:
        """See StockStore."""
        with self._database.transaction() as tx:
            row = tx.execute(LEVEL, (sku,)).fetchone()
        return StockLevel(*row) if row else None

    def set_on_hand(self, levels: Sequence[tuple[str, int]]) -> list[StockLevel]:
        """See StockStore."""
        skus = pg_array(sku for sku, _ in levels)
        on_hands = pg_array(on_hand for _, on_hand in levels)
        try:
            with self._database.transaction() as tx:
                return [StockLevel(*row) for row in tx.execute(SET_ON_HAND, (skus, on_hands))]
        except errors.CheckViolation as error:
            raise self._too_few(dict(levels)) from error

    def adjust(self, sku: str, change: int) -> StockLevel | None:
        """See StockStore."""
        try:
            with self._database.transaction() as tx:
                row = tx.execute(ADJUST, (change, sku)).fetchone()
        except errors.CheckViolation as error:
            raise self._too_few({sku: change}) from error
        return StockLevel(*row) if row else None

    def _too_few(self, wanted: dict[str, int]) -> TooFew:
        for sku, on_hand in wanted.items():
            level = self.level(sku)
            if level is not None and on_hand < level.reserved:
                return TooFew(sku, level.reserved)
        return TooFew(next(iter(wanted)), 0)


def _lock(tx: Connection, orders: Sequence[Wanted]) -> Free:
    skus = pg_array({line.sku for order in orders for line in order.lines})
    return dict(tx.execute(LOCK_STOCK, (skus,)).fetchall())


def _read(tx: Connection, orders: Sequence[Wanted]) -> dict[str, Outcome]:
    rows = tx.execute(READ_OUTCOMES, (pg_array(order.order_key for order in orders),))
    return {
        order_id: Outcome(
            order_id, quantities, reason, tuple(short or ()), decided_at.astimezone(UTC)
        )
        for order_id, quantities, reason, short, decided_at in rows
    }


def _write(tx: Connection, outcomes: Sequence[Outcome], now: datetime) -> None:
    tx.execute(
        WRITE_OUTCOMES,
        (
            now,
            pg_array(outcome.order_key for outcome in outcomes),
            pg_array(_json(outcome.quantities) for outcome in outcomes),
            pg_array(outcome.reason for outcome in outcomes),
            pg_array(_json(outcome.short) if outcome.short else None for outcome in outcomes),
        ),
    )
    changes = taken(outcomes)
    if changes:
        tx.execute(TAKE, (pg_array(changes), pg_array(changes.values())))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
