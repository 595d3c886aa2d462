"""A broker in memory with Kafka's rules for consumer groups and transactions, for tests.

What it keeps to: records of an open transaction are not read, nor is anything behind them; an
abort hides them for good; offsets sent to a transaction count when it commits; a new producer
with the same transactional id ends what its former self left open and fences it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from confluent_kafka import Message

from orderstream.contract.envelope import Headers
from orderstream.contract.errors import Fenced, TransactionAborted
from orderstream.runtime.broker import Starts
from orderstream.runtime.stage import Output, Partition, Positions, Record


@dataclass
class _Entry:
    record: Message
    transaction: "_Transaction | None"

    @property
    def readable(self) -> bool:
        return self.transaction is None or self.transaction.state == "committed"


@dataclass
class _Transaction:
    state: str = "open"
    offsets: Positions = field(default_factory=dict[Partition, int])
    group: str = ""


class MemoryBroker:
    """Topics of one partition each unless `partitions` says more, and the groups that read them."""

    def __init__(self, partitions: int = 1) -> None:
        self.partitions = partitions
        self.committed: dict[str, Positions] = {}
        self._logs: dict[Partition, list[_Entry]] = {}
        self._epochs: dict[str, int] = {}
        self._open: dict[str, _Transaction] = {}

    def append(self, output: Output, transaction: _Transaction | None = None) -> None:
        """Add a record to its partition."""
        number = sum(output.key or b"") % self.partitions
        entries = self._logs.setdefault((output.topic, number), [])
        record = Message(
            output.topic,
            number,
            len(entries),
            output.key,
            output.value,
            list(output.headers),
            timestamp=(1, 0),
        )
        entries.append(_Entry(record, transaction))

    def put(
        self, topic: str, key: bytes | None, value: bytes, headers: Headers | None = None
    ) -> None:
        """Add a record outside any transaction."""
        self.append(Output(topic, key, value, headers or []))

    def log(self, topic: str) -> list[Message]:
        """Return the committed records of a topic, by partition and offset."""
        return [
            entry.record
            for number in range(self.partitions)
            for entry in self._logs.get((topic, number), [])
            if entry.readable
        ]

    def read(
        self, partition: Partition, offset: int, records_max: int
    ) -> tuple[list[Message], int]:
        """Return committed records from `offset` on and where to go on, not past an open one."""
        found: list[Message] = []
        for entry in self._logs.get(partition, [])[offset:]:
            if entry.transaction is not None and entry.transaction.state == "open":
                break
            if len(found) == records_max:
                break
            offset += 1
            if entry.readable:
                found.append(entry.record)
        return found, offset

    def take_over(self, transactional_id: str) -> int:
        """Fence the former holder of the id, roll back what it left open; return the new epoch."""
        left_open = self._open.pop(transactional_id, None)
        if left_open is not None:
            left_open.state = "aborted"
        self._epochs[transactional_id] = self._epochs.get(transactional_id, -1) + 1
        return self._epochs[transactional_id]

    def require(self, transactional_id: str, epoch: int) -> None:
        """Raise Fenced unless this epoch is the newest."""
        if self._epochs[transactional_id] != epoch:
            raise Fenced(f"{transactional_id} has a newer incarnation")

    def opened(self, transactional_id: str, transaction: _Transaction) -> None:
        """Remember the open transaction of this id."""
        self._open[transactional_id] = transaction

    def end(self, transactional_id: str, *, commit: bool) -> None:
        """Commit or abort the open transaction, its offsets included."""
        transaction = self._open.pop(transactional_id)
        transaction.state = "committed" if commit else "aborted"
        if commit:
            self.committed.setdefault(transaction.group, {}).update(transaction.offsets)


class MemorySource:
    """The only member of its group: it has every partition of its topics."""

    def __init__(
        self, broker: MemoryBroker, group: str, topics: Iterable[str], starts: Starts | None = None
    ) -> None:
        self._broker = broker
        self._group = group
        self._starts = starts
        self._partitions = [(t, n) for t in topics for n in range(broker.partitions)]
        self._at: Positions = dict.fromkeys(self._partitions, 0)
        self._on_hold: set[Partition] = set()

    def poll(self, records_max: int, wait_s: float, linger_s: float) -> Sequence[Record]:  # noqa: ARG002
        polled: list[Record] = []
        for partition in self._partitions:
            if partition in self._on_hold:
                continue
            room = records_max - len(polled)
            found, self._at[partition] = self._broker.read(partition, self._at[partition], room)
            polled += found
        return polled

    def hold(self, partition: Partition, offset: int) -> None:
        self._on_hold.add(partition)
        self._at[partition] = offset

    def release(self, partition: Partition) -> None:
        self._on_hold.discard(partition)

    def rewind(self) -> None:
        self._on_hold.clear()
        committed = (
            self._starts.load(self._partitions)
            if self._starts
            else self._broker.committed.get(self._group, {})
        )
        self._at = {partition: committed.get(partition, 0) for partition in self._partitions}
        if self._starts:
            self.show_progress(committed)

    def show_progress(self, positions: Positions) -> None:
        self._broker.committed.setdefault(self._group, {}).update(positions)

    def close(self) -> None:
        pass


class MemorySink:
    """A transactional producer for one group."""

    def __init__(self, broker: MemoryBroker, transactional_id: str, group: str) -> None:
        self._broker = broker
        self._id = transactional_id
        self._group = group
        self._epoch: int | None = None
        self._transaction: _Transaction | None = None

    def ready(self) -> None:
        if self._epoch is None:
            self._epoch = self._broker.take_over(self._id)

    def begin(self) -> None:
        self._require()
        self._transaction = _Transaction(group=self._group)
        self._broker.opened(self._id, self._transaction)

    def produce(self, output: Output) -> None:
        self._require()
        self._broker.append(output, self._current())

    def send_offsets(self, positions: Positions) -> None:
        self._require()
        self._current().offsets |= positions

    def commit(self) -> None:
        self._require()
        self._broker.end(self._id, commit=True)
        self._transaction = None

    def abort(self) -> None:
        self._require()
        self._broker.end(self._id, commit=False)
        self._transaction = None

    def send(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            self._broker.append(output)

    def close(self) -> None:
        pass

    def _require(self) -> None:
        if self._epoch is None:
            raise TransactionAborted("not ready")
        self._broker.require(self._id, self._epoch)

    def _current(self) -> _Transaction:
        if self._transaction is None:
            raise TransactionAborted("no transaction is open")
        return self._transaction
