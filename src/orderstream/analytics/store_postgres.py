"""Counts in PostgreSQL."""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any, LiteralString

from psycopg import Connection

from orderstream.analytics.rules import OUTCOMES, Changes, quantile_ms
from orderstream.contract.envelope import rfc3339
from orderstream.runtime.database import Database, pg_array

NAMES = tuple(fact.name for fact in OUTCOMES)
ONE_AT_A_TIME = 0x0DE5_0A11  # An advisory lock's number: any, used for nothing else.
FACTS = "SELECT order_id, facts FROM counted WHERE order_id = ANY(%s::text[])"
REMEMBER = """
    INSERT INTO counted (order_id, facts) SELECT * FROM unnest(%s::text[], %s::smallint[])
    ON CONFLICT (order_id) DO UPDATE SET facts = excluded.facts
"""
PER_OUTCOME = """
    INSERT INTO per_outcome AS c (outcome, orders)
    SELECT * FROM unnest(%s::text[], %s::bigint[]) ORDER BY 1
    ON CONFLICT (outcome) DO UPDATE SET orders = c.orders + excluded.orders
"""
PER_MINUTE = """
    INSERT INTO per_minute AS c (minute, outcome, orders)
    SELECT * FROM unnest(%s::timestamptz[], %s::text[], %s::bigint[]) ORDER BY 1, 2
    ON CONFLICT (minute, outcome) DO UPDATE SET orders = c.orders + excluded.orders
"""
PER_SKU = """
    INSERT INTO per_sku AS c (sku, sold, lost)
    SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) ORDER BY 1
    ON CONFLICT (sku) DO UPDATE SET sold = c.sold + excluded.sold, lost = c.lost + excluded.lost
"""
LATENCY = """
    INSERT INTO latency AS c (bucket, orders)
    SELECT * FROM unnest(%s::smallint[], %s::bigint[]) ORDER BY 1
    ON CONFLICT (bucket) DO UPDATE SET orders = c.orders + excluded.orders
"""
TIMESERIES = """
    SELECT minute, outcome, orders FROM per_minute
    WHERE minute >= %s AND minute < %s ORDER BY minute, outcome
"""
TOP = "SELECT sku, sold, lost FROM per_sku ORDER BY sold DESC, sku LIMIT %s"


class PostgresCounts:
    """The CountStore on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def facts(self, tx: Connection, order_keys: Collection[str]) -> dict[str, int]:
        """See CountStore. One batch at a time: a rival must not count the same order meanwhile."""
        tx.execute("SELECT pg_advisory_xact_lock(%s)", (ONE_AT_A_TIME,))
        return dict(tx.execute(FACTS, (pg_array(order_keys),)).fetchall())

    def add(self, tx: Connection, changes: Changes) -> None:
        """See CountStore. Rows are touched in one order, so that two workers cannot deadlock."""
        if not changes.facts:
            return
        minutes = ((minute, name, orders) for (minute, name), orders in changes.per_minute.items())
        skus = changes.sold.keys() | changes.lost.keys()
        _write(tx, REMEMBER, sorted(changes.facts.items()))
        _write(tx, PER_OUTCOME, changes.outcomes.items())
        _write(tx, PER_MINUTE, minutes)
        _write(tx, PER_SKU, ((sku, changes.sold[sku], changes.lost[sku]) for sku in skus))
        _write(tx, LATENCY, changes.latency.items())

    def summary(self) -> dict[str, Any]:
        """See CountStore."""
        with self._database.transaction() as tx:
            outcomes = dict(tx.execute("SELECT outcome, orders FROM per_outcome").fetchall())
            histogram = dict(tx.execute("SELECT bucket, orders FROM latency").fetchall())
        return {
            "orders": sum(outcomes.values()),
            "outcomes": {name: outcomes.get(name, 0) for name in NAMES},
            "decisionLatencyMs": {
                "p50": quantile_ms(histogram, 0.5),
                "p99": quantile_ms(histogram, 0.99),
            },
        }

    def timeseries(self, since: datetime, until: datetime) -> list[dict[str, Any]]:
        """See CountStore."""
        with self._database.transaction() as tx:
            rows = tx.execute(TIMESERIES, (since, until)).fetchall()
        minutes: dict[datetime, dict[str, int]] = {}
        for minute, outcome, orders in rows:
            minutes.setdefault(minute, dict.fromkeys(NAMES, 0))[outcome] = orders
        return [
            {"minute": rfc3339(minute.astimezone(UTC)), "outcomes": outcomes}
            for minute, outcomes in minutes.items()
        ]

    def top(self, limit: int) -> list[dict[str, Any]]:
        """See CountStore."""
        with self._database.transaction() as tx:
            rows = tx.execute(TOP, (limit,)).fetchall()
        return [{"sku": sku, "sold": sold, "lost": lost} for sku, sold, lost in rows]


def _write(
    tx: Connection, statement: LiteralString, rows: Iterable[tuple[str | int | datetime, ...]]
) -> None:
    columns = [pg_array(column) for column in zip(*rows, strict=True)]
    if columns:
        tx.execute(statement, columns)
