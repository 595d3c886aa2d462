"""Notices in PostgreSQL."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from psycopg import Connection

from orderstream.contract.envelope import rfc3339
from orderstream.notification.rules import Notice
from orderstream.runtime.database import Database, pg_array

ADD = """
    INSERT INTO notice (event_id, channel, order_id, user_id, status, text, created_at)
    SELECT event_id, %s, order_id, user_id, 'SENT', text, %s
    FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[])
        AS n (event_id, order_id, user_id, text)
    ON CONFLICT DO NOTHING
    RETURNING event_id
"""
FIND = """
    SELECT event_id, channel, order_id, user_id, status, text, created_at FROM notice
    WHERE (%(order)s::text IS NULL OR order_id = %(order)s)
        AND (%(status)s::text IS NULL OR status = %(status)s)
    ORDER BY created_at DESC, event_id DESC, channel LIMIT %(limit)s
"""


class PostgresNotices:
    """The NoticeStore on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, tx: Connection, channel: str, notices: Sequence[Notice], now: datetime
    ) -> list[Notice]:
        """See NoticeStore."""
        once = {notice.event_id: notice for notice in notices}
        rows = list(once.values())
        added = tx.execute(
            ADD,
            (
                channel,
                now,
                pg_array(row.event_id for row in rows),
                pg_array(row.order_key for row in rows),
                pg_array(None if row.user_id is None else str(row.user_id) for row in rows),
                pg_array(row.text for row in rows),
            ),
        ).fetchall()
        if len(added) == len(rows):
            return rows
        new = {event_id for (event_id,) in added}
        return [row for row in rows if row.event_id in new]

    def find(self, order_key: str | None, status: str | None, limit: int) -> list[dict[str, Any]]:
        """See NoticeStore."""
        with self._database.transaction() as tx:
            rows = tx.execute(
                FIND, {"order": order_key, "status": status, "limit": limit}
            ).fetchall()
        return [
            {
                "id": f"{event_id}:{channel}",
                "eventId": event_id,
                "channel": channel,
                "orderId": order_id,
                "userId": user_id,
                "status": state,
                "text": text,
                "createdAt": rfc3339(created_at.astimezone(UTC)),
            }
            for event_id, channel, order_id, user_id, state, text, created_at in rows
        ]
