"""Reads what was decided and counts it, once per order."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from psycopg import Connection

from orderstream.analytics.rules import Accepted, Failed, count
from orderstream.analytics.store import CountStore
from orderstream.contract.errors import Malformed
from orderstream.contract.events import (
    decode_cancelled,
    decode_fulfilled,
    decode_rejected,
    decode_released,
    decode_reserved,
    failed_order_key,
)
from orderstream.contract.formats import ReadOrder
from orderstream.contract.topics import Topics
from orderstream.runtime.clock import from_epoch_ms
from orderstream.runtime.failure import read_dead_letter
from orderstream.runtime.stage import Batch, Keeps, Output, Record, Stage


def analytics_stage(store: CountStore, topics: Topics, decides: str) -> Stage:
    """Keep the numbers up to date; `decides` is the consumer group that decides on orders.

    Decisions repeat their order, so that no event has to be joined with another. `order.created`
    is read too: without it nobody could say how many orders are PENDING.
    """

    def handle(batch: Batch, tx: Connection) -> Sequence[Output]:
        keys = [event.key for event in batch.events]
        store.add(tx, keys, partial(count, keys, batch.events))
        return ()

    read = topics.read_order
    return Stage(
        name="analytics",
        reads={
            topics.order_created: lambda r: _accepted(r, read),
            topics.inventory_reserved: lambda r: decode_reserved(r.value()),
            topics.inventory_rejected: lambda r: decode_rejected(r.value()),
            topics.inventory_released: lambda r: decode_released(r.value()),
            topics.order_cancelled: lambda r: decode_cancelled(r.value()),
            topics.order_fulfilled: lambda r: decode_fulfilled(r.value()),
            topics.order_created_dead: lambda r: _failed(r, decides, read),
        },
        handle=handle,
        keeps=Keeps.OFFSETS_IN_STORE,
        linger_s=(0.01, 0.2),
        busy_records=1200,
        fetch_bytes_min=65_536,
        batches=2,
    )


def _accepted(record: Record, read: ReadOrder) -> Accepted:
    order = read(record.value(), record.key())
    return Accepted(order.key, order.created_at or from_epoch_ms(record.timestamp()[1]))


def _failed(record: Record, decides: str, read: ReadOrder) -> Failed:
    group = read_dead_letter(record).group
    key = failed_order_key(record.key(), record.value(), group, decides, read)
    user_id = None
    with suppress(Malformed):  # Which may be why it is dead.
        user_id = read(record.value(), record.key()).user_id
    return Failed(key, from_epoch_ms(record.timestamp()[1]), user_id)
