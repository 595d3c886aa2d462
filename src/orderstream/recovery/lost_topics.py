"""A topic that was deleted and made anew: offsets of the old one mean nothing in the new one.

Read on from them, a service would pass over what stands below, or take it for answered. So each
topic's id, as Kafka gives it, is kept in the database (schema `recovery`), and no service starts on
another one until it is adopted: everybody reads it from its beginning, and what is known of orders
that were under way is said again.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from datetime import UTC

import msgspec
from msgspec import UNSET, Struct
from psycopg import Connection, sql

from orderstream.contract.envelope import Envelope
from orderstream.contract.errors import Unavailable
from orderstream.contract.events import OrderCreated
from orderstream.contract.topics import Topics
from orderstream.contract.values import Contact, Line
from orderstream.orders.rules import SOURCE
from orderstream.readers import DECIDES, readers
from orderstream.recovery.guard import SESSION
from orderstream.recovery.reconcile import refuse_at_work
from orderstream.runtime.admin import Admin
from orderstream.runtime.broker_kafka import KafkaSink
from orderstream.runtime.clock import utc_now
from orderstream.runtime.database import session
from orderstream.runtime.replay import Replay
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Output, Positions

_ADOPT = """
    INSERT INTO recovery.topic AS t (name, id, adopted_at) VALUES (%s, %s, now())
    ON CONFLICT (name) DO UPDATE SET id = excluded.id, adopted_at = excluded.adopted_at
"""
_MARKS = ("forgotten", "told", "said", "answered", "answered_by_parking")
# Orders that nobody has heard the outcome of: it is decided, or said again.
_UNDER_WAY = """
    SELECT order_id, numeric_id, user_id, numeric_user, items, created_at, owner, notify
    FROM order_view.orders WHERE status = 0 AND items IS NOT NULL ORDER BY created_at, order_id
"""
# Ends of orders that inventory has not heard of; the order service publishes them by itself.
_UNHEARD = """
    UPDATE orders.change c SET published = false FROM inventory.reservation r
    WHERE c.order_id = r.order_id AND r.status = 'RESERVED' AND c.published
"""
# Orders that no store has: a client that sends one again is not to be told that it is there.
_UNREAD = """
    UPDATE orders.claim c SET published = false WHERE published
        AND NOT EXISTS (SELECT FROM order_view.orders o WHERE o.order_id = c.order_id)
        AND created_at > coalesce((SELECT before FROM inventory.pruned), '-infinity')
"""


class Adopted(Struct, frozen=True):
    """What was said again of orders under way, or would be."""

    topics: list[str]
    orders: int
    ends: int
    done: bool


def adopt(
    settings: Settings,
    lost: Collection[str],
    own: Mapping[str, Replay],
    *,
    dry_run: bool = False,
) -> Adopted:
    """Have every service read topics that were made anew from their beginning; none may run.

    Done again after a crash at any point, it does the rest. Raises Unavailable.
    """
    admin, topics = Admin(settings.kafka()), settings.topics
    ids = admin.topic_ids(lost)
    if missing := set(lost) - set(ids):
        raise Unavailable(
            f"there is no topic {min(missing)}: `orderstream topics create` makes those of the flow"
        )
    with session(settings.dsn(), "orderstream-adopt", SESSION) as connection:
        if not dry_run:
            refuse_at_work(settings, admin, connection, own)
        says_again = not {topics.order_created, *_outcomes(topics)}.isdisjoint(lost)
        ends_again = not {topics.order_cancelled, topics.order_fulfilled}.isdisjoint(lost)
        under_way = list(_under_way(connection, topics)) if says_again else []
        if dry_run:
            with connection.transaction(force_rollback=True):
                ends = connection.execute(_UNHEARD).rowcount if ends_again else 0
            return Adopted(sorted(lost), len(under_way), ends, done=False)
        counts = admin.partitions()
        begins = {t: admin.begins((t, n) for n in range(counts[t])) for t in lost}
        readers_of = [(r.service, r.schema, r.group, r.reads) for r in readers(settings)]
        readers_of += [(name, j.schema, j.group, tuple(j.reads)) for name, j in own.items()]
        for _, _, group, reads in readers_of:  # First: where it fails, nothing else is done.
            for topic in {*lost} & {*reads}:
                admin.set_committed(group, begins[topic])
        if under_way:  # Twice after a crash: decided once all the same.
            with closing(KafkaSink(settings.kafka(), "", lambda: None)) as sink:
                sink.send(under_way)
        with connection.transaction():
            for service, schema, _, reads in readers_of:
                for topic in {*lost} & {*reads}:
                    _forget(connection, schema, topic)
                    if service != DECIDES:
                        _set_positions(connection, schema, begins[topic])
            ends = connection.execute(_UNHEARD).rowcount if ends_again else 0
            if topics.order_created in lost:
                connection.execute(_UNREAD)
            connection.cursor().executemany(_ADOPT, list(ids.items()))
    return Adopted(sorted(lost), len(under_way), ends, done=True)


def _forget(connection: Connection, schema: str, topic: str) -> None:
    """Drop what a service knows of places in a topic."""
    for table in _MARKS:
        name = f"{schema}.{table}"
        if connection.execute("SELECT to_regclass(%s)", (name,)).fetchone() != (None,):
            statement = sql.SQL("DELETE FROM {} WHERE topic = %s")
            connection.execute(statement.format(sql.Identifier(schema, table)), (topic,))


def _set_positions(connection: Connection, schema: str, begins: Positions) -> None:
    statement = sql.SQL(
        "INSERT INTO {} AS p (topic, partition, next) VALUES (%s, %s, %s)"
        " ON CONFLICT (topic, partition) DO UPDATE SET next = excluded.next"
    ).format(sql.Identifier(schema, "position"))
    connection.cursor().executemany(statement, [(*at, first) for at, first in begins.items()])


def _outcomes(topics: Topics) -> Iterable[str]:
    return topics.inventory_reserved, topics.inventory_rejected


def _under_way(connection: Connection, topics: Topics) -> Iterator[Output]:
    """Give the orders that wait for an outcome as they were accepted."""
    envelope, write = Envelope("order.created", SOURCE), topics.write_order
    for order_id, numeric_id, user_id, numeric_user, items, at, owner, notify in connection.execute(
        _UNDER_WAY
    ):
        created_at = at and at.astimezone(UTC)
        order = OrderCreated(
            order_id=int(order_id) if numeric_id else order_id,
            items=msgspec.convert(items, tuple[Line, ...]),
            user_id=int(user_id) if numeric_user and user_id is not None else user_id,
            created_at=created_at,
            owner=UNSET if owner is None else owner,
            notify=UNSET if notify is None else msgspec.convert(notify, Contact),
        )
        key = order.key.encode()
        headers = envelope.headers(key, created_at or utc_now())
        yield Output(topics.order_created, key, write(order), headers)
