"""Binds the rules to the store: the handler of orders, and of what becomes of them."""

from collections.abc import Mapping, Sequence

from psycopg import Connection

from orderstream.contract.envelope import TRACEPARENT, Envelope, Headers, header
from orderstream.contract.events import (
    InventoryRejected,
    InventoryReleased,
    InventoryReserved,
    OrderCancelled,
    OrderCreated,
    OrderFulfilled,
    decode_cancelled,
    decode_fulfilled,
    encode,
)
from orderstream.contract.topics import Topics
from orderstream.contract.values import Line, quantities_by_sku
from orderstream.inventory.rules import Cancel, Outcome, Standing, Wanted, refuse_drill
from orderstream.inventory.statuses import SOURCE, Statuses
from orderstream.inventory.store import StockStore
from orderstream.runtime.clock import from_epoch_ms
from orderstream.runtime.stage import Batch, Delivery, Keeps, Output, Record, Stage, nothing_said


def inventory_stage(store: StockStore, topics: Topics, drill_sku: str) -> Stage:
    """Reserve the stock of every order once, and say so once; give it back, or let it go."""
    reserved = Envelope("inventory.reserved", SOURCE)
    rejected = Envelope("inventory.rejected", SOURCE)
    released = Envelope("inventory.released", SOURCE)
    read = topics.read_order
    statuses = None if topics.order_status is None else Statuses(topics)

    def decode(record: Record) -> OrderCreated:
        return read(record.value(), record.key())

    def handle(batch: Batch, tx: Connection) -> Sequence[Output]:
        created = [d for d in batch if isinstance(d.event, OrderCreated)]
        if len(created) == len(batch):
            return decide(created, batch, tx)
        # Cancellations first: an order that is cancelled already takes nothing from others. What
        # is fulfilled last: its order may stand in this very batch when all is read again.
        store.alone(tx)
        outputs = release([d for d in batch if isinstance(d.event, OrderCancelled)], batch, tx)
        outputs += decide(created, batch, tx)
        fulfilled = [d for d in batch if isinstance(d.event, OrderFulfilled)]
        store.fulfil(tx, [event.key for _, event in fulfilled])
        if statuses is not None:
            outputs += map(statuses.fulfilled, fulfilled)
        return outputs

    def decide(created: Sequence[Delivery], batch: Batch, tx: Connection) -> list[Output]:
        orders = [Wanted(event.key, event.items) for _, event in created]
        refuse_drill(orders, drill_sku)
        outcomes = store.settle(tx, orders, batch.now) if orders else {}
        said = [decision(delivery, outcomes[delivery.event.key]) for delivery in created]
        if statuses is not None:
            said += [statuses.decided(d, outcomes[d.event.key]) for d in created]
        return said

    def decision(delivery: Delivery, outcome: Outcome) -> Output:
        record, order = delivery
        topic = topics.inventory_rejected if outcome.reason else topics.inventory_reserved
        key = order.key.encode()
        envelope = rejected if outcome.reason else reserved
        headers = envelope.headers(key, outcome.decided_at, _trace(record))
        return Output(topic, key, encode(decided(order, outcome, record)), headers)

    def release(cancelled: Sequence[Delivery], batch: Batch, tx: Connection) -> list[Output]:
        cancels = [Cancel(event.key, event.cause) for _, event in cancelled]
        standings = {s.order_key: s for s in store.cancel(tx, cancels, batch.now)}
        held = [delivery for delivery in cancelled if delivery.event.key in standings]
        said = [given_back(delivery, standings[delivery.event.key]) for delivery in held]
        if statuses is not None:
            said += map(statuses.released, held)
        return said

    def given_back(delivery: Delivery, standing: Standing) -> Output:
        record, cancelled = delivery
        event = freed(cancelled, standing)
        key = cancelled.key.encode()
        headers: Headers = released.headers(key, event.released_at, _trace(record))
        return Output(topics.inventory_released, key, encode(event), headers)

    return Stage(
        name="inventory",
        reads={
            topics.order_created: decode,
            topics.order_created_retry: decode,
            topics.order_cancelled: lambda r: decode_cancelled(r.value()),
            topics.order_fulfilled: lambda r: decode_fulfilled(r.value()),
        },
        handle=handle,
        keeps=Keeps.OFFSETS_IN_KAFKA,
        parks=frozenset(
            {
                topics.order_created,
                topics.order_created_retry,
                topics.order_cancelled,
                topics.order_fulfilled,
            }
        ),
        retries={topics.order_created: topics.order_created_retry},
        gave_up=nothing_said if statuses is None else statuses.failed,
        linger_s=(0.0, 0.2),
        busy_records=800,
    )


def decided(
    order: OrderCreated, outcome: Outcome, record: Record
) -> InventoryReserved | InventoryRejected:
    """Say what was decided; the same words for the same outcome, however often it is said.

    Where another record under this order's id asks for other items, what was decided stands.
    """
    ordered_at = order.created_at or from_epoch_ms(record.timestamp()[1])
    items = order.items
    if quantities_by_sku(items) != outcome.quantities:
        items = _lines(outcome.quantities)
    if outcome.reason is None:
        return InventoryReserved(
            order_id=order.order_id,
            items=items,
            user_id=order.user_id,
            ordered_at=ordered_at,
            decided_at=outcome.decided_at,
            owner=order.owner,
            notify=order.notify,
        )
    return InventoryRejected(
        order_id=order.order_id,
        items=items,
        user_id=order.user_id,
        ordered_at=ordered_at,
        decided_at=outcome.decided_at,
        owner=order.owner,
        notify=order.notify,
        reason=outcome.reason,
        short=outcome.short,
    )


def freed(cancelled: OrderCancelled, standing: Standing) -> InventoryReleased:
    """Say what is free again; likewise."""
    assert standing.released_at is not None
    return InventoryReleased(
        order_id=cancelled.order_id,
        items=_lines(standing.quantities),
        user_id=cancelled.user_id,
        released_at=standing.released_at,
        cause="EXPIRED" if standing.status == "EXPIRED" else "CANCELLED",
    )


def _lines(quantities: Mapping[str, int]) -> tuple[Line, ...]:
    return tuple(Line(sku, quantity) for sku, quantity in quantities.items())


def _trace(record: Record) -> bytes | None:
    return header(record.headers(), TRACEPARENT)
