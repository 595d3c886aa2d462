"""What a stage has done and said, kept beside its rows, so that its handler need not repeat itself.

A handler that keeps no memory of its own may not see a record twice, nor may what came of it be
lost or said twice. So the store transaction of a batch also has where the stage got to, and what
is to be published; the Kafka transaction behind it has that and the input's offsets. A crash
between the two brings the records again: they are known by their place, and what was said of them
is said as it was written down.
"""

from collections.abc import Iterable, Sequence

import msgspec
from psycopg import Connection

from orderstream.runtime.database import Database
from orderstream.runtime.positions import StoredPositions
from orderstream.runtime.stage import Output, Partition, Positions, Record

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Output]).decode


class Said(StoredPositions):
    """The memory of one stage in its own schema's `position` and `said`.

    As with any stored positions, a worker that was replaced cannot write: it names the position
    that it starts from, and a step from any other one is refused.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._looked_up: set[Partition] = set()
        self._published: Positions = {}  # What was written down below may go.

    def forget(self) -> None:
        """Look everything up anew: others may have moved on."""
        self._known.clear()
        self._looked_up.clear()

    def recall(self, records: Sequence[Record]) -> tuple[list[Output], Sequence[Record]]:
        """Return what was said of the records that were handled before, and the other records."""
        unknown = {_partition(record) for record in records} - self._looked_up
        if unknown:
            self.load(unknown)
            self._looked_up |= unknown
        before: list[Record] = []
        new: list[Record] = []
        for record in records:
            known = self._known.get(_partition(record), 0)
            (before if (record.offset() or 0) < known else new).append(record)
        return (self._of(before) if before else []), new

    def _of(self, records: Iterable[Record]) -> list[Output]:
        places = [(*_partition(record), record.offset() or 0) for record in records]
        with self._database.transaction() as tx:
            rows = tx.execute(_FIND, [list(column) for column in zip(*places, strict=True)])
            return [output for (outputs,) in rows for output in _decode(outputs)]

    def keep(self, tx: Connection, after: Positions, outputs: Sequence[Output]) -> None:
        """Write down how far the stage is, and what it says, inside the transaction of its rows.

        `confirm` once it has committed. Raises TransactionAborted as `advance` does.
        """
        if not after:
            return
        self.advance(tx, after)
        if outputs:
            (topic, partition), offset = next(iter(after.items()))
            # All of it comes again with the last record of any one partition.
            tx.execute(_KEEP, (topic, partition, offset - 1, _encode(outputs)))
        if self._published:
            self._drop(tx)

    def confirm(self, positions: Positions) -> None:
        super().confirm(positions)
        self._looked_up |= positions.keys()

    def published(self, positions: Positions) -> None:
        """Note that all that was said of the records before these is on the log for good."""
        self._published |= positions

    def is_new(self) -> bool:
        """Tell whether the stage never handled anything. Raises Unavailable."""
        with self._database.transaction() as tx:
            return tx.execute("SELECT FROM position LIMIT 1").fetchone() is None

    def tidy(self) -> None:
        """Drop what is published; nothing depends on when. Raises Unavailable."""
        if self._published:
            with self._database.transaction() as tx:
                self._drop(tx)

    def _drop(self, tx: Connection) -> None:
        drop(tx, self._published)
        self._published = {}


def drop(tx: Connection, below: Positions) -> None:
    """Drop what was said of the records before these: it is published."""
    rows = [(*at, offset) for at, offset in below.items()]
    if rows:
        tx.execute(_DROP, [list(column) for column in zip(*rows, strict=True)])


_FIND = """
    SELECT outputs FROM said WHERE (topic, partition, "offset")
        IN (SELECT * FROM unnest(%s::text[], %s::int[], %s::bigint[])) ORDER BY id
"""
_KEEP = 'INSERT INTO said (topic, partition, "offset", outputs) VALUES (%s, %s, %s, %s)'
_DROP = """
    DELETE FROM said USING unnest(%s::text[], %s::int[], %s::bigint[])
        AS p (topic, partition, below)
    WHERE said.topic = p.topic AND said.partition = p.partition AND said."offset" < p.below
"""


def _partition(record: Record) -> Partition:
    return record.topic() or "", record.partition() or 0
