"""The order view in PostgreSQL."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import msgspec
from psycopg import Connection

from orderstream.contract.envelope import rfc3339
from orderstream.contract.values import Contact
from orderstream.order_view.rules import Page, Status
from orderstream.order_view.store import SORTED_MAX, Found, Overdue, Query, Sort, TooMany
from orderstream.order_view.timeline import Entry, read_timeline
from orderstream.runtime.clock import Clock, utc_now
from orderstream.runtime.database import Database, pg_array

_encode = msgspec.json.Encoder().encode

# Merging is commutative: the greater status and whatever is known win; a timeline only grows.
# A reason belongs to its status: one of a lower rank is dropped with it. What was decided on stands
# before what was ordered: an operator may have put the order back with other items.
FOLD_IN = """
    INSERT INTO orders AS o (order_id, numeric_id, status, user_id, numeric_user, owner,
        notify, items, reason, short, created_at, decided_at, timeline)
    SELECT order_id, numeric_id, status, user_id, numeric_user, owner, notify::jsonb, items::jsonb,
        reason, short::jsonb, created_at, decided_at, timeline::jsonb
    FROM unnest(%s::text[], %s::bool[], %s::smallint[], %s::text[], %s::bool[], %s::text[],
        %s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[],
        %s::text[])
        AS n (order_id, numeric_id, status, user_id, numeric_user, owner, notify, items, reason,
            short, created_at, decided_at, timeline)
    ON CONFLICT (order_id) DO UPDATE SET
        numeric_id = o.numeric_id OR excluded.numeric_id,
        status = greatest(o.status, excluded.status),
        user_id = CASE
            WHEN o.items IS NULL OR o.decided_at IS NULL AND excluded.decided_at IS NOT NULL
            THEN excluded.user_id ELSE o.user_id END,
        numeric_user = CASE
            WHEN o.items IS NULL OR o.decided_at IS NULL AND excluded.decided_at IS NOT NULL
            THEN excluded.numeric_user ELSE o.numeric_user END,
        owner = CASE
            WHEN o.items IS NULL OR o.decided_at IS NULL AND excluded.decided_at IS NOT NULL
            THEN excluded.owner ELSE o.owner END,
        notify = CASE
            WHEN o.items IS NULL OR o.decided_at IS NULL AND excluded.decided_at IS NOT NULL
            THEN excluded.notify ELSE o.notify END,
        items = CASE WHEN o.decided_at IS NULL AND excluded.decided_at IS NOT NULL
            THEN excluded.items ELSE coalesce(o.items, excluded.items) END,
        reason = CASE WHEN excluded.status > o.status THEN excluded.reason
            WHEN excluded.status = o.status THEN coalesce(excluded.reason, o.reason)
            ELSE o.reason END,
        short = coalesce(o.short, excluded.short),
        created_at = CASE WHEN o.decided_at IS NULL AND excluded.decided_at IS NOT NULL
            THEN excluded.created_at ELSE coalesce(o.created_at, excluded.created_at) END,
        decided_at = coalesce(o.decided_at, excluded.decided_at),
        timeline = o.timeline || excluded.timeline
"""
COLUMNS = """order_id, numeric_id, status, user_id, numeric_user, owner, items, reason, short,
    created_at, decided_at"""
VALUES = {"created": "created_at", "decided": "decided_at", "took": "decided_at - created_at"}


@dataclass(frozen=True)
class Order:
    """How rows are sorted: by what, the clause for it, and how one compares that is behind."""

    by: str
    clause: str
    behind: str


def _order(sort: Sort) -> Order:
    by, falls = VALUES[sort.lstrip("-")], sort.startswith("-")
    way = "DESC" if falls else "ASC"
    return Order(by, f"ORDER BY {by} {way}, order_id {way}", "<" if falls else ">")


ORDERS: dict[Sort, Order] = {sort: _order(sort) for sort in get_args(Sort)}
# Whether too many fit is told by the first row, which has no order where none is left to show.
SORTED = """
    WITH those AS MATERIALIZED ({those} LIMIT %s)
    SELECT counted.n, found.* FROM (SELECT count(*) AS n FROM those) AS counted
    LEFT JOIN LATERAL (SELECT * FROM those WHERE {conditions} {clause} LIMIT %s) AS found ON true
    {clause}
