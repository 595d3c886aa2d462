"""How orders end, in PostgreSQL."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from orderstream.orders.store import Change
from orderstream.runtime.database import Database

DECIDE = """
    INSERT INTO change (order_id, becomes, event, at, traceparent)
    SELECT * FROM unnest(%s::text[], %s::text[], %s::bytea[], %s::timestamptz[], %s::bytea[])
    ORDER BY 1
    ON CONFLICT DO NOTHING
"""
READ = """
    SELECT order_id, becomes, event, at, traceparent, published FROM change
    WHERE order_id = ANY(%s)
"""
PUBLISHED = "UPDATE change SET published = true WHERE order_id = ANY(%s) AND NOT published"
UNPUBLISHED = """
    SELECT order_id, becomes, event, at, traceparent FROM change
    WHERE NOT published AND at < %s ORDER BY at LIMIT %s
"""


class PostgresChanges:
    """The ChangeStore on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def decide(self, changes: Sequence[Change]) -> dict[str, tuple[Change, bool]]:
        """See ChangeStore. One commit for all of them."""
        with self._database.transaction() as tx:
            tx.execute(
                DECIDE,
                (
                    [change.order_key for change in changes],
                    [change.becomes for change in changes],
                    [change.event for change in changes],
                    [change.at for change in changes],
                    [change.traceparent for change in changes],
                ),
            )
            rows = tx.execute(READ, ([change.order_key for change in changes],)).fetchall()
        return {row[0]: (_change(row), row[5]) for row in rows}

    def published(self, order_keys: Sequence[str]) -> None:
        """See ChangeStore."""
        with self._database.transaction() as tx:
            tx.execute(PUBLISHED, (list(order_keys),))

    def unpublished(self, before: datetime, limit: int) -> list[Change]:
        """See ChangeStore."""
        with self._database.transaction() as tx:
            return [_change(row) for row in tx.execute(UNPUBLISHED, (before, limit)).fetchall()]


def _change(row: Sequence[Any]) -> Change:
    order_id, becomes, event, at, traceparent = row[:5]
    return Change(order_id, becomes, bytes(event), at.astimezone(UTC), traceparent)
