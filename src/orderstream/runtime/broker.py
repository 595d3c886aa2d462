"""What the loop asks of a broker: a source of records and a sink for transactions.

broker_kafka.py is Kafka, broker_memory.py the same rules in memory for tests.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from orderstream.runtime.stage import Output, Partition, Positions, Record


class Starts(Protocol):
    """The positions of a stage that keeps its own."""

    def load(self, partitions: Iterable[Partition]) -> Positions:
        """Return where to start each partition that was ever read; the others are left out."""
        ...

    def begin(self, positions: Positions) -> None:
        """Keep where partitions begin that were never read."""
        ...


class Source(Protocol):
    """A member of a consumer group that reads only committed records."""

    def poll(self, records_max: int, wait_s: float, linger_s: float) -> Sequence[Record]:
        """Return the next records, in order within each partition; none after `wait_s`.

        Waits `linger_s` for more once the first is there. Raises Unavailable, Fenced, and
        PartitionsGone where partitions went of which the loop may keep something.
        """
        ...

    def hold(self, partition: Partition, offset: int) -> None:
        """Read nothing of the partition until `release`, and then from this offset on."""
        ...

    def release(self, partition: Partition) -> None:
        """Go on reading a partition on hold; nothing happens if it was taken away meanwhile."""
        ...

    def rewind(self) -> None:
        """Go back to the committed offsets of every partition in hand. Raises Unavailable."""
        ...

    def show_progress(self, positions: Positions) -> None:
        """Tell the group's coordinator how far a stage is that keeps its own offsets.

        For those who look at lag only: it may fail or be late, and nothing is read from it.
        """
        ...

    def close(self) -> None:
        """Leave; an unfinished batch is read again by whoever takes over."""
        ...


class Sink(Protocol):
    """Publishes records and offsets together, or not at all.

    Every call may raise TransactionAborted (nothing was published: rewind), OutcomeUnknown
    (`commit` only: call `ready`, then rewind and see what is committed), Unavailable, or Fenced.
    """

    def ready(self) -> None:
        """Take this worker's place: fence a former self and end what it left open."""
        ...

    def begin(self) -> None:
        """Open a transaction."""
        ...

    def produce(self, output: Output) -> None:
        """Add a record; it is seen only if the transaction commits."""
        ...

    def send_offsets(self, positions: Positions) -> None:
        """Add the offsets that this transaction has consumed up to."""
        ...

    def commit(self) -> None:
        """Publish all of it."""
        ...

    def abort(self) -> None:
        """Publish none of it."""
        ...

    def send(self, outputs: Sequence[Output]) -> None:
        """Publish records outside any transaction and wait until all replicas have them.

        A repeat after OutcomeUnknown may publish a record twice.
        """
        ...

    def close(self) -> None:
        """Let go of the connection; an open transaction is aborted."""
        ...
