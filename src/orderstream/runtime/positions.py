"""Offsets that a projection keeps beside its rows, in the same transaction."""

from collections.abc import Iterable, Sequence

from psycopg import Connection, sql

from orderstream.contract.errors import TransactionAborted
from orderstream.runtime.database import Database
from orderstream.runtime.stage import Partition, Positions


def positions_in(tx: Connection, *table: str) -> Positions:
    """Return all that a table of offsets says, such as `position`; its schema may come first."""
    query = sql.SQL("SELECT topic, partition, next FROM {}").format(sql.Identifier(*table))
    return {(topic, number): offset for topic, number, offset in tx.execute(query)}


class StoredPositions:
    """The positions of one stage in its own schema's `position` table.

    A worker that lost its partitions without noticing cannot write: each step names the position
    it starts from, and a step from any other one is refused.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: Positions = {}

    def load(self, partitions: Iterable[Partition]) -> Positions:
        """Return where to start each partition that was ever read; the others are left out."""
        wanted = list(partitions)
        with self._database.transaction() as tx:
            rows = tx.execute(
                "SELECT topic, partition, next FROM position"
                " WHERE (topic, partition) IN (SELECT * FROM unnest(%s::text[], %s::int[]))",
                ([topic for topic, _ in wanted], [number for _, number in wanted]),
            ).fetchall()
        stored = {(topic, number): offset for topic, number, offset in rows}
        for partition in wanted:
            self._known.pop(partition, None)
        self._known |= stored
        return stored

    def begin(self, positions: Positions) -> None:
        """Keep where partitions begin that were never read; one that was keeps its position."""
        rows = [(*at, offset) for at, offset in positions.items()]
        with self._database.transaction() as tx:
            tx.execute(_START, _columns(rows))
        self.load(positions)

    def advance(self, tx: Connection, positions: Positions) -> None:
        """Move on, inside the transaction of the rows; `confirm` once it has committed.

        Raises TransactionAborted when the stored position is not where this worker left it.
        """
        known = [
            (*at, after, self._known[at]) for at, after in positions.items() if at in self._known
        ]
        new = [(*at, after) for at, after in positions.items() if at not in self._known]
        written = 0
        if known:
            written += tx.execute(_MOVE, _columns(known)).rowcount
        if new:
            written += tx.execute(_START, _columns(new)).rowcount
        if written != len(positions):
            raise TransactionAborted("another worker has moved these partitions on")

    def confirm(self, positions: Positions) -> None:
        """Remember what has committed."""
        self._known |= positions


_MOVE = """
    UPDATE position SET next = n.after
    FROM unnest(%s::text[], %s::int[], %s::bigint[], %s::bigint[])
        AS n (topic, partition, after, before)
    WHERE position.topic = n.topic AND position.partition = n.partition
        AND position.next = n.before
"""
_START = """
    INSERT INTO position (topic, partition, next)
    SELECT * FROM unnest(%s::text[], %s::int[], %s::bigint[])
    ON CONFLICT DO NOTHING
"""


def _columns(rows: Sequence[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]
