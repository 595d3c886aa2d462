"""Stock in PostgreSQL: lock, read, decide, write; four statements for a batch of any size."""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import LiteralString

import msgspec
from psycopg import Connection, errors

from orderstream.contract.errors import TransactionAborted
from orderstream.inventory.rules import (
    Cancel,
    Free,
    Outcome,
    Standing,
    Status,
    Wanted,
    cancel_all,
    fulfil_all,
    reserve_all,
    summed,
    taken,
)
from orderstream.inventory.store import StockLevel, TooFew
from orderstream.runtime.database import Database, pg_array

# One fixed order of locking for every writer, so that no two can wait for each other.
LOCK_STOCK = """
    SELECT sku, on_hand - reserved FROM stock
    WHERE sku = ANY(%s::text[]) ORDER BY sku FOR UPDATE
"""
READ_OUTCOMES = """
    SELECT order_id, status, quantities, reason, short, decided_at FROM reservation
    WHERE order_id = ANY(%s::text[])
"""
READ_STANDINGS = """
    SELECT order_id, status, quantities, released_at FROM reservation
    WHERE order_id = ANY(%s::text[])
"""
# Locks against batches of other workers: shared by those that only decide.
DECIDING = "SELECT pg_advisory_xact_lock_shared(hashtext('orderstream.inventory'))"
CHANGING = "SELECT pg_advisory_xact_lock(hashtext('orderstream.inventory'))"
WRITE_OUTCOMES = """
    INSERT INTO reservation (order_id, status, quantities, reason, short, decided_at)
    SELECT order_id, CASE WHEN reason IS NULL THEN 'RESERVED' ELSE 'REJECTED' END,
        quantities::jsonb, reason, short::jsonb, %s
    FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[])
        AS o (order_id, quantities, reason, short)
"""
# An order that comes after its end: the row is there, without a decision.
WRITE_OUTCOMES_OF_ENDED = (
    WRITE_OUTCOMES
    + """
    ON CONFLICT (order_id) DO UPDATE SET status = excluded.status,
        quantities = excluded.quantities, reason = excluded.reason, short = excluded.short,
        decided_at = excluded.decided_at
    WHERE reservation.decided_at IS NULL
"""
)
WRITE_STANDINGS = """
    INSERT INTO reservation (order_id, status, quantities)
    SELECT order_id, status, '{}' FROM unnest(%s::text[], %s::text[]) AS s (order_id, status)
    ON CONFLICT (order_id) DO UPDATE SET status = excluded.status, released_at = %s
"""
TAKE = """
    UPDATE stock SET reserved = reserved + t.quantity
    FROM unnest(%s::text[], %s::bigint[]) AS t (sku, quantity) WHERE stock.sku = t.sku
"""
SHIP = """
    UPDATE stock SET reserved = reserved - t.quantity, on_hand = on_hand - t.quantity
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
EMPTY_OF = "SELECT sku FROM stock WHERE sku = ANY(%s::text[]) AND on_hand = reserved"
LEVEL = "SELECT sku, on_hand, reserved FROM stock WHERE sku = %s"


class PostgresStock:
    """The StockStore on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def settle(self, tx: Connection, orders: Sequence[Wanted], now: datetime) -> dict[str, Outcome]:
        """See StockStore. A rival's outcome, committed while we waited for the locks, is seen."""
        tx.execute(DECIDING)
        free = _lock(tx, {line.sku for order in orders for line in order.lines})
        known, ended = _read(tx, orders)
        fresh = reserve_all(orders, known, ended, free, now)
        if fresh:
            write = WRITE_OUTCOMES_OF_ENDED if ended else WRITE_OUTCOMES
            _write(tx, write, list(fresh.values()), now)
            gone = [key for key, status in ended.items() if status == "FULFILLED"]
            if gone:
                self.fulfil(tx, [key for key in gone if fresh[key].reason is None])
        return known | fresh

    def alone(self, tx: Connection) -> None:
        """See StockStore."""
        tx.execute(CHANGING)

    def cancel(self, tx: Connection, cancels: Sequence[Cancel], now: datetime) -> list[Standing]:
        """See StockStore."""
        keys = {cancel.order_key for cancel in cancels}
        known = _standings(tx, keys)
        changed = cancel_all(cancels, known, now)
        _write_standings(tx, changed.values(), now)
        _move(tx, TAKE, summed(standing.quantities for standing in changed.values()), -1)
        return [s for s in (known | changed).values() if s.released_at is not None]

    def fulfil(self, tx: Connection, order_keys: Sequence[str]) -> None:
        """See StockStore."""
        changed = fulfil_all(order_keys, _standings(tx, set(order_keys)))
        _write_standings(tx, changed.values(), None)
        _move(tx, SHIP, summed(standing.quantities for standing in changed.values()), 1)

    def levels(self, after: str, limit: int) -> list[StockLevel]:
        """See StockStore."""
        with self._database.transaction() as tx:
            return [StockLevel(*row) for row in tx.execute(LEVELS, (after, limit))]

    def level(self, sku: str) -> StockLevel | None:
        """See StockStore."""
        with self._database.transaction() as tx:
            row = tx.execute(LEVEL, (sku,)).fetchone()
        return StockLevel(*row) if row else None

    def empty_of(self, skus: Sequence[str]) -> frozenset[str]:
        """See StockStore."""
        with self._database.transaction() as tx:
            return frozenset(sku for (sku,) in tx.execute(EMPTY_OF, (pg_array(skus),)))

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


