"""The order view in PostgreSQL."""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
from psycopg import Connection

from orderstream.contract.envelope import event_id, rfc3339
from orderstream.order_view.rules import Page, Seen, Status
from orderstream.order_view.store import Found, Query
from orderstream.runtime.database import Database, number_array, text_array

_encode = msgspec.json.Encoder().encode

# Merging is commutative: the greater status and whatever is known win; a timeline only grows.
# A reason belongs to its status: one of a lower rank is dropped with it.
FOLD_IN = """
    INSERT INTO orders AS o (order_id, numeric_id, status, user_id, numeric_user, items, reason,
        short, created_at, decided_at, timeline)
    SELECT order_id, numeric_id = 1, status, user_id, numeric_user = 1, items::jsonb, reason,
        short::jsonb, created_at, decided_at, timeline::jsonb
    FROM unnest(%s::text[], %s::int[], %s::smallint[], %s::text[], %s::int[], %s::text[],
        %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::text[])
        AS n (order_id, numeric_id, status, user_id, numeric_user, items, reason, short,
            created_at, decided_at, timeline)
    ON CONFLICT (order_id) DO UPDATE SET
        numeric_id = o.numeric_id OR excluded.numeric_id,
        status = greatest(o.status, excluded.status),
        user_id = coalesce(o.user_id, excluded.user_id),
        numeric_user = o.numeric_user OR excluded.numeric_user,
        items = coalesce(o.items, excluded.items),
        reason = CASE WHEN excluded.status >= o.status THEN excluded.reason ELSE o.reason END,
        short = coalesce(o.short, excluded.short),
        created_at = coalesce(o.created_at, excluded.created_at),
        decided_at = coalesce(o.decided_at, excluded.decided_at),
        timeline = o.timeline || excluded.timeline
"""
COLUMNS = """order_id, numeric_id, status, user_id, numeric_user, items, reason, short,
    created_at, decided_at"""
# jsonb keeps no order of names; people read better with one.
TIMELINE_FIELDS = ("type", "at", "eventId", "topic", "partition", "offset")
GET = f"SELECT {COLUMNS}, timeline FROM orders WHERE order_id = ANY(%s)"


class PostgresView:
    """The ViewStore on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def fold_in(self, tx: Connection, pages: Iterable[Page]) -> None:
        """See ViewStore. Rows are written in one order, so that two workers cannot deadlock."""
        rows = sorted(pages, key=lambda page: page.order_key)
        if not rows:
            return
        tx.execute(
            FOLD_IN,
            (
                text_array(page.order_key for page in rows),
                number_array(page.numeric_id for page in rows),
                number_array(page.status for page in rows),
                text_array(None if p.user_id is None else str(p.user_id) for p in rows),
                number_array(isinstance(page.user_id, int) for page in rows),
                text_array(None if page.items is None else _json(page.items) for page in rows),
                text_array(page.reason for page in rows),
                text_array(_json(page.short) if page.short else None for page in rows),
                text_array(_exact(page.created_at) for page in rows),
                text_array(_exact(page.decided_at) for page in rows),
                text_array(_json([_entry(seen) for seen in page.timeline]) for page in rows),
            ),
        )

    def get(self, order_keys: Collection[str]) -> dict[str, dict[str, Any]]:
        """See ViewStore."""
        with self._database.transaction() as tx:
            rows = tx.execute(GET, (list(order_keys),)).fetchall()
        return {row[0]: _shown(row[:-1]) | {"timeline": _timeline(row[-1])} for row in rows}

    def find(self, query: Query) -> list[Found]:
        """See ViewStore."""
        conditions: list[str] = []
        values: list[object] = []
        for condition, value in (
            ("status = %s", query.status),
            ("user_id = %s", query.user_id),
            ("items @> %s::jsonb", query.sku and _json([{"sku": query.sku}])),
            ("created_at >= %s", query.since),
            ("created_at < %s", query.until),
        ):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        if query.before is not None:
            conditions.append("(created_at, order_id) < (%s, %s)")
            values += query.before
        where = " AND ".join(["created_at IS NOT NULL", *conditions])
        sql = (
            f"SELECT {COLUMNS} FROM orders WHERE {where}"
            " ORDER BY created_at DESC, order_id DESC LIMIT %s"
        )
        with self._database.transaction() as tx:
            rows = tx.execute(sql.encode(), (*values, query.limit)).fetchall()
        return [Found(_shown(row), (row[-2], row[0])) for row in rows]


def _exact(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _entry(seen: Seen) -> dict[str, object]:
    return {
        "eventId": event_id(seen.event.key, seen.event_type),
        "type": seen.event_type,
        "at": rfc3339(seen.at),
        "topic": seen.topic,
        "partition": seen.partition,
        "offset": seen.offset,
    }


def _timeline(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what happened, in time; an event that was said twice happened once."""
    in_time = sorted(entries, key=lambda e: (e["at"], e["topic"], e["partition"], e["offset"]))
    once = {(e["eventId"], e["topic"]): e for e in reversed(in_time)}
    return [
        {name: e[name] for name in TIMELINE_FIELDS}
        for e in in_time
        if once[e["eventId"], e["topic"]] is e
    ]


def _shown(row: tuple[Any, ...]) -> dict[str, Any]:
    order_id, numeric, status, user_id, numeric_user, items, reason, short, created, decided = row
    shown: dict[str, Any] = {
        "orderId": int(order_id) if numeric else order_id,
        "status": Status(status).name,
        "userId": int(user_id) if numeric_user else user_id,
        "items": [{"sku": item["sku"], "qty": item["qty"]} for item in items or ()],
        "createdAt": _time(created),
        "decidedAt": _time(decided),
    }
    if reason is not None:
        shown["reason"] = reason
    if short:
        shown["short"] = short
    return shown


def _time(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at.astimezone(UTC))


def _json(value: object) -> str:
    return _encode(value).decode()
