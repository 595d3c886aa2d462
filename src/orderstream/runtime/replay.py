"""Has a stage read again: sets back its offsets, and readies its store for that.

A stage that keeps its offsets beside its rows: one store transaction resets them, and empties the
rows that are to be built anew. A stage that keeps them in Kafka: what it has answered is marked
(answered.py) before they are altered. One that remembers what it said (said.py) has both to set
back. Any of it may only be done while nobody is in the group; the store's offsets are safe even
then, since a worker that finds others than its own steps back.
"""

from collections.abc import Collection, Generator, Iterable
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import Connection, sql

from orderstream.contract.errors import Unavailable
from orderstream.runtime.admin import Admin
from orderstream.runtime.answered import mark
from orderstream.runtime.failure import Origin, origin_of, parked_from
from orderstream.runtime.log_reader import LogReader
from orderstream.runtime.positions import positions_in
from orderstream.runtime.said import drop
from orderstream.runtime.stage import Keeps, Positions

LOCK_TIMEOUT_S = 10


@dataclass(frozen=True)
class Target:
    """Where to go back to in each partition: an offset, or a time in ms since 1970."""

    offset: int = 0
    time_ms: int | None = None

    @property
    def beginning(self) -> bool:
        """Whether everything is to be read again."""
        return self.time_ms is None and self.offset == 0


@dataclass(frozen=True)
class Move:
    """One partition: where the stage is, and where it is to read on.

    `again` counts offsets; the end of each transaction takes one as well.
    """

    topic: str
    partition: int
    before: int
    to: int

    @property
    def again(self) -> int:
        """How many offsets are to be read again."""
        return self.before - self.to


@dataclass(frozen=True)
class Plan:
    """What a replay will do; `cut` names partitions whose beginning was deleted from the log.

    `restored`: the store is older than Kafka, and its stage cannot run before.
    """

    moves: tuple[Move, ...]
    rebuild: bool
    cut: tuple[str, ...]
    restored: bool = False


