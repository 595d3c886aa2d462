"""What becomes of each order, for programs of others: `{"order_id":"1002","status":"CONFIRMED"}`.

Written in the Kafka transaction of our own events, so a `read_committed` reader sees one for each,
and none for what was given up. Whoever says one again says it under the same `ce_id`.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from orderstream.contract.envelope import TRACEPARENT, Envelope, header
from orderstream.contract.errors import Malformed
from orderstream.contract.events import failed_order_key
from orderstream.contract.formats import status_writer_of
from orderstream.contract.topics import Topics
from orderstream.inventory.rules import Outcome
from orderstream.runtime.clock import from_epoch_ms
from orderstream.runtime.stage import Delivery, Output, Record

SOURCE = "/orderstream/inventory"
WRITTEN = ("CONFIRMED", "REJECTED", "FAILED", "CANCELLED", "EXPIRED", "FULFILLED")


class Statuses:
    """Writes records of the status topic, which has a name."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._write = status_writer_of(topics.status_format)
        self._read = topics.read_order
        self._envelopes = {
            status: Envelope(f"order.{status.lower()}", SOURCE) for status in WRITTEN
        }

    def decided(self, delivery: Delivery, outcome: Outcome) -> Output:
        """Say how an order was decided."""
        status, reason = "REJECTED" if outcome.reason else "CONFIRMED", outcome.reason
        if reason == "CANCELLED":
            status, reason = reason, None
        order_id = delivery.event.order_id
        return self._said(order_id, status, outcome.decided_at, delivery.record, reason)

    def released(self, delivery: Delivery) -> Output:
        """Say that an order that had something set aside is over."""
        event = delivery.event
        return self._said(event.order_id, event.cause, event.cancelled_at, delivery.record)

    def fulfilled(self, delivery: Delivery) -> Output:
        """Say that an order is on its way."""
        event = delivery.event
        return self._said(event.order_id, "FULFILLED", event.fulfilled_at, delivery.record)

    def failed(self, record: Record) -> Sequence[Output]:
        """Say that an order could not be processed; nothing of a record that is nobody's."""
        if record.topic() not in (self._topics.order_created, self._topics.order_created_retry):
            return ()
        key, value = record.key(), record.value()
        at = from_epoch_ms(record.timestamp()[1])
        with suppress(Malformed):
            return [self._said(self._read(value, key).order_id, "FAILED", at, record)]
        with suppress(Malformed):
            order_id = failed_order_key(key, value, None, "", self._read)
            return [self._said(order_id, "FAILED", at, record)]
        return ()

    def _said(
        self,
        order_id: int | str,
        status: str,
        at: datetime,
        record: Record,
        reason: str | None = None,
    ) -> Output:
        key = str(order_id).encode()
        trace = header(record.headers(), TRACEPARENT)
        headers = self._envelopes[status].headers(key, at, trace)
        value = self._write(order_id, status, reason)
        return Output(self._topics.order_status or "", key, value, headers)
