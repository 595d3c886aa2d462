"""Reads what was decided and tells the customer, once per event."""

from collections.abc import Sequence

from psycopg import Connection

from orderstream.contract.envelope import event_id
from orderstream.contract.events import (
    decode_cancelled,
    decode_fulfilled,
    decode_rejected,
    decode_reserved,
    failed_order_key,
)
from orderstream.contract.topics import Topics
from orderstream.notification.channels import Channel
from orderstream.notification.rules import Failed, Notice, Told, is_told, words
from orderstream.notification.store import NoticeStore
from orderstream.runtime.failure import read_dead_letter
from orderstream.runtime.stage import Batch, Keeps, Output, Record, Stage


def notification_stage(
    store: NoticeStore, channels: Sequence[Channel], topics: Topics, decides: str
) -> Stage:
    """Tell every channel of every decision; `decides` is the group that decides on orders.

    The rows are written before the channel is told and committed after: a crash in between tells
    again under the same event id, and none is ever missing.
    """

    def handle(batch: Batch, tx: Connection) -> Sequence[Output]:
        notices = [event for _, event in batch if event is not None]
        for channel in channels:
            channel.tell(store.add(tx, channel.name, notices, batch.now), batch.now)
        return ()

    return Stage(
        name="notification",
        reads={
            topics.inventory_reserved: lambda r: _notice(
                "inventory.reserved", decode_reserved(r.value())
            ),
            topics.inventory_rejected: lambda r: _notice(
                "inventory.rejected", decode_rejected(r.value())
            ),
            topics.order_cancelled: lambda r: _notice(
                "order.cancelled", decode_cancelled(r.value())
            ),
            topics.order_fulfilled: lambda r: _notice(
                "order.fulfilled", decode_fulfilled(r.value())
            ),
            topics.order_created_dead: lambda r: _failed(r, decides),
        },
        handle=handle,
        keeps=Keeps.OFFSETS_IN_STORE,
        linger_s=(0.01, 0.1),
    )


def _notice(event_type: str, event: Told) -> Notice | None:
    if not is_told(event):
        return None
    return Notice(event_id(event.key, event_type), event.key, event.user_id, words(event))


def _failed(record: Record, decides: str) -> Notice:
    key = failed_order_key(record.key(), record.value(), read_dead_letter(record).group, decides)
    return Notice(event_id(key, "order.failed"), key, None, words(Failed(key)))
