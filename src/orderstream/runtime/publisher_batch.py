"""Publishes records by the batch: one account of what was confirmed for all of them.

Their producer waits longer for company than those for single records, and packs what it sends:
who sends many is in no hurry for each, and Kafka has half the work and a tenth of the bytes
(docs/performance.md). Its records take no part in what the others count as busy.
"""

import asyncio
from collections.abc import Iterable

from confluent_kafka import KafkaError, KafkaException, Message

from orderstream.contract.envelope import Headers
from orderstream.contract.errors import OrderstreamError
from orderstream.runtime.publisher import Publisher, not_confirmed, not_sent

POLL_EVERY_S = 0.001

Record = tuple[bytes, bytes, Headers]  # Key, value and headers.


class _Batch:
    """Records on their way; `whole` is done when the last of them is accounted for."""

    __slots__ = ("faults", "left", "whole")

    def __init__(self, whole: asyncio.Future[None]) -> None:
        self.whole = whole
        self.left = 0
        self.faults: dict[bytes, OrderstreamError] = {}

    def confirmed(self, error: KafkaError | None, message: Message) -> None:
        self.left -= 1
        if error is not None:
            key = message.key()
            assert isinstance(key, bytes)
            self.faults[key] = not_confirmed(error)
        if not self.left and not self.whole.done():
            self.whole.set_result(None)


class BatchPublisher:
    """Sends batches of records for one event loop, which polls for what becomes of them."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._under_way = 0
        self._polling = False

    async def publish_all(
        self, topic: str, records: Iterable[Record]
    ) -> dict[bytes, OrderstreamError]:
        """Send records, no two of one key; return what went wrong, by key, once all is known.

        OutcomeUnknown: the record may be on the log, or not. Any other error: it is not.
        Raises Unavailable at once while Kafka is known to be away: nothing was sent.
        """
        self._publisher.check()
        loop = asyncio.get_running_loop()
        batch = _Batch(loop.create_future())
        produce, confirmed, sent = self._publisher.batch_producer().produce, batch.confirmed, 0
        for key, value, headers in records:
            try:
                produce(topic, value, key, on_delivery=confirmed, headers=headers)  # pyright: ignore[reportArgumentType] - list is invariant
            except (BufferError, KafkaException) as error:
                batch.faults[key] = not_sent(error)
            else:
                sent += 1
        if not sent:
            return batch.faults
        batch.left = sent  # None is confirmed before the next poll.
        self._under_way += 1
        if not self._polling:
            self._polling = True
            loop.call_later(POLL_EVERY_S, self._poll, loop)
        try:
            await batch.whole
        finally:
            self._under_way -= 1
        return batch.faults

    def _poll(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hear what was confirmed, and again in a while for as long as anything is under way."""
        self._publisher.poll_batches()
        self._polling = self._under_way > 0
        if self._polling:
            loop.call_later(POLL_EVERY_S, self._poll, loop)