def _lock(tx: Connection, skus: Iterable[str]) -> Free:
    return dict(tx.execute(LOCK_STOCK, (pg_array(skus),)).fetchall())


def _read(tx: Connection, orders: Sequence[Wanted]) -> tuple[dict[str, Outcome], dict[str, Status]]:
    """Return the outcomes that orders have, and how those ended that have none."""
    known: dict[str, Outcome] = {}
    ended: dict[str, Status] = {}
    rows = tx.execute(READ_OUTCOMES, (pg_array(order.order_key for order in orders),))
    for order_id, status, quantities, reason, short, decided_at in rows:
        if decided_at is None:
            ended[order_id] = status
            continue
        known[order_id] = Outcome(
            order_id, quantities, reason, tuple(short or ()), decided_at.astimezone(UTC)
        )
    return known, ended


def _standings(tx: Connection, order_keys: Collection[str]) -> dict[str, Standing]:
    rows = tx.execute(READ_STANDINGS, (pg_array(order_keys),))
    return {
        order_id: Standing(order_id, status, quantities, at and at.astimezone(UTC))
        for order_id, status, quantities, at in rows
    }


def _write_standings(
    tx: Connection, standings: Collection[Standing], released_at: datetime | None
) -> None:
    if standings:
        keys = pg_array(standing.order_key for standing in standings)
        statuses = pg_array(standing.status for standing in standings)
        tx.execute(WRITE_STANDINGS, (keys, statuses, released_at))


def _move(tx: Connection, statement: LiteralString, quantities: dict[str, int], sign: int) -> None:
    """Change stock, its rows locked in the one order first."""
    if quantities:
        _lock(tx, quantities)
        tx.execute(
            statement, (pg_array(quantities), pg_array(n * sign for n in quantities.values()))
        )


def _write(
    tx: Connection, statement: LiteralString, outcomes: Sequence[Outcome], now: datetime
) -> None:
    """Write outcomes. Raises TransactionAborted when a rival has decided one of the orders.

    He held no lock in common with us: the SKUs were unknown, or were others. The batch comes again
    and finds what he decided; nothing is wrong with the order.
    """
    try:
        written = tx.execute(
            statement,
            (
                now,
                pg_array(outcome.order_key for outcome in outcomes),
                pg_array(_json(outcome.quantities) for outcome in outcomes),
                pg_array(outcome.reason for outcome in outcomes),
                pg_array(_json(outcome.short) if outcome.short else None for outcome in outcomes),
            ),
        ).rowcount
    except errors.UniqueViolation as error:
        raise TransactionAborted("another worker has decided an order meanwhile") from error
    if written != len(outcomes):
        raise TransactionAborted("another worker has decided an order meanwhile")
    changes = taken(outcomes)
    if changes:
        tx.execute(TAKE, (pg_array(changes), pg_array(changes.values())))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
