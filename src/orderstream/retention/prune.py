"""Forgets orders that are over: their pages, reservations, notices, claims and counts' keys.

An order is over once it is rejected, cancelled, expired or fulfilled. One that is pending, failed
or confirmed (it holds stock) stays, however old. Sums stay as well: stock, and what analytics
counted. The log is not touched; how long Kafka keeps it is the topics' `retention.ms`.

Before the first row goes, it is marked up to where each service has read: what is read again from
below is passed over, unless all is built anew (runtime/forgotten.py). A crash at any point leaves
marks and whole orders; done again, it does the rest.
"""

import time
from collections.abc import Callable, Generator
from contextlib import closing
from datetime import UTC, datetime

from msgspec import Struct
from psycopg import Connection

from orderstream.contract.envelope import rfc3339
from orderstream.contract.errors import Unavailable
from orderstream.readers import positions, readers
from orderstream.runtime.admin import Admin
from orderstream.runtime.clock import monotonic, to_epoch_ms
from orderstream.runtime.database import session
from orderstream.runtime.forgotten import forget
from orderstream.runtime.log_reader import LogReader
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Positions

BATCH = 2_000  # Orders of one transaction: some 50 ms, in which none of their rows is wanted.
_SESSION = "SET lock_timeout = '10s'; SET timezone = 'UTC'; SET jit = off"
CLAIMS_WAIT_S = 30.0
LOOK_EVERY_S = 0.2

Progress = Callable[[int], None]

# Those that were over before a time, in the sequence in which they came, from behind a place on.
# 21 is rejected, from 30 on an order has ended (order_view/rules.py). Inventory may not have heard
# yet: then the order still holds stock; or only that it is cancelled, of an order that was parked:
# then there is no decision, and it must know when the order is redriven. A message that is still to
# be sent keeps its order, too.
_OVER = """
    SELECT o.order_id, o.created_at FROM order_view.orders o
    WHERE o.created_at < %(before)s AND (o.created_at, o.order_id) > (%(at)s, %(order_id)s)
        AND (o.status = 21 OR o.status >= 30)
        AND (SELECT max((entry ->> 'at')::timestamptz) FROM jsonb_array_elements(o.timeline) entry)
            < %(before)s
        AND NOT EXISTS (
            SELECT FROM inventory.reservation r
            WHERE r.order_id = o.order_id AND (r.status = 'RESERVED' OR r.decided_at IS NULL
                OR r.decided_at >= %(before)s OR r.released_at >= %(before)s)
        )
        AND NOT EXISTS (
            SELECT FROM notification.notice n
            WHERE n.order_id = o.order_id AND n.status IN ('PENDING', 'SENDING')
        )
    ORDER BY o.created_at, o.order_id LIMIT %(limit)s
"""
# The page goes with the rest: an order without one is not found again.
_FORGET = """
    WITH gone AS (SELECT unnest(%s::text[]) AS id),
        reservation AS (DELETE FROM inventory.reservation USING gone WHERE order_id = id),
        change AS (DELETE FROM orders.change USING gone WHERE order_id = id),
        notice AS (DELETE FROM notification.notice USING gone WHERE order_id = id),
        counted AS (DELETE FROM analytics.counted_names USING gone WHERE order_id = id),
        -- Of analytics' blocks of 64 orders (analytics/migrations/0003.minutes.sql) the bytes.
        numbers AS (
            SELECT id::bigint / 64 AS block, array_agg(mod(id::bigint, 64)) AS slots
            FROM gone WHERE id ~ '^(0|[1-9][0-9]{0,17})$' GROUP BY 1
        ),
        held AS (
            SELECT block, facts, slots FROM analytics.counted_numbers JOIN numbers USING (block)
            ORDER BY block FOR UPDATE OF counted_numbers
        ),
        blocks AS (
            UPDATE analytics.counted_numbers n SET facts = (
                SELECT string_agg(CASE WHEN slot = ANY(slots) THEN '\\x00'::bytea
                    ELSE substring(held.facts FROM slot + 1 FOR 1) END, '' ORDER BY slot)
                FROM generate_series(0, 63) AS slot
            ) FROM held WHERE n.block = held.block
        )
    DELETE FROM order_view.orders USING gone WHERE order_id = id
"""
_EMPTY_BLOCKS = """
    DELETE FROM analytics.counted_numbers WHERE facts = decode(repeat('00', 64), 'hex')
        AND block IN (SELECT id::bigint / 64 FROM unnest(%s::text[]) AS id
            WHERE id ~ '^(0|[1-9][0-9]{0,17})$')
"""
# An order's claims go once it has no page any more. A number of a client's own stays taken until
# the order service has given those around it.
_CLAIMS = """
    SELECT name FROM orders.claim c WHERE created_at < %(before)s AND published
        AND (number IS NULL OR number < (SELECT next FROM orders.id_block))
        AND NOT EXISTS (SELECT FROM order_view.orders o WHERE o.order_id = c.order_id)
    LIMIT %(limit)s
"""
_FORGET_CLAIMS = """
    DELETE FROM orders.claim c WHERE name = ANY(%s)
        AND NOT EXISTS (SELECT FROM order_view.orders o WHERE o.order_id = c.order_id)
"""
_HORIZON = """
    INSERT INTO inventory.pruned AS p (before) VALUES (%s)
    ON CONFLICT (singleton) DO UPDATE SET before = greatest(p.before, excluded.before)
"""


