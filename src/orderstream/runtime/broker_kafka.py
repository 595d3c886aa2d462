"""Kafka by librdkafka: the source, the transactional sink, and what each of its errors means.

Traps this file answers (design.md section 8): librdkafka does not speak the client part of
KIP-890, so after a transaction request whose outcome is unknown the producer is thrown away, and
its successor's InitProducerId fences whatever the old one still had under way. Options that carry
correctness are written out, since librdkafka's defaults differ from Java's.
"""

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import structlog
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from orderstream.contract.errors import (
    Fenced,
    OutcomeUnknown,
    PartitionsGone,
    TransactionAborted,
    Unavailable,
)
from orderstream.runtime.broker import Starts
from orderstream.runtime.clients import BETWEEN_LEADERS, DURABLE, LOGGED, asked_again
from orderstream.runtime.stage import Output, Partition, Positions, Record

SESSION_TIMEOUT_MS = 6_000
METADATA_EVERY_MS = 30_000  # So soon a worker finds partitions that a topic was given.
SHOW_EVERY_S = 0.5  # The offsets that `lag` reads of a stage that keeps its own elsewhere,
SHOW_AT_REST_S = 0.15  # and the last ones, once nothing has come for longer than a fetch waits.
MANY = 100  # Fewer at once are no backlog: whether there is one need not be asked.
BACKLOG_WAIT_S = 0.05  # For records that are on the log already.
TRANSACTION_TIMEOUT_MS = 15_000
REQUEST_TIMEOUT_S = 5.0
# More than the largest record that may be read: a dead letter is that record with more headers.
MESSAGE_BYTES_MAX = 4_194_304
CALL_BUDGET_S = 12.0  # All repeats of one transaction call; below the transaction's timeout.

_FENCED = frozenset(
    {
        KafkaError._FENCED,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.FENCED_INSTANCE_ID,
    }
)
_PASSING = frozenset(  # Reported to a consumer, and mended by librdkafka without our help.
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._MAX_POLL_EXCEEDED,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.NOT_COORDINATOR,
    }
)

T = TypeVar("T")
Config = dict[str, Any]

log = structlog.get_logger("orderstream.kafka")


def error_of(exception: KafkaException) -> KafkaError:
    """Return the error inside librdkafka's exception."""
    return exception.args[0]


def _is_the_end(error: KafkaError) -> bool:
    """Tell whether a client can do nothing more; a consumer's fatal errors lack the fatal flag."""
    return error.code() in _FENCED or error.code() == KafkaError._FATAL or error.fatal()


