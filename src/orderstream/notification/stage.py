"""Reads what was decided: writes it to the log, and intends a message for each channel."""

from collections.abc import Sequence
from contextlib import suppress

from psycopg import Connection

from orderstream.contract.envelope import event_id
from orderstream.contract.errors import Malformed
from orderstream.contract.events import (
    decode_cancelled,
    decode_created,
    decode_fulfilled,
    decode_rejected,
    decode_reserved,
    failed_order_key,
)
from orderstream.contract.topics import Topics
from orderstream.notification.channels import LogChannel
from orderstream.notification.rules import Failed, Notice, Told, is_told, words
from orderstream.notification.store import NoticeStore
from orderstream.runtime.clock import from_epoch_ms
from orderstream.runtime.failure import read_dead_letter
from orderstream.runtime.stage import Batch, Keeps, Output, Record, Stage


def notification_stage(
    store: NoticeStore,
    log: LogChannel | None,
    channels: Sequence[str],
    topics: Topics,
    decides: str,
) -> Stage:
    """Tell of every decision; `decides` is the group that decides on orders.

    What goes through `channels` is only written down here, with the offsets: dispatch.py sends it.
    The log is fast enough to be written at once, after its rows and before they are committed: a
    crash in between writes the lines again under the same event ids, and none is ever missing.
    """

    def handle(batch: Batch, tx: Connection) -> Sequence[Output]:
        notices = [event for _, event in batch if event is not None]
        if channels:
            store.intend(tx, channels, notices, batch.now)
        if log is not None:
            log.tell(store.add(tx, log.name, notices, batch.now), batch.now)
        return ()

    return Stage(
        name="notification",
        reads={
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
            topics.order_created_dead: lambda r: _failed(r, decides),
        },
        handle=handle,
        keeps=Keeps.OFFSETS_IN_STORE,
        linger_s=(0.01, 0.1),
    )


def _notice(record: Record, event_type: str, event: Told) -> Notice | None:
    if not is_told(event):
        return None
    name = event_id(event.key, event_type)
    return Notice(name, event.key, event.user_id, words(event), event, record)


def _failed(record: Record, decides: str) -> Notice:
    key = failed_order_key(record.key(), record.value(), read_dead_letter(record).group, decides)
    order = None
    with suppress(Malformed):
        order = decode_created(record.value())
    failed = Failed(key, from_epoch_ms(record.timestamp()[1]), order)
    user_id = None if order is None else order.user_id
    return Notice(event_id(key, "order.failed"), key, user_id, words(failed), failed, record)
