"""What a stage said on the log before its offsets were set back, so that it is not said again.

A stage that keeps its offsets in Kafka is replayed by setting them back. Every record below where
they had been was answered: by what came of it, or by a dead letter. The first are handled again,
which changes a complete store not at all and mends one that lost its latest rows, and what comes
of it is dropped. The others are passed over: handled now, they might succeed in silence.
"""

from collections.abc import Iterable, Sequence

from psycopg import Connection

from orderstream.runtime.database import Database
from orderstream.runtime.failure import Origin, origin_of
from orderstream.runtime.positions import positions_in
from orderstream.runtime.stage import Positions, Record


class Answered:
    """The marks of one stage, in its own schema's `answered` and `answered_by_parking`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._below: Positions = {}
        self._parked: frozenset[Origin] = frozenset()

    def load(self) -> None:
        """Read the marks; they change only while the stage does not run. Raises Unavailable."""
        with self._database.transaction() as tx:
            self._below = positions_in(tx, "answered")
            parked = tx.execute(
                'SELECT topic, partition, "offset" FROM answered_by_parking'
            ).fetchall()
        self._parked = frozenset((topic, number, offset) for topic, number, offset in parked)

    def split(self, records: Sequence[Record]) -> tuple[list[Record], Sequence[Record]]:
        """Return the records to handle in silence, and those to answer."""
        if not self._below:
            return [], records
        silent: list[Record] = []
        new: list[Record] = []
        for record in records:
            at = (record.topic() or "", record.partition() or 0)
            if (record.offset() or 0) >= self._below.get(at, 0):
                new.append(record)
            elif origin_of(record) not in self._parked:
                silent.append(record)
        return silent, new


def mark(tx: Connection, below: Positions, parked: Iterable[Origin]) -> None:
    """Write the marks down; a mark never moves back."""
    tx.cursor().executemany(_BELOW, [(*at, offset) for at, offset in below.items()])
    tx.cursor().executemany(_PARKED, list(parked))


_BELOW = """
    INSERT INTO answered AS a (topic, partition, next) VALUES (%s, %s, %s)
    ON CONFLICT (topic, partition) DO UPDATE SET next = greatest(a.next, excluded.next)
"""
_PARKED = "INSERT INTO answered_by_parking VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
