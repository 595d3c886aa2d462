"""Reads what was decided: writes it to the log, and intends a message for each channel."""

from collections.abc import Sequence
from contextlib import suppress

from msgspec import structs
from psycopg import Connection

from orderstream.contract.envelope import context_of, event_id
from orderstream.contract.errors import Malformed
from orderstream.contract.events import (
    decode_cancelled,
    decode_fulfilled,
    decode_rejected,
    decode_reserved,
    failed_order_key,
)
from orderstream.contract.formats import ReadOrder
from orderstream.contract.topics import Topics
from orderstream.notification.channels import LogChannel
from orderstream.notification.rules import Failed, Notice, Received, Told, is_told, words
from orderstream.notification.store import NoticeStore
from orderstream.runtime.clock import from_epoch_ms
from orderstream.runtime.failure import read_dead_letter
from orderstream.runtime.stage import (
    Batch,
    Decoder,
    Delivery,
    Keeps,
    Output,
    Positions,
    Record,
    Stage,
)


def notification_stage(
    store: NoticeStore,
    log: LogChannel | None,
    channels: Sequence[str],
    topics: Topics,
    decides: str,
    received: bool = False,
) -> Stage:
    """Tell of every decision; `decides` is the group that decides on orders.

    With `received` it reads the orders themselves too, and tells that they have come in.

    What goes through `channels` is only written down here, with the offsets: dispatch.py sends it.
    The log is fast enough to be written at once, after its rows and before they are committed: a
    crash in between writes the lines again under the same event ids, and none is ever missing.
    """

    told: Positions | None = None  # Changes only while the stage does not run.

    def handle(batch: Batch, tx: Connection) -> Sequence[Output]:
        nonlocal told
        if told is None:
            told = store.told(tx)
        news = [delivery for delivery in batch if delivery.event is not None]
        if told:
            before = [delivery for delivery in news if _is_below(told, delivery.record)]
            news = [delivery for delivery in news if not _is_below(told, delivery.record)]
            store.intend(tx, channels, [_traced(d) for d in before], batch.now, told_before=True)
            if log is not None:
                store.add(tx, log.name, [d.event for d in before], batch.now)
        if channels:
            store.intend(tx, channels, [_traced(d) for d in news], batch.now)
        if log is not None:
            log.tell(store.add(tx, log.name, [d.event for d in news], batch.now), batch.now)
        return ()

    read = topics.read_order
    told_of_orders: dict[str, Decoder] = {}
    if received:
        told_of_orders[topics.order_created] = lambda r: _received(r, read)
    return Stage(
        name="notification",
        reads={
            **told_of_orders,
            topics.inventory_reserved: lambda r: _notice(
                r, "inventory.reserved", decode_reserved(r.value())
            ),
            topics.inventory_rejected: lambda r: _notice(
                r, "inventory.rejected", decode_rejected(r.value())
            ),
            topics.order_cancelled: lambda r: _notice(
                r, "order.cancelled", decode_cancelled(r.value())
            ),
            topics.order_fulfilled: lambda r: _notice(
                r, "order.fulfilled", decode_fulfilled(r.value())
            ),
            topics.order_created_dead: lambda r: _failed(r, decides, read),
        },
        handle=handle,
        keeps=Keeps.OFFSETS_IN_STORE,
        linger_s=(0.01, 0.2),
        busy_records=800,
        fetch_bytes_min=65_536,
    )


def _traced(delivery: Delivery) -> Notice:
    context = context_of(delivery.record.headers())
    if context is None:
        return delivery.event
    return structs.replace(delivery.event, traceparent=context.decode())


def _is_below(positions: Positions, record: Record) -> bool:
    at = (record.topic() or "", record.partition() or 0)
    return (record.offset() or 0) < positions.get(at, 0)


def _notice(record: Record, event_type: str, event: Told) -> Notice | None:
    if not is_told(event):
        return None
    name = event_id(event.key, event_type)
    return Notice(name, event.key, event.user_id, words(event), event, record=record)


def _received(record: Record, read: ReadOrder) -> Notice:
    order = read(record.value(), record.key())
    at = order.created_at or from_epoch_ms(record.timestamp()[1])
    received = Received(order.key, at, order)
    name = event_id(order.key, "order.created")
    return Notice(name, order.key, order.user_id, words(received), received, record=record)


def _failed(record: Record, decides: str, read: ReadOrder) -> Notice:
    group = read_dead_letter(record).group
    key = failed_order_key(record.key(), record.value(), group, decides, read)
    order = None
    with suppress(Malformed):
        order = read(record.value(), record.key())
    failed = Failed(key, from_epoch_ms(record.timestamp()[1]), order)
    user_id = None if order is None else order.user_id
    name = event_id(key, "order.failed")
    return Notice(name, key, user_id, words(failed), failed, record=record)
