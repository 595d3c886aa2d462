"""Publishes single records with all their guarantees, thousands at a time: the hot path's exit.

Three producers: one sends at once, for a quiet service; one waits 2 ms for company, for a busy one,
and one 12 ms, for one that many wait for at once (measured: docs/decisions/0013). A thread waits
for the first one's confirmations, and wakes the event loop at once. The event loop itself asks the
others every millisecond: a thread would take the interpreter's lock once for each confirmation,
from a loop that has no time to lose.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from orderstream.contract.envelope import Headers
from orderstream.contract.errors import Malformed, OutcomeUnknown, Unavailable
from orderstream.runtime.clients import DURABLE, LOGGED, made

CONFIRM_TIMEOUT_MS = 3_000  # A client hears within 5 s, its claim included (spec.md section 3).
BUSY_IN_FLIGHT, LINGER_BUSY_MS = 16, 2
CROWDED_IN_FLIGHT, LINGER_CROWDED_MS = 72, 12
LULL_S = 0.1  # Less is no rest: the answers to a whole batch come at once.
LINGERS_MS = (0, LINGER_BUSY_MS, LINGER_CROWDED_MS)
LINGER_BATCH_MS = 20  # Of runtime/publisher_batch.py.
POLL_BUSY_EVERY_S = 0.001
PROBE_EVERY_S = 0.5

log = structlog.get_logger("orderstream.publisher")


Settled = Callable[[OutcomeUnknown | None], None]


class _Waiting:
    """One record on its way; librdkafka calls `confirmed` in whatever thread polls."""

    __slots__ = ("error", "publisher", "settled")

    def __init__(self, publisher: "Publisher", settled: Settled) -> None:
        self.publisher = publisher
        self.settled = settled
        self.error: KafkaError | None = None

    def confirmed(self, error: KafkaError | None, _message: Message) -> None:
        self.error = error
        self.publisher.confirmed.append(self)


class Publisher:
    """Sends records to Kafka for one event loop.

    A record is confirmed when every in-sync replica has it (`acks=all`, idempotent).
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self.confirmed: deque[_Waiting] = deque()
        self.in_flight = 0
        self._busy_until = self._crowded_until = 0.0
        self._lingered_ms = 0  # By the last record.
        self._away: str | None = None
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failed: set[int] = set()  # By linger: producers with a fatal error.
        self._producers = {linger: self._producer(linger) for linger in LINGERS_MS}
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._polling = False  # Whether the event loop asks the busy producer.

    def _producer(self, linger_ms: int) -> Producer:
        return made(
            Producer,
            self._config
            | DURABLE
            | LOGGED
            | {
                "linger.ms": linger_ms,
                "message.timeout.ms": CONFIRM_TIMEOUT_MS,
                "request.timeout.ms": CONFIRM_TIMEOUT_MS,
                "socket.connection.setup.timeout.ms": 2_000,
                "reconnect.backoff.max.ms": 500,
                "retry.backoff.ms": 20,
                "queue.buffering.max.messages": 200_000,
                "error_cb": partial(self._error, linger_ms),
                "log_level": 3,
                **({"compression.type": "lz4"} if linger_ms == LINGER_BATCH_MS else {}),
            },
        )

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve confirmations to this event loop from now on."""
        self._loop = loop
        self._thread.start()

    def publish(
        self, topic: str, key: bytes, value: bytes, headers: Headers
    ) -> asyncio.Future[None]:
        """Send a record; the future ends as `settled` of `send` says. Raises as `send` does."""
        assert self._loop is not None
        future: asyncio.Future[None] = self._loop.create_future()

        def settled(error: OutcomeUnknown | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        self.send(topic, key, value, headers, settled)
        return future

    def send(
        self, topic: str, key: bytes, value: bytes, headers: Headers, settled: Settled
    ) -> None:
        """Send a record; `settled` is called in the event loop when all in-sync replicas have it.

        Raises Unavailable at once while Kafka is known to be away: the record was not sent.
        `settled` is given OutcomeUnknown when no answer came in time: it may be on the log, or not.
        """
        if self._away is not None:
            raise Unavailable(self._away)
        waiting = _Waiting(self, settled)
        linger_ms = self._lingered_ms = self._linger_ms(time.monotonic())
        producer = self._producers[linger_ms]
        try:
            producer.produce(
                topic,
                value,
                key,
                on_delivery=waiting.confirmed,
                headers=headers,  # pyright: ignore[reportArgumentType] - list is invariant
            )
        except (BufferError, KafkaException) as error:
            raise not_sent(error) from None
        self.in_flight += 1
        if linger_ms and not self._polling:
            self._polling = True
            self._poll_busy_soon()

    def turn(self) -> int | None:
        """Return a number that is another for each request of a producer that is busy; else None.

        Records of one turn go out together if they are of one partition. Busy is who was it with
        the last record: the first after a lull still has a number.
        """
        linger_ms = self._lingered_ms
        return int(time.monotonic() * 1000) // linger_ms if linger_ms else None

    def _linger_ms(self, now: float) -> int:
        """Return how long a record waits for company now, by how many were under way lately."""
        if self.in_flight >= BUSY_IN_FLIGHT:
            self._busy_until = now + LULL_S
            if self.in_flight >= CROWDED_IN_FLIGHT:
                self._crowded_until = now + LULL_S
        if now > self._busy_until:
            return 0
        return LINGER_BUSY_MS if now > self._crowded_until else LINGER_CROWDED_MS

    def check(self) -> None:
        """Raise Unavailable while Kafka is away."""
        if self._away is not None:
            raise Unavailable(self._away)

    def close(self) -> None:
        """Wait up to 4 s for what is under way, then stop."""
        for producer in self._producers.values():
            producer.flush(CONFIRM_TIMEOUT_MS / 1000)
        self._closing = True
        self._thread.join(1.0)

    # For batches (runtime/publisher_batch.py) -----------------------------------------------

    def batch_producer(self) -> Producer:
        """Return the producer for batches, made when first asked for: who asks polls it."""
        if LINGER_BATCH_MS not in self._producers:
            self._producers[LINGER_BATCH_MS] = self._producer(LINGER_BATCH_MS)
        return self._producers[LINGER_BATCH_MS]

    def poll_batches(self) -> None:
        """Hear that producer out."""
        self._hear_out(LINGER_BATCH_MS)

    # In the publisher's thread -------------------------------------------------------------

    def _serve(self) -> None:
        probe_at = 0.0
        while not self._closing:
            producer = self._producers[0]
            producer.poll(0.1)
            if self.confirmed:
                self._to_loop(self._settle)
            self._replace_if_failed(0)
            if self._away is not None and time.monotonic() > probe_at:
                self._probe(producer)
                probe_at = time.monotonic() + PROBE_EVERY_S

    def _probe(self, producer: Producer) -> None:
        try:
            producer.list_topics(timeout=1.0)
        except KafkaException:
            return
        log.info("Kafka is back")
        self._away = None

    def _replace_if_failed(self, linger_ms: int) -> None:
        if linger_ms in self._failed:
            producer = self._producers[linger_ms]
            producer.purge()
            producer.poll(0)  # Everyone who waits is told.
            self._producers[linger_ms] = self._producer(linger_ms)
            self._failed.discard(linger_ms)

    def _error(self, linger_ms: int, error: KafkaError) -> None:
        if error.fatal():
            log.error("producer failed for good, replacing it", reason=error.str())
            self._failed.add(linger_ms)
        elif linger_ms:
            return  # Heard late, if nothing was under way: the other one says it in time.
        elif error.code() == KafkaError._ALL_BROKERS_DOWN and self._away is None:
            self._away = "Kafka is away"
            log.warning("Kafka is away", reason=error.str())

    def _to_loop(self, call: Callable[[], None]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # The loop has ended, and with it everybody who waited.
            self._closing = True

    # In the event loop ---------------------------------------------------------------------

    def _poll_busy(self) -> None:
        """Hear the busy producers out, and again in a while while anything is under way."""
        try:
            self._hear_out(LINGER_BUSY_MS)
            self._hear_out(LINGER_CROWDED_MS)
            self._settle()
        finally:  # Whatever went wrong: nobody else asks for those that wait.
            self._polling = bool(self.in_flight) and not self._closing
            if self._polling:
                self._poll_busy_soon()

    def _hear_out(self, linger_ms: int) -> None:
        """Hear a producer out, and replace one that failed for good."""
        self._producers[linger_ms].poll(0)
        self._replace_if_failed(linger_ms)

    def _poll_busy_soon(self) -> None:
        assert self._loop is not None
        self._loop.call_later(POLL_BUSY_EVERY_S, self._poll_busy)

    def _settle(self) -> None:
        while self.confirmed:
            waiting = self.confirmed.popleft()
            self.in_flight -= 1
            fault = waiting.error
            try:
                waiting.settled(None if fault is None else not_confirmed(fault))
            except Exception as error:  # Those who wait behind it are to hear of theirs.
                log.error("an order's answer failed", exc_info=error)


def not_sent(error: BufferError | KafkaException) -> Unavailable | Malformed:
    """Say why a record is not on its way."""
    if isinstance(error, BufferError):
        return Unavailable("too many records wait for Kafka")
    fault: KafkaError = error.args[0]
    if fault.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return Malformed("the order is too large for a Kafka record")
    return Unavailable(f"Kafka refused: {fault.str()}")


def not_confirmed(fault: KafkaError) -> OutcomeUnknown:
    """Say of a record that was sent that it may be on the log, or not."""
    return OutcomeUnknown(f"Kafka did not confirm the order: {fault.str()}")