class Pruned(Struct, frozen=True, rename="camel"):
    """What was forgotten, or would be."""

    before: str
    orders: int
    claims: int
    done: bool
    seconds: float


def prune(
    settings: Settings, before: datetime, *, dry_run: bool = False, progress: Progress | None = None
) -> Pruned:
    """Forget orders that were over before a time, which must be 24 h ago (spec.md section 3).

    In short transactions with rests between them, so that the flow goes on. Raises Unavailable,
    also when a service has not read yet what happened before that time: nothing was done then.
    """
    began = monotonic()
    with session(settings.dsn(), "orderstream-prune", _SESSION) as connection:
        at = _read_past(settings, connection, before)
        if not dry_run:
            with connection.transaction():
                for schema, read in at.items():
                    forget(connection, schema, read)
                connection.execute(_HORIZON, (before,))
        orders = 0
        for order_ids in _over(connection, before):
            if not dry_run:
                started = monotonic()
                with connection.transaction():
                    connection.execute(_FORGET, (order_ids,))
                    connection.execute(_EMPTY_BLOCKS, (order_ids,))
                time.sleep(monotonic() - started)  # Half of the time is for others.
            orders += len(order_ids)
            if progress:
                progress(orders)
        claims = 0 if dry_run else _forget_claims(settings, connection, before)
    seconds = round(monotonic() - began, 3)
    return Pruned(rfc3339(before), orders, claims, not dry_run, seconds)


def _over(connection: Connection, before: datetime) -> Generator[list[str]]:
    at, order_id = datetime.min.replace(tzinfo=UTC), ""
    while True:
        place = {"before": before, "at": at, "order_id": order_id, "limit": BATCH}
        rows = connection.execute(_OVER, place).fetchall()
        if not rows:
            return
        order_id, at = rows[-1]
        yield [row[0] for row in rows]


def _forget_claims(settings: Settings, connection: Connection, before: datetime) -> int:
    """Forget claims of orders without a page, as soon as the view has read all that they may be of.

    Returns how many. What it does not get to in a while stays for the next time.
    """
    gone = 0
    with closing(LogReader(settings.kafka(), settings.group("prune"))) as log:
        while True:
            started = monotonic()
            rows = connection.execute(_CLAIMS, {"before": before, "limit": BATCH}).fetchall()
            if not rows or not _view_has_read(settings, connection, log):
                return gone
            gone += connection.execute(_FORGET_CLAIMS, ([name for (name,) in rows],)).rowcount
            time.sleep(monotonic() - started)


def _view_has_read(settings: Settings, connection: Connection, log: LogReader) -> bool:
    (view,) = [reader for reader in readers(settings) if reader.service == "view"]
    admin, deadline = Admin(settings.kafka()), monotonic() + CLAIMS_WAIT_S
    ends = log.ends(log.partitions([settings.topics.order_created]))
    while monotonic() < deadline:
        if not log.unread(positions(view, admin, connection), ends):
            return True
        time.sleep(LOOK_EVERY_S)
    return False


def _read_past(
    settings: Settings, connection: Connection, before: datetime
) -> dict[str, Positions]:
    """Return where each reads on, by schema. Raises Unavailable if that is before the time."""
    admin = Admin(settings.kafka())
    found: dict[str, Positions] = {}
    with closing(LogReader(settings.kafka(), settings.group("prune"))) as log:
        for reader in readers(settings):
            at = positions(reader, admin, connection)
            ends = log.ends(log.partitions(reader.reads))
            until = ends | admin.at_time(ends, to_epoch_ms(before))
            if unread := log.unread(at, until):
                topic, partition = min(unread)
                raise Unavailable(
                    f"{reader.service} has not read all that happened before {rfc3339(before)}, in"
                    f" {topic}[{partition}] for one: let it catch up first (`orderstream lag`)"
                )
            found[reader.schema] = at
    return found
