"""Kafka's side of the simulation: logs, transactions and their coordinator.

Kept to: a transaction's end is decided at once but reaches each partition, and its group's
offsets, at a time of its own; a reader of committed records stops at what is undecided; a newer
epoch fences the older; a transaction open too long is aborted, and its producer fenced.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from zlib import crc32

from confluent_kafka import Message

from orderstream.runtime.clock import to_epoch_ms
from orderstream.runtime.stage import Output, Partition, Positions
from tests.builders import NOON
from tests.simulation.groups import Group
from tests.simulation.schedule import Schedule

START_MS = to_epoch_ms(NOON)


class Refused(Exception):
    """The broker's answer is an error: FENCED, CONCURRENT, GENERATION, MEMBER or INSTANCE."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(eq=False, slots=True)
class Transaction:
    """`unmarked` has every partition that has not been told of the end yet; None: the offsets."""

    state: str = "open"
    unmarked: dict[Partition | None, None] = field(default_factory=dict)
    offsets: dict[str, Positions] = field(default_factory=dict)


@dataclass(slots=True)
class Entry:
    """A place in a log; the end of a transaction takes one as well, without a record."""

    record: Message | None
    transaction: Transaction | None


@dataclass(slots=True)
class Seat:
    """A transactional id: who has it now, and what it has open."""

    epoch: int = -1
    transaction: Transaction | None = None


class Cluster:
    """Every topic has `partitions`; `version` grows with all that a reader might wait for."""

    def __init__(self, schedule: Schedule, partitions: int) -> None:
        self.schedule = schedule
        self.partitions = partitions
        self.logs: dict[Partition, list[Entry]] = {}
        self.groups: dict[str, Group] = {}
        self.version = 0
        self._seats: dict[str, Seat] = {}

    # Logs ----------------------------------------------------------------------------------

    def append(self, output: Output, transaction: Transaction | None = None) -> None:
        """Add a record to its partition."""
        at = self.partition_of(output)
        entries = self.logs.setdefault(at, [])
        record = Message(
            *at,
            len(entries),
            output.key,
            output.value,
            list(output.headers),
            timestamp=(1, START_MS + int(self.schedule.now * 1000)),
        )
        entries.append(Entry(record, transaction))
        self.version += 1

    def partition_of(self, output: Output) -> Partition:
        """Return where a record goes by its key."""
        return output.topic, crc32(output.key or b"") % self.partitions

    def read(
        self, at: Partition, offset: int, records_max: int, *, committed: bool = True
    ) -> tuple[list[Message], int]:
        """Return records from `offset` on, and where to go on."""
        found: list[Message] = []
        for entry in self.logs.get(at, ())[offset:]:
            transaction = entry.transaction
            if committed and transaction is not None and at in transaction.unmarked:
                break
            if len(found) == records_max:
                break
            offset += 1
            if entry.record is None or (
                committed and transaction is not None and transaction.state != "committed"
            ):
                continue
            found.append(entry.record)
        return found, offset

    def log(self, topic: str) -> list[Message]:
        """Return the committed records of a topic, by partition and offset."""
        return [
            record
            for number in range(self.partitions)
            for record in self.read((topic, number), 0, 1_000_000)[0]
        ]

    def partitions_of(self, topics: Iterable[str]) -> list[Partition]:
        """Return every partition of these topics."""
        return [(topic, number) for topic in topics for number in range(self.partitions)]

    # Transactions --------------------------------------------------------------------------

    def take_seat(self, transactional_id: str) -> int:
        """InitProducerId: fence who had the id, end what it left open; return the new epoch."""
        seat = self._seats.setdefault(transactional_id, Seat())
        seat.epoch += 1
        if seat.transaction is not None:
            if seat.transaction.state == "open":
                self._decide(seat.transaction, "aborted")
            raise Refused("CONCURRENT")
        return seat.epoch

    def is_free(self, transactional_id: str) -> bool:
        """Tell whether the last transaction of this id has ended everywhere."""
        seat = self._seats.get(transactional_id)
        return seat is None or seat.transaction is None

    def has_open(self) -> bool:
        """Tell whether any transaction has not ended everywhere."""
        return any(seat.transaction is not None for seat in self._seats.values())

    def open(self, transactional_id: str, epoch: int, timeout_s: float) -> Transaction:
        """Return a new transaction; the last one must have ended everywhere."""
        seat = self._seat(transactional_id, epoch)
        if seat.transaction is not None:
            raise Refused("CONCURRENT")
        transaction = seat.transaction = Transaction()

        def expire() -> None:
            if seat.transaction is transaction and transaction.state == "open":
                self.schedule.fault("coordinator", f"{transactional_id}: transaction timed out")
                seat.epoch += 1
                self._decide(transaction, "aborted")

        self.schedule.after(timeout_s, expire)
        return transaction

    def produce(self, transactional_id: str, epoch: int, output: Output) -> None:
        """Add a record to the open transaction of this id."""
        transaction = self._opened(transactional_id, epoch)
        transaction.unmarked[self.partition_of(output)] = None
        self.append(output, transaction)

    def add_offsets(
        self, transactional_id: str, epoch: int, group: str, member: object, positions: Positions
    ) -> None:
        """Add offsets that count when the transaction commits, if the member may commit any."""
        transaction = self._opened(transactional_id, epoch)
        if (why := self.groups[group].objection(member)) is not None:
            raise Refused(why)
        transaction.unmarked[None] = None
        own = transaction.offsets.setdefault(group, {})
        for at, offset in positions.items():
            if at not in own:
                self.groups[group].expect(at, 1)
            own[at] = offset

    def end(self, transactional_id: str, epoch: int, state: str) -> None:
        """EndTxn; repeating what was decided already is no error."""
        seat = self._seat(transactional_id, epoch)
        if seat.transaction is not None and seat.transaction.state == "open":
            self._decide(seat.transaction, state)
        elif seat.transaction is not None and seat.transaction.state != state:
            raise Refused("FENCED")

    def _seat(self, transactional_id: str, epoch: int) -> Seat:
        seat = self._seats[transactional_id]
        if seat.epoch != epoch:
            raise Refused("FENCED")
        return seat

    def _opened(self, transactional_id: str, epoch: int) -> Transaction:
        transaction = self._seat(transactional_id, epoch).transaction
        if transaction is None or transaction.state != "open":
            raise Refused("FENCED")
        return transaction

    def _decide(self, transaction: Transaction, state: str) -> None:
        transaction.state = state
        seat = next(s for s in self._seats.values() if s.transaction is transaction)

        def mark(at: Partition | None) -> None:
            if at is None:
                self._finish_offsets(transaction)
            else:
                self.logs[at].append(Entry(None, None))
            del transaction.unmarked[at]
            self.version += 1
            if not transaction.unmarked:
                seat.transaction = None

        if not transaction.unmarked:
            seat.transaction = None
        chance = self.schedule.chance
        for at in list(transaction.unmarked):
            delay_s = 0.0 if chance() < 0.6 else 0.3 * chance()
            self.schedule.finish(delay_s, lambda at=at: mark(at))

    def _finish_offsets(self, transaction: Transaction) -> None:
        for name, positions in transaction.offsets.items():
            group = self.groups[name]
            for at, offset in positions.items():
                group.expect(at, -1)
                if transaction.state == "committed":
                    group.commit(at, offset)
