"""The projector: reads every topic, keeps its offsets beside the pages."""

from collections.abc import Mapping, Sequence

from psycopg import Connection

from orderstream.contract.events import (
    Event,
    InventoryRejected,
    InventoryReleased,
    InventoryReserved,
    OrderCancelled,
    OrderCreated,
    OrderFulfilled,
    decode_cancelled,
    decode_fulfilled,
    decode_rejected,
    decode_released,
    decode_reserved,
    failed_order_key,
)
from orderstream.contract.formats import ReadOrder
from orderstream.contract.topics import Topics
from orderstream.order_view.rules import Failed, Seen, fold
from orderstream.order_view.store import ViewStore
from orderstream.runtime.clock import from_epoch_ms
from orderstream.runtime.failure import read_dead_letter
from orderstream.runtime.stage import Batch, Decoder, Keeps, Output, Pairs, Record, Stage


def view_stage(store: ViewStore, topics: Topics, decides: str) -> Stage:
    """Keep every order's page up to date; `decides` is the group that decides on orders."""

    def handle(batch: Batch, tx: Connection) -> Sequence[Output]:
        store.fold_in(tx, fold(batch.events).values())
        return ()

    return Stage(
        name="view",
        reads=view_reads(topics, decides),
        handle=handle,
        keeps=Keeps.OFFSETS_IN_STORE,
        parks=frozenset(
            {topics.inventory_reserved, topics.inventory_rejected, topics.inventory_released}
        ),
        linger_s=(0.01, 0.2),
        busy_records=1200,
        pairs=Pairs(
            topics.order_created,
            frozenset({topics.inventory_reserved, topics.inventory_rejected}),
            3.0,
        ),
    )


def view_reads(topics: Topics, decides: str) -> Mapping[str, Decoder]:
    """Return what reads an order's life, by topic."""
    read = topics.read_order
    return {
        topics.order_created: lambda r: _seen(r, "order.created", read(r.value(), r.key())),
        topics.inventory_reserved: lambda r: _seen(
            r, "inventory.reserved", decode_reserved(r.value())
        ),
        topics.inventory_rejected: lambda r: _seen(
            r, "inventory.rejected", decode_rejected(r.value())
        ),
        topics.order_cancelled: lambda r: _seen(r, "order.cancelled", decode_cancelled(r.value())),
        topics.order_fulfilled: lambda r: _seen(r, "order.fulfilled", decode_fulfilled(r.value())),
        topics.inventory_released: lambda r: _seen(
            r, "inventory.released", decode_released(r.value())
        ),
        topics.order_created_dead: lambda r: _failed(r, decides, read),
    }


def _seen(record: Record, event_type: str, event: Event | Failed) -> Seen:
    by = cause = None
    match event:
        case OrderCreated(created_at=at) if at is not None:
            pass
        case InventoryReserved(decided_at=at) | InventoryRejected(decided_at=at):
            pass
        case OrderCancelled(cancelled_at=at):
            by, cause = event.by, event.reason or event.cause
        case OrderFulfilled(fulfilled_at=at):
            by = event.by
        case InventoryReleased(released_at=at):
            cause = event.cause
        case _:
            at = from_epoch_ms(record.timestamp()[1])
    return Seen(
        event,
        event_type,
        at,
        record.topic() or "",
        record.partition() or 0,
        record.offset() or 0,
        by,
        cause,
    )


def _failed(record: Record, decides: str, read: ReadOrder) -> Seen:
    letter = read_dead_letter(record)
    key = failed_order_key(record.key(), record.value(), letter.group, decides, read)
    return _seen(record, "order.failed", Failed(key, letter.reason))
