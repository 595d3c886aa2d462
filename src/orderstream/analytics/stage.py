"""Reads what was decided and counts it, once per order."""

from collections.abc import Sequence

from psycopg import Connection

from orderstream.analytics.rules import Failed, count
from orderstream.analytics.store import CountStore
from orderstream.contract.events import decode_rejected, decode_reserved, failed_order_key
from orderstream.contract.topics import Topics
from orderstream.runtime.clock import from_epoch_ms
from orderstream.runtime.stage import Batch, Keeps, Output, Record, Stage


def analytics_stage(store: CountStore, topics: Topics) -> Stage:
    """Keep the numbers up to date. Decisions repeat their order, so that one topic is enough."""

    def handle(batch: Batch, tx: Connection) -> Sequence[Output]:
        events = [event for _, event in batch]
        before = store.counted_as(tx, [event.key for event in events])
        store.add(tx, count(events, before))
        return ()

    return Stage(
        name="analytics",
        reads={
            topics.inventory_reserved: lambda r: decode_reserved(r.value()),
            topics.inventory_rejected: lambda r: decode_rejected(r.value()),
            topics.order_created_dead: _failed,
        },
        handle=handle,
        keeps=Keeps.OFFSETS_IN_STORE,
        linger_s=0.02,
    )


def _failed(record: Record) -> Failed:
    return Failed(failed_order_key(record.key()), from_epoch_ms(record.timestamp()[1]))
