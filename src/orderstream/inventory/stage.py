"""Binds the rule to the store: the handler of `order.created`."""

from collections.abc import Sequence

from psycopg import Connection

from orderstream.contract.envelope import TRACEPARENT, Envelope, Headers, header
from orderstream.contract.events import (
    InventoryRejected,
    InventoryReserved,
    OrderCreated,
    decode_created,
    encode,
)
from orderstream.contract.topics import Topics
from orderstream.contract.values import Line, quantities_by_sku
from orderstream.inventory.rules import Outcome, Wanted, refuse_drill
from orderstream.inventory.store import StockStore
from orderstream.runtime.clock import from_epoch_ms
from orderstream.runtime.stage import Batch, Delivery, Keeps, Output, Record, Stage

SOURCE = "/orderstream/inventory"


def inventory_stage(store: StockStore, topics: Topics, drill_sku: str) -> Stage:
    """Reserve the stock of every order once, and say so once."""
    reserved = Envelope("inventory.reserved", SOURCE)
    rejected = Envelope("inventory.rejected", SOURCE)

    def handle(batch: Batch, tx: Connection) -> Sequence[Output]:
        orders = [Wanted(event.key, event.items) for _, event in batch]
        refuse_drill(orders, drill_sku)
        outcomes = store.settle(tx, orders, batch.now)
        return [output(delivery, outcomes[delivery.event.key]) for delivery in batch]

    def output(delivery: Delivery, outcome: Outcome) -> Output:
        record, order = delivery
        key = order.key.encode()
        event = decided(order, outcome, record)
        envelope = rejected if outcome.reason else reserved
        topic = topics.inventory_rejected if outcome.reason else topics.inventory_reserved
        traceparent = header(record.headers(), TRACEPARENT)
        headers: Headers = envelope.headers(key, outcome.decided_at, traceparent)
        return Output(topic, key, encode(event), headers)

    return Stage(
        name="inventory",
        reads={topics.order_created: decode, topics.order_created_retry: decode},
        handle=handle,
        keeps=Keeps.OFFSETS_IN_KAFKA,
        parks=frozenset({topics.order_created, topics.order_created_retry}),
        retries={topics.order_created: topics.order_created_retry},
    )


def decode(record: Record) -> OrderCreated:
    """Read an order. Raises Malformed."""
    return decode_created(record.value())


def decided(
    order: OrderCreated, outcome: Outcome, record: Record
) -> InventoryReserved | InventoryRejected:
    """Say what was decided; the same words for the same outcome, however often it is said.

    Where another record under this order's id asks for other items, what was decided stands.
    """
    ordered_at = order.created_at or from_epoch_ms(record.timestamp()[1])
    items = order.items
    if quantities_by_sku(items) != outcome.quantities:
        items = tuple(Line(sku=sku, qty=quantity) for sku, quantity in outcome.quantities.items())
    if outcome.reason is None:
        return InventoryReserved(
            order_id=order.order_id,
            items=items,
            user_id=order.user_id,
            ordered_at=ordered_at,
            decided_at=outcome.decided_at,
        )
    return InventoryRejected(
        order_id=order.order_id,
        items=items,
        user_id=order.user_id,
        ordered_at=ordered_at,
        decided_at=outcome.decided_at,
        reason=outcome.reason,
        short=outcome.short,
    )