"""
WINDOWS = (2_000, 10_000)  # Orders looked through for a SKU, before its index is asked.
OVERDUE = """
    SELECT order_id, numeric_id, user_id, numeric_user, notify, decided_at FROM orders
    WHERE status = %s AND decided_at < %s AND (decided_at, order_id) > (%s, %s)
    ORDER BY decided_at, order_id LIMIT %s
"""
GROWN = """
    SELECT order_id, jsonb_array_length(timeline)
    FROM unnest(%s::text[], %s::int[]) AS known (order_id, length) JOIN orders USING (order_id)
    WHERE jsonb_array_length(timeline) > length
"""
GET = f"SELECT {COLUMNS}, notify, timeline::text FROM orders WHERE order_id = ANY(%s)"


class PostgresView:
    """The ViewStore on PostgreSQL."""

    def __init__(
        self, database: Database, clock: Clock = utc_now, ttl: timedelta | None = None
    ) -> None:
        """A reservation older than `ttl` is shown as EXPIRED, whatever has been written by then."""
        self._database = database
        self._clock = clock
        self._ttl = ttl

    def fold_in(self, tx: Connection, pages: Iterable[Page]) -> None:
        """See ViewStore. Rows are written in one order, so that two workers cannot deadlock."""
        rows = sorted(pages, key=lambda page: page.order_key)
        if not rows:
            return
        users = [page.user_id for page in rows]
        tx.execute(
            FOLD_IN,
            (
                pg_array([page.order_key for page in rows]),
                pg_array([page.numeric_id for page in rows]),
                pg_array([page.status for page in rows]),
                pg_array([None if user is None else str(user) for user in users]),
                pg_array([isinstance(user, int) for user in users]),
                pg_array([page.owner for page in rows]),
                pg_array([None if page.notify is None else _json(page.notify) for page in rows]),
                pg_array([None if page.items is None else _json(page.items) for page in rows]),
                pg_array([page.reason for page in rows]),
                pg_array([_json(page.short) if page.short else None for page in rows]),
                pg_array([page.created_at for page in rows]),
                pg_array([page.decided_at for page in rows]),
                pg_array([_json([Entry.of(seen) for seen in page.timeline]) for page in rows]),
            ),
        )

    def get(self, order_keys: Collection[str]) -> dict[str, dict[str, Any]]:
        """See ViewStore."""
        with self._database.transaction() as tx:
            rows = tx.execute(GET, (list(order_keys),)).fetchall()
        overdue = self._overdue_before()
        return {
            row[0]: _shown(row, overdue)
            | ({} if notify is None else {"notify": notify})
            | {"timeline": read_timeline(row[0], timeline)}
            for *row, notify, timeline in rows
        }

    def grown(self, known: Mapping[str, int]) -> dict[str, int]:
        """See ViewStore."""
        with self._database.transaction() as tx:
            lengths = pg_array(known), pg_array(known.values())
            return dict(tx.execute(GROWN, lengths).fetchall())

    def find(self, query: Query) -> list[Found]:
        """See ViewStore."""
        conditions: list[str] = []
        values: list[object] = []
        for condition, value in (
            *self._of_status(query.status),
            ("user_id = %s", query.user_id),
            ("owner = %s", query.owner),
            ("created_at >= %s", query.since),
            ("created_at < %s", query.until),
        ):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        by, order = query.sort.lstrip("-"), ORDERS[query.sort]
        if by == "created" and query.behind is not None:
            conditions.append(f"(created_at, order_id) {order.behind} (%s, %s)")
            values += query.behind
        those = f"SELECT {COLUMNS} FROM orders WHERE " + " AND ".join(
            ["created_at IS NOT NULL", *conditions]
        )
        with self._database.transaction() as tx:
            if by != "created":
                rows = _sorted(tx, those, values, query, order)
            elif query.sku is None:
                limited = f"{those} {order.clause} LIMIT %s"
                rows = tx.execute(limited.encode(), (*values, query.limit)).fetchall()
            else:
                rows = _with_sku(tx, those, values, query.sku, query.limit, order)
        overdue = self._overdue_before()
        return [Found(_shown(row, overdue), (_place(row, by), row[0])) for row in rows]

    def overdue(self, before: datetime, behind: tuple[datetime, str], limit: int) -> list[Overdue]:
        """See ViewStore."""
        with self._database.transaction() as tx:
            rows = tx.execute(OVERDUE, (Status.CONFIRMED, before, *behind, limit)).fetchall()
        return [
            Overdue(
                int(order_id) if numeric else order_id,
                int(user_id) if numeric_user else user_id,
                decided_at.astimezone(UTC),
                None if notify is None else msgspec.convert(notify, Contact),
            )
            for order_id, numeric, user_id, numeric_user, notify, decided_at in rows
        ]

    def _overdue_before(self) -> datetime | None:
        return None if self._ttl is None else self._clock() - self._ttl

    def _of_status(self, status: Status | None) -> Iterator[tuple[str, object]]:
        overdue = self._overdue_before()
        if status is Status.EXPIRED and overdue is not None:
            yield "(status = 30 OR status = 20 AND decided_at < %s)", overdue
            return
        yield "status = %s", status
        if status is Status.CONFIRMED:
            yield "decided_at >= %s", overdue


def _with_sku(
    tx: Connection, those: str, values: list[object], sku: str, limit: int, order: Order
) -> list[tuple[Any, ...]]:
    """Return the first of those orders that have an SKU.

    PostgreSQL cannot know how common it is, and its index has no order. One that is common is among
    the first orders; of one that is not, the index finds all there are, which are few.
    """
    wanted, clause = _of_sku(sku), f"{order.clause} LIMIT %s"
    for window in WINDOWS:
        first = f"SELECT * FROM ({those} {clause}) AS first WHERE items @> %s::jsonb {clause}"
        rows = tx.execute(first.encode(), (*values, window, wanted, limit)).fetchall()
        if len(rows) == limit:
            return rows
    every = (
        f"WITH every AS MATERIALIZED ({those} AND items @> %s::jsonb) SELECT * FROM every {clause}"
    )
    return tx.execute(every.encode(), (*values, wanted, limit)).fetchall()


def _sorted(
    tx: Connection, those: str, values: list[object], query: Query, order: Order
) -> list[tuple[Any, ...]]:
    """Return the first of those orders by what has no index. Raises TooMany."""
    conditions = ["decided_at IS NOT NULL"]
    more: list[object] = []
    if query.sku is not None:
        conditions.append("items @> %s::jsonb")
        more.append(_of_sku(query.sku))
    if query.behind is not None:
        conditions.append(f"({order.by}, order_id) {order.behind} (%s, %s)")
        more += query.behind
    clause = SORTED.format(
        those=those, conditions=" AND ".join(conditions), clause=order.clause
    ).encode()
    rows = tx.execute(clause, (*values, SORTED_MAX + 1, *more, query.limit)).fetchall()
    if rows[0][0] > SORTED_MAX:
        raise TooMany
    return [row[1:] for row in rows if row[1] is not None]


def _of_sku(sku: str) -> str:
    return _json([{"sku": sku}])


def _place(row: Sequence[Any], by: str) -> datetime | timedelta:
    created, decided = row[-2:]
    return {"created": created, "decided": decided}.get(by) or decided - created


def _shown(row: Sequence[Any], overdue_before: datetime | None) -> dict[str, Any]:
    order_id, numeric, status, user_id, numeric_user, owner, *rest = row
    items, reason, short, created, decided = rest
    if status == Status.CONFIRMED and overdue_before is not None and decided < overdue_before:
        status = Status.EXPIRED
    shown: dict[str, Any] = {
        "orderId": int(order_id) if numeric else order_id,
        "status": Status(status).name,
        "userId": int(user_id) if numeric_user else user_id,
        "items": [{"sku": item["sku"], "qty": item["qty"]} for item in items or ()],
        "createdAt": _time(created),
        "decidedAt": _time(decided),
    }
    if owner is not None:
        shown["owner"] = owner
    if reason is not None:
        shown["reason"] = reason
    if short:
        shown["short"] = short
    return shown


def _time(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at.astimezone(UTC))


def _json(value: object) -> str:
    return _encode(value).decode()