class KafkaSource:
    """A member of a consumer group; `starts` gives the positions of a stage that keeps its own.

    Static membership: a worker that is back within the session timeout gets its partitions at
    once, without a rebalance of the others.
    """

    def __init__(
        self,
        config: Config,
        group: str,
        worker: int,
        topics: Sequence[str],
        *,
        offset_reset: str = "earliest",
        starts: Starts | None = None,
        fetch_bytes_min: int = 1,
    ) -> None:
        self._starts = starts
        self._offset_reset = offset_reset
        self._unplaced: str | None = None  # Why an assignment could not be given its positions.
        self._generation: Any = None
        self._progress: Positions = {}  # Of a stage that keeps its own offsets elsewhere,
        self._unshown: set[Partition] = set()  # and where the coordinator has not heard of it.
        self._show_from = 0.0
        self._on_hold: set[Partition] = set()
        self._came: set[Partition] = set()  # During the poll under way.
        self._went: set[Partition] = set()
        self._consumer = Consumer(
            config
            | LOGGED
            | {
                "group.id": group,
                "group.instance.id": f"{group}-{worker}",
                "client.id": f"{group}-{worker}",
                "group.protocol": "classic",
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": SESSION_TIMEOUT_MS,
                "heartbeat.interval.ms": 1_500,
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": offset_reset,
                # A fetch costs the broker 0.3 ms of CPU even when it is empty, as much as three
                # orders: none is sent while so many records wait here. At rest one is under way.
                "queued.min.messages": 32,
                "fetch.queue.backoff.ms": 5,
                "topic.metadata.refresh.interval.ms": METADATA_EVERY_MS,
                "fetch.wait.max.ms": 100,
                "fetch.min.bytes": fetch_bytes_min,
                "queued.max.messages.kbytes": 32_768,
                # One topic does not run far ahead of another that a stage reads beside it.
                "max.partition.fetch.bytes": 262_144,
                "on_commit": self._committed,
                "log_level": 4,
            }
        )
        self._consumer.subscribe(
            list(topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    def generation(self) -> Any:
        """Return the group's generation in which the last records were polled.

        Not a later one: a member that was thrown out meanwhile would have none, and the coordinator
        takes that for one who never needed any.
        """
        return self._generation

    def poll(self, records_max: int, wait_s: float, linger_s: float) -> Sequence[Record]:
        self._came.clear()
        self._went.clear()
        first = self._consumer.poll(min(wait_s, SHOW_AT_REST_S) if self._unshown else wait_s)
        if first is None:
            self._show_now()
        messages = [] if first is None else [first]
        if messages and records_max > 1:
            messages += self._consumer.consume(records_max - 1, 0.0)
            room = records_max - len(messages)
            if room and len(messages) >= MANY and self._behind() >= room:
                messages += self._consumer.consume(room, BACKLOG_WAIT_S)
            elif room and linger_s:
                # Asleep rather than in `consume`: while records wait here, none are fetched. The
                # fetch that follows brings all that has come meanwhile.
                time.sleep(linger_s * 0.8)
                messages += self._consumer.consume(room, linger_s * 0.2)
        records = [message for message in messages if message.error() is None]
        if len(records) < len(messages):  # First of all: what is fatal must not go unheard.
            for message in messages:
                self._reported(message)
        if self._unplaced is not None:
            raise Unavailable(self._unplaced)
        if self._went and self._starts is not None:
            # Its loop may keep records of them from earlier polls (pairing.py): none may outlive
            # the partition, which somebody else reads from what is stored.
            raise PartitionsGone("partitions were taken away")
        if not messages:
            return ()
        self._generation = self._consumer.consumer_group_metadata()
        if self._went & self._came:
            raise PartitionsGone("partitions were taken away and given back")
        if self._went:
            return [record for record in records if _partition_of(record) not in self._went]
        return records

    def _behind(self) -> int:
        """Return how many offsets lie on the log to be read, as far as the last fetches tell."""
        with _as_unavailable():
            positions = self._consumer.position(self._consumer.assignment())
            return sum(
                max(self._consumer.get_watermark_offsets(at, cached=True)[1] - at.offset, 0)
                for at in positions
                if at.offset >= 0 and (at.topic, at.partition) not in self._on_hold
            )

    def _reported(self, message: Message) -> None:
        error = message.error()
        if error is None:
            return
        if _is_the_end(error):
            raise Fenced(f"this worker's place in the group was taken: {error.str()}")
        if error.code() in _PASSING or error.retriable():
            log.debug("consumer reported", error=error.str())
            return
        raise Unavailable(f"Kafka refused a read: {error.str()}")

    def hold(self, partition: Partition, offset: int) -> None:
        self._on_hold.add(partition)
        with _if_still_assigned():
            self._consumer.pause([TopicPartition(*partition)])
            self._consumer.seek(TopicPartition(*partition, offset))

    def release(self, partition: Partition) -> None:
        self._on_hold.discard(partition)
        with _if_still_assigned():
            self._consumer.resume([TopicPartition(*partition)])

    def rewind(self) -> None:
        self._on_hold.clear()
        with _as_unavailable():
            assigned = self._consumer.assignment()
            if assigned:
                placed = self._placed(assigned)
                # Taking them anew, unlike a seek, works in any state and drops what was fetched.
                self._consumer.incremental_unassign(assigned)
                self._consumer.incremental_assign(placed)
                self._consumer.resume(placed)  # A pause outlives an assignment.
        self._unplaced = None

    def _placed(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Return the partitions with the offsets to start from."""
        if self._starts is not None:
            stored = self._starts.load((p.topic, p.partition) for p in partitions)
            self.show_progress(stored)
            committed = [
                TopicPartition(p.topic, p.partition, stored.get((p.topic, p.partition), -1))
                for p in partitions
            ]
        else:
            committed = self._consumer.committed(partitions, timeout=REQUEST_TIMEOUT_S)
        new: list[TopicPartition] = []
        for partition in committed:
            if partition.error is not None:
                raise KafkaException(partition.error)
            if partition.offset < 0:
                partition.offset = self._first_offset(partition)
                new.append(partition)
        if new and self._offset_reset != "earliest":
            self._begin(new)
        return committed

    def _first_offset(self, partition: TopicPartition) -> int:
        """Ask for it; a partition that was made a moment ago may have no leader yet."""
        ask = partial(self._consumer.get_watermark_offsets, partition, REQUEST_TIMEOUT_S)
        low, high = asked_again(ask, BETWEEN_LEADERS, REQUEST_TIMEOUT_S, "offsets")
        return low if self._offset_reset == "earliest" else high

    def _begin(self, partitions: list[TopicPartition]) -> None:
        """Commit where a new group begins: after a crash "latest" would be another place."""
        if self._starts is None:
            self._consumer.commit(offsets=partitions, asynchronous=False)
        else:
            self._starts.begin({(p.topic, p.partition): p.offset for p in partitions})

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        log.info("partitions assigned", partitions=_names(partitions))
        came = {(p.topic, p.partition) for p in partitions}
        self._came |= came
        self._on_hold -= came
        if self._starts is None and self._offset_reset == "earliest":
            consumer.incremental_assign(partitions)
            consumer.resume(partitions)  # A pause outlives an assignment.
            return
        try:
            placed = self._placed(partitions)
        except (KafkaException, Unavailable) as error:
            # An exception is lost in a callback: poll raises it instead, and rewind mends it.
            self._unplaced = f"stored positions could not be read: {error}"
            consumer.incremental_assign(partitions)
            consumer.pause(partitions)
            return
        consumer.incremental_assign(placed)
        consumer.resume(placed)

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # The loop polls only between transactions, so nothing of these is unfinished but what
        # the poll under way has in hand already: it leaves that out.
        log.info("partitions taken away", partitions=_names(partitions))
        self._went.update((p.topic, p.partition) for p in partitions)
        for partition in partitions:  # Their progress is another's to show.
            self._unshown.discard((partition.topic, partition.partition))
            self._progress.pop((partition.topic, partition.partition), None)
        with suppress(KafkaException):  # Lost partitions may be gone from the assignment already.
            consumer.incremental_unassign(partitions)

    def show_progress(self, positions: Positions) -> None:
        self._progress |= positions
        self._unshown |= positions.keys()
        if time.monotonic() >= self._show_from:
            self._show_now()

    def _show_now(self) -> None:
        if not self._unshown:
            return
        self._show_from = time.monotonic() + SHOW_EVERY_S
        offsets = [TopicPartition(*at, self._progress[at]) for at in self._unshown]
        self._unshown.clear()
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            log.debug("progress not shown", error=str(error))

    def _committed(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """Show progress again that a rebalance refused: else a stage at rest looks behind."""
        if error is not None:
            self._unshown |= self._progress.keys() & {(p.topic, p.partition) for p in partitions}

    def close(self) -> None:
        self._show_now()
        self._consumer.close()


class KafkaSink:
    """A transactional producer under a fixed id per worker, so that a restart fences its old self.

    `generation_of` asks the source whose offsets are committed in which generation of the group
    they were read: every rebalance makes another, and fences those before (KIP-447).
    """

    def __init__(
        self, config: Config, transactional_id: str, generation_of: Callable[[], Any]
    ) -> None:
        self._config = config
        self._transactional_id = transactional_id
        self._generation_of = generation_of
        self._producer: Producer | None = None
        self._plain: Producer | None = None

    def ready(self) -> None:
        if self._producer is not None:
            return
        producer = Producer(
            self._config
            | DURABLE
            | LOGGED
            | {
                "transactional.id": self._transactional_id,
                "client.id": self._transactional_id,
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "message.timeout.ms": TRANSACTION_TIMEOUT_MS - 1_000,
                "linger.ms": 20,  # A commit flushes at once; this only fills the batches before.
                "retry.backoff.ms": 1,
                # A rebootstrap forgets the brokers but not who is the group's coordinator, and
                # send_offsets then waits for a broker that is gone, whatever its timeout says.
                "metadata.recovery.strategy": "none",
                "queue.buffering.max.messages": 1_000_000,
                "compression.type": "none",
                "message.max.bytes": MESSAGE_BYTES_MAX,
                "log_level": 4,
            }
        )
        self._call(producer, producer.init_transactions)
        self._producer = producer

    def begin(self) -> None:
        producer = self._current()
        self._call(producer, lambda _timeout: producer.begin_transaction())

    def produce(self, output: Output) -> None:
        producer = self._current()
        topic, key, value, headers = output
        while True:
            try:
                producer.produce(
                    topic,
                    value,
                    key,
                    headers=headers,  # pyright: ignore[reportArgumentType] - list is invariant
                )
                return
            except BufferError:
                producer.poll(0.05)
            except KafkaException as error:
                self.abort()
                raise TransactionAborted(
                    f"a record was refused: {error_of(error).str()}"
                ) from error

    def send_offsets(self, positions: Positions) -> None:
        producer = self._current()
        offsets = [TopicPartition(*at, offset) for at, offset in positions.items()]
        generation = self._generation_of()
        self._call(
            producer,
            lambda timeout: producer.send_offsets_to_transaction(offsets, generation, timeout),
        )

    def commit(self) -> None:
        producer = self._current()
        self._call(producer, producer.commit_transaction, unknown=True)

    def abort(self) -> None:
        producer = self._producer
        if producer is None:
            return
        try:
            self._call(producer, producer.abort_transaction, aborting=True)
        except TransactionAborted:
            return  # Thrown away: its successor's `ready` ends what it left open.

    def send(self, outputs: Sequence[Output]) -> None:
        if self._plain is None:
            self._plain = Producer(
                self._config
                | DURABLE
                | LOGGED
                | {
                    "message.timeout.ms": 10_000,
                    "message.max.bytes": MESSAGE_BYTES_MAX,
                    "log_level": 4,
                }
            )
        faults: list[KafkaError] = []

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                faults.append(error)

        with _as_unavailable():
            for topic, key, value, headers in outputs:
                self._plain.produce(
                    topic,
                    value,
                    key,
                    on_delivery=delivered,
                    headers=headers,  # pyright: ignore[reportArgumentType] - list is invariant
                )
        if self._plain.flush(CALL_BUDGET_S) or faults:
            self._plain = None
            raise OutcomeUnknown(f"Kafka did not confirm: {faults[0] if faults else 'timed out'}")

    def close(self) -> None:
        if self._producer is not None:
            with suppress(KafkaException):  # Nothing open, or the next incarnation ends it.
                self._producer.abort_transaction(1.0)
        self._discard()
        if self._plain is not None:
            self._plain.flush(1.0)

    def _current(self) -> Producer:
        if self._producer is None:
            raise TransactionAborted("no transaction is open")
        return self._producer

    def _discard(self) -> None:
        self._producer = None

    def _call(
        self,
        producer: Producer,
        call: Callable[[float], object],
        *,
        unknown: bool = False,
        aborting: bool = False,
    ) -> None:
        """Make one transaction call, and give each class of librdkafka's errors its answer.

        retriable: repeat. Must abort: abort, then TransactionAborted. Fenced: Fenced. Anything
        else, or no answer in time: the producer is thrown away, and its successor's `ready` ends
        what it left open; `unknown` says that the call may have taken effect nevertheless.
        """
        deadline = time.monotonic() + (REQUEST_TIMEOUT_S if aborting else CALL_BUDGET_S)
        while True:
            try:
                call(REQUEST_TIMEOUT_S)
                return
            except KafkaException as exception:
                error = error_of(exception)
                said = f"{error.name()}: {error.str()}"
                if error.code() in _FENCED:
                    self._discard()
                    raise Fenced(
                        f"{self._transactional_id} has a newer incarnation: {said}"
                    ) from None
                if error.txn_requires_abort() and not aborting:
                    self.abort()
                    raise TransactionAborted(said) from None
                if error.retriable() and not error.fatal() and time.monotonic() < deadline:
                    time.sleep(0.01)
                    continue
                in_hand = producer is self._producer
                self._discard()
                if not in_hand:  # init_transactions: nothing was begun.
                    raise Unavailable(f"Kafka gave no producer id: {said}") from None
                if unknown:
                    raise OutcomeUnknown(f"a commit has no known outcome: {said}") from None
                raise TransactionAborted(said) from None


@contextmanager
def _as_unavailable() -> Generator[None]:
    try:
        yield
    except KafkaException as exception:
        error = error_of(exception)
        if _is_the_end(error):
            raise Fenced(error.str()) from exception
        raise Unavailable(f"Kafka is away or refused: {error.str()}") from exception


@contextmanager
def _if_still_assigned() -> Generator[None]:
    """Pass over a partition that a rebalance took away: whoever has it now reads it."""
    try:
        yield
    except KafkaException as exception:
        if error_of(exception).code() not in (KafkaError._STATE, KafkaError._UNKNOWN_PARTITION):
            raise Unavailable(error_of(exception).str()) from exception


def _partition_of(message: Message) -> Partition:
    return message.topic() or "", message.partition() or 0


def _names(partitions: Iterable[TopicPartition]) -> str:
    by_topic: dict[str, list[int]] = {}
    for partition in partitions:
        by_topic.setdefault(partition.topic, []).append(partition.partition)
    return " ".join(f"{topic}{sorted(numbers)}" for topic, numbers in sorted(by_topic.items()))
