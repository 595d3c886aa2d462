"""Up to where a stage's rows of orders that are over were pruned, so that they are not made anew.

Inventory knows by its rows that an order was decided, and notification that it was told of. Where
`orderstream prune` took such rows away, a replay would do both again. So what is read again from
below is passed over: it was dealt with, and what of it is not over still has its rows.
"""

from collections.abc import Sequence

from psycopg import Connection

from orderstream.runtime.database import Database
from orderstream.runtime.positions import positions_in
from orderstream.runtime.stage import Positions, Record


class Forgotten:
    """The marks of one stage, in its own schema's `forgotten`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._below: Positions = {}

    def load(self) -> None:
        """Read the marks; none ever passes where the stage has read to. Raises Unavailable."""
        with self._database.transaction() as tx:
            self._below = positions_in(tx, "forgotten")

    def remembered(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return the records that are to be dealt with."""
        if not self._below:
            return records
        return [
            record
            for record in records
            if (record.offset() or 0)
            >= self._below.get((record.topic() or "", record.partition() or 0), 0)
        ]


def forget(tx: Connection, schema: str, below: Positions) -> None:
    """Write the marks down in a stage's schema; a mark never moves back."""
    tx.execute(
        f"""
        INSERT INTO {schema}.forgotten AS f (topic, partition, next)
        SELECT * FROM unnest(%s::text[], %s::int[], %s::bigint[])
        ON CONFLICT (topic, partition) DO UPDATE SET next = greatest(f.next, excluded.next)
        """.encode(),
        (
            [topic for topic, _ in below],
            [partition for _, partition in below],
            list(below.values()),
        ),
    )
