"""PostgreSQL's side of the simulation: rows, locks and transactions at READ COMMITTED.

Kept to: each statement sees what is committed when it runs; whoever changes a row has it to
himself until his transaction ends; a commit may have an unknown outcome, and may happen later.
"""

from collections.abc import Callable, Generator, Hashable, Iterable
from contextlib import contextmanager
from typing import Any, cast

from psycopg import Connection

from orderstream.contract.errors import OutcomeUnknown, TransactionAborted, Unavailable
from orderstream.runtime.database import Database
from orderstream.runtime.positions import StoredPositions
from orderstream.runtime.stage import Partition, Positions
from tests.simulation.schedule import Fate, Schedule, here

LOCK_TIMEOUT_S = 10.0

Key = tuple[Hashable, ...]  # A table, and a row's key in it; a lock's name alone.


class Rows:
    """One service's schema."""

    def __init__(self, schedule: Schedule, name: str) -> None:
        self.name = name
        self.schedule = schedule
        self.committed: dict[Key, Any] = {}
        self.holders: dict[Key, dict[Transaction, bool]] = {}  # True: shared.
        self.on_commit: Callable[[dict[Key, Any], dict[Key, Any]], None] = lambda *_: None
        self.on_broken: Callable[[str], None] = lambda *_: None

    def table(self, name: str) -> dict[Hashable, Any]:
        """Return the committed rows of a table by their keys, in the order of the keys."""
        rows = {key[1]: row for key, row in self.committed.items() if key[0] == name}
        return dict(sorted(rows.items(), key=lambda row: str(row[0])))


class Transaction:
    """What one transaction has written and locked."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._written: dict[Key, Any] = {}
        self._locked: list[Key] = []
        self.waits_for: Key | None = None

    def statement(self, what: str) -> None:
        """A statement is sent: others may come first, and the connection may break."""
        process = here()
        process.point(what)
        if process.fate(what, process.schedule.rates.store) is not Fate.DONE:
            raise Unavailable(f"simulated: the connection broke at {what}")

    def lock(self, *key: Hashable, shared: bool = False) -> None:
        """Take a row, or a named lock, until the end. Raises Unavailable: waited too long."""
        holders = self._rows.holders.setdefault(key, {})

        def is_mine() -> bool:
            return all(other is self or (shared and theirs) for other, theirs in holders.items())

        if not is_mine():
            self.waits_for = key
            self._find_circle()
            here().schedule.note(here().name, f"waits for {key}")
            if not here().wait(is_mine, LOCK_TIMEOUT_S):
                self.waits_for = None
                raise Unavailable(f"simulated: lock timeout, {key}")
            self.waits_for = None
        if self not in holders:
            self._locked.append(key)
        holders[self] = holders.get(self, True) and shared

    def _find_circle(self) -> None:
        seen: dict[Transaction, None] = {}
        todo: list[Transaction] = [self]
        while todo:
            waiter = todo.pop()
            waiting = waiter.waits_for
            for other in self._rows.holders.get(waiting, {}) if waiting is not None else ():
                if other is self is not waiter:
                    self.waits_for = None
                    self.broken(f"{self._rows.name}: deadlock over {waiting}")
                    raise Unavailable("simulated: deadlock detected")
                if other is not self and other not in seen:
                    seen[other] = None
                    todo.append(other)

    def broken(self, what: str) -> None:
        """Say that the engine relies on what should never happen."""
        self._rows.on_broken(what)

    def get(self, *key: Hashable) -> Any:
        """Read a row: what this transaction wrote, or what is committed; None if there is none."""
        return self._written[key] if key in self._written else self._rows.committed.get(key)

    def put(self, row: Any, *key: Hashable) -> None:
        """Write a row that is locked."""
        assert self in self._rows.holders.get(key, {}), f"{key} is written without its lock"
        self._written[key] = row

    def commit(self) -> None:
        """Make it so, for everybody."""
        before, written = dict(self._rows.committed), self._written
        self._rows.committed.update(written)
        self.rollback()
        self._rows.on_commit(before, written)

    def rollback(self) -> None:
        """Let go of everything."""
        self._written = {}
        for key in self._locked:
            self._rows.holders[key].pop(self, None)
        self._locked.clear()


class SimulatedDatabase(Database):
    """The Database of one process, on the rows that all processes share."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    @contextmanager
    def transaction(self) -> Generator[Connection]:
        process = here()
        process.point("BEGIN")
        rate = process.schedule.rates.store
        if process.fate("connect", rate) is not Fate.DONE:
            raise Unavailable("simulated: no connection")
        tx = Transaction(self.rows)
        try:
            yield cast(Connection, tx)
            process.point("COMMIT")
        except BaseException:
            tx.rollback()
            raise
        fate = process.fate("COMMIT", rate)
        if fate is Fate.LOST:
            tx.rollback()
        elif fate is Fate.LATE:
            process.schedule.finish(5.0 * process.schedule.chance() ** 2, tx.commit)
        else:
            tx.commit()
        if fate is not Fate.DONE:
            process.sleep(process.schedule.chance())
            raise OutcomeUnknown(f"simulated: a commit, {fate.value}")
        process.point("COMMIT answered")


class SimulatedPositions(StoredPositions):
    """StoredPositions on simulated rows: statement for statement as in runtime/positions.py."""

    def __init__(self, database: SimulatedDatabase) -> None:
        super().__init__(database)

    def load(self, partitions: Iterable[Partition]) -> Positions:
        wanted = list(partitions)
        with self._database.transaction() as connection:
            tx = simulated(connection)
            tx.statement("SELECT position")
            stored = {at: tx.get("position", at) for at in wanted}
        stored = {at: offset for at, offset in stored.items() if offset is not None}
        for at in wanted:
            self._known.pop(at, None)
        self._known |= stored
        return stored

    def advance(self, tx: Connection, positions: Positions) -> None:
        rows = simulated(tx)
        rows.statement(f"UPDATE position {positions}")
        written = sum(self._step(rows, at, after) for at, after in sorted(positions.items()))
        if written != len(positions):
            raise TransactionAborted("another worker has moved these partitions on")

    def _step(self, rows: Transaction, at: Partition, after: int) -> int:
        rows.lock("position", at)
        if rows.get("position", at) != self._known.get(at):
            return 0
        rows.put(after, "position", at)
        return 1


def simulated(tx: Connection) -> Transaction:
    """Return what a handler's connection is, in a simulation."""
    return cast(Transaction, tx)