class Replay:
    """The replay of one stage. Every method raises Unavailable."""

    def __init__(
        self,
        reads: Iterable[str],
        keeps: Keeps,
        group: str,
        schema: str,
        dsn: str,
        config: dict[str, Any],
        *,
        rebuilds: bool,
        dead_letter_suffix: str,
        retries: Iterable[str] | None = None,
    ) -> None:
        """`retries` are the topics for another try of a stage that remembers what it said."""
        self.reads = list(reads)
        self._keeps = keeps
        self.group = group
        self.schema = schema
        self._dsn = dsn
        self._config = config
        self._rebuilds = rebuilds
        self._suffix = dead_letter_suffix
        self._retries = None if retries is None else list(retries)
        self._admin = Admin(config)

    def members(self) -> list[str]:
        """Return who is in the group, as `client (host)`."""
        return self._admin.members(self.group)

    def plan(self, target: Target) -> Plan:
        """Say what it would do. A replay never moves forward: nothing unread is passed over.

        Rows are built anew from the beginning only where the log still has its own.
        """
        before = self._before()
        first = self._admin.begins(before)
        if target.time_ms is None:
            to = {at: target.offset for at in before}
        else:
            to = self._admin.at_time(before, target.time_ms)
        moves = tuple(
            Move(*at, offset, min(max(to.get(at, offset), first[at]), offset))
            for at, offset in sorted(before.items())
        )
        cut = tuple(f"{topic}[{number}]" for (topic, number), at in first.items() if at > 0)
        return Plan(moves, self._rebuilds and target.beginning and not cut, cut)

    def lost(self) -> Plan:
        """Say what is to be read again since the store was restored from a backup.

        Of a stage that remembers what it said; those whose offsets are the store's read on by
        themselves, and inventory is given its outcomes (recovery/reconcile.py).
        """
        assert self._retries is not None
        with self._store() as tx:
            stored = positions_in(tx, "position")
        committed = self._admin.committed(self.group, {*self.reads, *self._retries})
        moves = tuple(
            Move(*at, offset, stored.get(at, 0))
            for at, offset in sorted(committed.items())
            if offset > stored.get(at, 0)
        )
        return Plan(moves, rebuild=False, cut=(), restored=True)

    def run(self, plan: Plan) -> None:
        """Do it. Done again after a crash at any point, it does the rest."""
        positions = {(move.topic, move.partition): move.to for move in plan.moves}
        below = {(move.topic, move.partition): move.before for move in plan.moves}
        if self._retries is not None:
            self._forget(plan, positions, below, self._retries)
            return
        with self._store() as tx:
            if self._keeps is Keeps.OFFSETS_IN_STORE:
                if plan.rebuild:
                    _empty(tx, self.schema)
                tx.cursor().executemany(_SET, [(to, *at) for at, to in positions.items()])
            else:
                mark(tx, below, self._parked())
        self._admin.set_committed(self.group, positions)  # Of a store's offsets: for display.

    def _forget(
        self, plan: Plan, positions: Positions, below: Positions, retries: list[str]
    ) -> None:
        """Do it for a stage that remembers what it did and said."""
        tried_again: Collection[Origin] = ()
        if plan.restored:
            tried_again = self._tried_again(positions, retries)
        else:
            self._refuse_waiting(below, retries)
        with self._store() as tx:
            drop(tx, below)  # First: it must not be said again should the rest not be done.
        with self._store() as tx:
            # What is tried again comes by itself: it is not passed over, and its origin is.
            said = {p: to for p, to in below.items() if not (plan.restored and p[0] in retries)}
            mark(tx, said, {*self._parked(), *tried_again})
            if plan.rebuild:
                _empty(tx, self.schema)
                tx.execute("UPDATE position SET next = 0")
            tx.cursor().executemany(_SET, [(to, *at) for at, to in positions.items()])
            tx.execute("DELETE FROM said")
            # Inside: what is read again but not forgotten is known, and passed over.
            self._admin.set_committed(self.group, positions)

    def _before(self) -> Positions:
        if self._keeps is Keeps.OFFSETS_IN_STORE:
            with self._store() as tx:
                known = positions_in(tx, "position")
            return {at: offset for at, offset in known.items() if at[0] in self.reads}
        lags = self._admin.lag(self.group, self.reads)
        return {(at.topic, at.partition): at.committed for at in lags if at.committed is not None}

    def _parked(self) -> Collection[Origin]:
        """Return the records that this group gave up on."""
        dead = {self._suffixed(topic) for topic in self.reads}
        with closing(LogReader(self._config, self.group)) as log:
            return {
                origin
                for records in log.read(log.ends(log.partitions(sorted(dead))))
                for record in records
                if (origin := parked_from(record, self.group)) is not None
            }

    def _tried_again(self, positions: Positions, retries: list[str]) -> Collection[Origin]:
        """Return what has another try from these places on, by where it stood at first."""
        tried = self._admin.committed(self.group, retries) | positions
        with closing(LogReader(self._config, self.group)) as log:
            ends = log.ends(log.partitions(retries))
            return {origin_of(r) for records in log.read(ends, tried) for r in records}

    def _refuse_waiting(self, read: Positions, retries: list[str]) -> None:
        """Raise Unavailable while a record waits for another try: its own is read again, too."""
        with closing(LogReader(self._config, self.group)) as log:
            ends = log.ends(log.partitions(retries))
            if waiting := log.unread(read, ends):
                topic, number = min(waiting)
                raise Unavailable(
                    f"records wait for another try in {topic}[{number}]: let them be done first"
                )

    def _suffixed(self, topic: str) -> str:
        return topic + self._suffix

    @contextmanager
    def _store(self) -> Generator[Connection]:
        try:
            with psycopg.connect(
                self._dsn, connect_timeout=5, application_name="orderstream-replay"
            ) as connection:
                path = sql.SQL("SET search_path = {}").format(sql.Identifier(self.schema))
                connection.execute(path)
                connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT_S}s'".encode())
                yield connection
        except psycopg.Error as error:
            raise Unavailable(f"PostgreSQL is away or refused: {error}") from error


_SET = "UPDATE position SET next = %s WHERE topic = %s AND partition = %s"
_TABLES = """
    SELECT tablename FROM pg_tables
    WHERE schemaname = %s AND tablename NOT LIKE '%%yoyo%%'
        AND tablename NOT IN ('position', 'said', 'answered', 'answered_by_parking')
"""


def _empty(tx: Connection, schema: str) -> None:
    """Empty every table: a projection has nothing but what the log says."""
    names = [sql.Identifier(schema, name) for (name,) in tx.execute(_TABLES, (schema,)).fetchall()]
    if names:
        tx.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(names)))
