"""Reads topics from the beginning to a given end, once, outside every consumer group."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import (
    OffsetSpec,  # pyright: ignore[reportPrivateImportUsage]
)

from orderstream.contract.errors import Unavailable
from orderstream.runtime.broker_kafka import error_of
from orderstream.runtime.clients import Asker, made
from orderstream.runtime.clock import monotonic
from orderstream.runtime.stage import Partition, Positions

BATCH_RECORDS = 1000
TIMEOUT_S = 5.0
STALLED_S = 30.0  # Longer than an open transaction may hold back a reader (15 s).


class LogReader:
    """What committed transactions wrote. Every method raises Unavailable when Kafka is away.

    A transaction's end takes an offset that no reader ever sees, so "has everything been read" is
    asked of the broker (its end-of-partition signal), never answered by subtraction.
    """

    def __init__(self, config: Mapping[str, Any], group: str) -> None:
        self._options = dict(config) | {
            "group.id": group,  # Required; nothing is joined or committed.
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 20,  # Most reads are short: they end where nothing more comes.
            "log_level": 2,
        }
        self._reader = made(
            Consumer,
            self._options | {"queued.max.messages.kbytes": 16_384, "fetch.max.bytes": 8_388_608},
        )
        self._prober: Consumer | None = None
        self._asker = Asker(dict(config) | {"log_level": 2})
        self._next: Positions = {}
        # By partition an end, and from where on there is no record before it.
        self._silent: dict[Partition, tuple[int, int]] = {}

    def close(self) -> None:
        """Let go of the connections."""
        self._reader.close()
        if self._prober is not None:
            self._prober.close()

    def partitions(self, topics: Iterable[str]) -> list[Partition]:
        """Return the partitions of those of the topics that exist."""
        if not self._next:  # It says why, if we are not let in.
            self._asker.cluster(TIMEOUT_S)
        try:
            # Asked by who is going to read: for topics it has not heard of yet, librdkafka takes a
            # second to find who leads them.
            found = self._reader.list_topics(timeout=TIMEOUT_S).topics
        except KafkaException as error:
            raise Unavailable(f"Kafka is away: {error_of(error).str()}") from error
        return [(t, number) for t in topics if t in found for number in sorted(found[t].partitions)]

    def begins(self, partitions: Iterable[Partition]) -> Positions:
        """Return each partition's first offset; above 0, something was deleted."""
        return self._offsets(partitions, OffsetSpec.earliest(), IsolationLevel.READ_COMMITTED)

    def ends(self, partitions: Iterable[Partition]) -> Positions:
        """Return each partition's end, behind transactions still open and all that follow them."""
        return self._offsets(partitions, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED)

    def stable_ends(self, partitions: Iterable[Partition]) -> Positions:
        """Return each partition's end, before the first transaction that is still open."""
        return self._offsets(partitions, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)

    def _offsets(
        self, partitions: Iterable[Partition], spec: OffsetSpec | None, isolation: IsolationLevel
    ) -> Positions:
        return self._asker.offsets(partitions, spec, isolation, TIMEOUT_S)

    def read(self, ends: Positions, begins: Positions | None = None) -> Iterator[list[Message]]:
        """Give the records up to `ends` in batches, going on from where the last call stopped.

        The first call begins at `begins`, or where a partition does. Some of the records may stand
        behind the end. Waits for open transactions to end; raises Unavailable when Kafka gives
        nothing for STALLED_S.
        """
        new = [partition for partition in ends if partition not in self._next]
        first = {p: (begins or {}).get(p, 0) for p in new}
        self._next |= first
        if new:
            # Where 0 was deleted already, `auto.offset.reset` says where to begin.
            self._reader.incremental_assign([TopicPartition(*p, at) for p, at in first.items()])
        left = {p: end for p, end in ends.items() if self._next[p] < end}
        patience = monotonic() + STALLED_S
        while left:
            messages = self._reader.consume(BATCH_RECORDS, 0.05)
            records: list[Message] = []
            for message in messages:
                error = message.error()
                at = (message.topic() or "", message.partition() or 0)
                offset = message.offset() or 0
                if error is None:
                    records.append(message)
                    offset += 1
                elif error.code() != KafkaError._PARTITION_EOF:
                    reported(error)
                    continue
                self._next[at] = offset
                if at in left and offset >= left[at]:
                    del left[at]
            if records:
                patience = monotonic() + STALLED_S
                yield records
            elif monotonic() > patience:
                names = ", ".join(f"{topic}[{number}]" for topic, number in left)
                raise Unavailable(f"Kafka gives no more records of {names}")

    def unread(self, at: Positions, ends: Positions) -> set[Partition]:
        """Return the partitions where a reader would be given a record before the end."""
        asked = {
            partition: at.get(partition, 0)
            for partition, end in ends.items()
            if at.get(partition, 0) < min(end, self._silent_from(partition, end))
        }
        if not asked:
            return set()
        if self._prober is None:
            self._prober = Consumer(self._options | {"fetch.message.max.bytes": 65_536})
        places = [TopicPartition(*p, start or OFFSET_BEGINNING) for p, start in asked.items()]
        self._prober.assign(places)
        left = set(asked)
        deadline = monotonic() + TIMEOUT_S
        while left and monotonic() < deadline:
            for message in self._prober.consume(100, 0.05):
                error = message.error()
                at_end = error is not None and error.code() == KafkaError._PARTITION_EOF
                if error is not None and not at_end:
                    reported(error)
                    continue
                partition = (message.topic() or "", message.partition() or 0)
                if partition in left:
                    left.remove(partition)
                    # The end that a reader sees is before an open transaction.
                    if (message.offset() or 0) >= ends[partition]:
                        self._silent[partition] = (ends[partition], asked.pop(partition))
        self._prober.unassign()
        return set(asked)

    def _silent_from(self, partition: Partition, end: int) -> int:
        known_end, silent_from = self._silent.get(partition, (end, end))
        return silent_from if known_end == end else end


def reported(error: KafkaError) -> None:
    """Raise Unavailable for what a reader was told, unless it mends itself."""
    if not (error.retriable() or error.code() in _PASSING):
        raise Unavailable(f"Kafka refused a read: {error.str()}")


_PASSING = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError.REQUEST_TIMED_OUT,
    }
)
