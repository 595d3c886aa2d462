"""What a stage is: the topics it reads, how it reads them, and the function that handles a batch.

A stage's handler is called with a batch and an open store transaction. It returns the records to
publish. The loop (loop.py) commits both, exactly once; the handler only has to be repeatable:
whatever it finds recorded for an event already, it must answer with again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple, Protocol

from psycopg import Connection

from orderstream.contract.envelope import Headers

Partition = tuple[str, int]
Positions = dict[Partition, int]  # The offset of the next record to read.


class Record(Protocol):
    """One record of a Kafka topic; confluent_kafka.Message is one, so none is copied."""

    def topic(self) -> str | None: ...
    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> Any: ...
    def timestamp(self) -> tuple[int, int]: ...


def positions_after(records: Iterable[Record]) -> Positions:
    """Return where to go on after these records; they are in order within each partition."""
    last = {(record.topic(), record.partition()): record for record in records}
    return {
        (topic or "", partition or 0): (record.offset() or 0) + 1
        for (topic, partition), record in last.items()
    }


class Output(NamedTuple):
    """One record to publish; its key decides on the partition."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


class Delivery(NamedTuple):
    """A record and the event that it was read as."""

    record: Record
    event: Any


@dataclass(frozen=True, slots=True)
class Batch:
    """The records of one transaction, the event of each, and the time that they have.

    The records are in order within each partition.
    """

    records: Sequence[Record]
    events: Sequence[Any]
    now: datetime

    def __iter__(self) -> Iterator[Delivery]:
        return map(Delivery, self.records, self.events)

    def __len__(self) -> int:
        return len(self.records)


Decoder = Callable[[Record], Any]
Handler = Callable[[Batch, Connection], Sequence[Output]]


def nothing_said(_record: Record) -> Sequence[Output]:
    """Say nothing of a record that is put to the dead letters."""
    return ()


class Keeps(Enum):
    """Where a stage's offsets are committed, which is where its exactly-once comes from."""

    OFFSETS_IN_KAFKA = "in the Kafka transaction of its outputs"
    OFFSETS_IN_STORE = "in the store transaction of its rows"


@dataclass(frozen=True)
class Pairs:
    """Records of `first` are followed by one of the same key of a topic in `then`.

    A busy stage has each wait up to `wait_s` for the other, to handle both at once (pairing.py).
    """

    first: str
    then: frozenset[str]
    wait_s: float


@dataclass(frozen=True)
class Stage:
    """One consumer group's work.

    `reads` maps each topic to the decoder of its records, which raises Malformed.
    `retries` maps a topic to the topic for another try; a topic without one parks at once.
    `parks` are the topics whose unreadable records this stage puts to the dead letters; another
    stage that reads them too passes over those, so that each is parked once.
    `gave_up` returns what is said of a record that is put to the dead letters, in the same
    transaction.
    `linger_s` is how long the stage waits for a fuller batch: at rest, and when it is busy, that
    is, when its last batch had `busy_records`; in between, a part of it, and behind a busy batch
    at least half as much. When it is busy, that is counted from the last batch, so handling one
    is part of the wait for the next, of which 10 ms are left in any case. A full batch that is on
    the log already is not waited for. `pairs` is for what it would rather handle together, by the
    same rule, for as long as they say.
    `fetch_bytes_min`: a broker that has less than this sends it ten times a second only. For rows
    that nobody waits for: each fetch, and each transaction behind it, costs the same for one record
    as for a hundred. For the same reason a batch may have `batches` times the records that are set.
    """

    name: str
    reads: Mapping[str, Decoder]
    handle: Handler
    keeps: Keeps
    parks: frozenset[str] = frozenset()
    retries: Mapping[str, str] = field(default_factory=dict[str, str])
    gave_up: Callable[[Record], Sequence[Output]] = nothing_said
    linger_s: tuple[float, float] = (0.0, 0.0)
    busy_records: int = 250
    fetch_bytes_min: int = 1
    batches: int = 1
    pairs: Pairs | None = None
