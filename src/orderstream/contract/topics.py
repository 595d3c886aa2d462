"""The topics by the names a cluster gives them; the defaults are spec.md section 2."""

import re
from dataclasses import dataclass

from orderstream.contract.formats import (
    OrderFormat,
    ReadOrder,
    StatusFormat,
    WriteOrder,
    reader_of,
    writer_of,
)

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]")


def retry_topic_of(topic: str, group: str) -> str:
    """Name the topic in which a consumer group that is not ours alone tries records again.

    No other group reads it, so that what one failed on comes back to nobody else.
    """
    return f"{topic}.{_NOT_IN_A_NAME.sub('_', group)}.retry"


@dataclass(frozen=True)
class Topics:
    """Every topic of the flow. A record's key is the order id as text, in all of them.

    `order_format` is how orders stand in theirs. `order_status` is for programs of others, there
    only where it has a name; what it says is in `status_format`.
    """

    order_created: str = "order.created"
    order_created_retry: str = "order.created.retry"
    inventory_reserved: str = "inventory.reserved"
    inventory_rejected: str = "inventory.rejected"
    order_cancelled: str = "order.cancelled"
    order_fulfilled: str = "order.fulfilled"
    inventory_released: str = "inventory.released"
    dead_letter_suffix: str = ".DLT"
    dead_letters_handled: str = "dead-letters.handled"
    order_format: OrderFormat = "orderstream"
    order_status: str | None = None
    status_format: StatusFormat = "snake"

    @property
    def read_order(self) -> ReadOrder:
        """What reads an order from the value and key of a record; raises Malformed."""
        return reader_of(self.order_format)

    @property
    def write_order(self) -> WriteOrder:
        """What writes the value of an order's record."""
        return writer_of(self.order_format)

    def dead_letter(self, topic: str) -> str:
        """Name the topic for records of `topic` that kept failing."""
        return topic + self.dead_letter_suffix

    @property
    def order_created_dead(self) -> str:
        """Where orders go that could not be processed; their status is then FAILED."""
        return self.dead_letter(self.order_created)

    @property
    def compacted(self) -> frozenset[str]:
        """Those of which only the last record of each key counts; their key is no order id."""
        return frozenset({self.dead_letters_handled})

    def all(self) -> tuple[str, ...]:
        """Every topic that must exist, in the order of the flow; one that may be there is last."""
        return (
            self.order_created,
            self.order_created_retry,
            self.order_created_dead,
            self.dead_letters_handled,
            self.inventory_reserved,
            self.dead_letter(self.inventory_reserved),
            self.inventory_rejected,
            self.dead_letter(self.inventory_rejected),
            self.order_cancelled,
            self.dead_letter(self.order_cancelled),
            self.order_fulfilled,
            self.dead_letter(self.order_fulfilled),
            self.inventory_released,
            self.dead_letter(self.inventory_released),
            *([] if self.order_status is None else [self.order_status]),
        )
