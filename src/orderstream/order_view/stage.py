"""The projector: reads every topic, keeps its offsets beside the pages."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from psycopg import Connection

from orderstream.contract.events import (
    Event,
    decode_cancelled,
    decode_fulfilled,
    decode_rejected,
    decode_released,
    decode_reserved,
    failed_order_key,
)
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

    def created(record: Record) -> Seen:
        event = read(record.value(), record.key())
        return _seen(record, "order.created", event, event.created_at)

    def reserved(record: Record) -> Seen:
        event = decode_reserved(record.value())
        return _seen(record, "inventory.reserved", event, event.decided_at)

    def rejected(record: Record) -> Seen:
        event = decode_rejected(record.value())
        return _seen(record, "inventory.rejected", event, event.decided_at)

    def cancelled(record: Record) -> Seen:
        event = decode_cancelled(record.value())
        cause = event.reason or event.cause
        return _seen(record, "order.cancelled", event, event.cancelled_at, event.by, cause)

    def fulfilled(record: Record) -> Seen:
        event = decode_fulfilled(record.value())
        return _seen(record, "order.fulfilled", event, event.fulfilled_at, event.by)

    def released(record: Record) -> Seen:
        event = decode_released(record.value())
        return _seen(record, "inventory.released", event, event.released_at, None, event.cause)

    def failed(record: Record) -> Seen:
        letter = read_dead_letter(record)
        key = failed_order_key(record.key(), record.value(), letter.group, decides, read)
        return _seen(record, "order.failed", Failed(key, letter.reason), None)

    return {
        topics.order_created: created,
        topics.inventory_reserved: reserved,
        topics.inventory_rejected: rejected,
        topics.order_cancelled: cancelled,
        topics.order_fulfilled: fulfilled,
        topics.inventory_released: released,
        topics.order_created_dead: failed,
    }


def _seen(
    record: Record,
    event_type: str,
    event: Event | Failed,
    at: datetime | None,
    by: str | None = None,
    cause: str | None = None,
) -> Seen:
    return Seen(
        event,
        event_type,
        at or from_epoch_ms(record.timestamp()[1]),
        record.topic() or "",
        record.partition() or 0,
        record.offset() or 0,
        by,
        cause,
    )
