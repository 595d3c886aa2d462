"""A bulk desk that sends each batch in a span of its own: one for hundreds of orders."""

from collections.abc import Sequence
from typing import Any

from orderstream.orders.desk_bulk import BulkDesk, Outcome
from orderstream.orders.rules import Request
from orderstream.runtime.tracing import COUNT, Tracer, sending


class TracedBulkDesk(BulkDesk):
    """See BulkDesk."""

    def __init__(self, *given: Any, tracer: Tracer) -> None:
        super().__init__(*given)
        self._tracer = tracer

    async def accept_all(
        self, requests: Sequence[Request], traceparent: bytes | None = None
    ) -> list[Outcome]:
        """See BulkDesk."""
        if traceparent is None or not self._tracer.wants(traceparent):
            return await super().accept_all(requests, traceparent)
        name, said = sending(self._topic)
        span = self._tracer.begin(name, "producer", traceparent, {**said, COUNT: len(requests)})
        try:
            return await super().accept_all(requests, span.traceparent)
        finally:
            span.end()
