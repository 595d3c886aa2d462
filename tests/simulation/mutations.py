"""The engine, broken on purpose in one place each: the simulation must notice every one of them."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from psycopg import Connection

from orderstream.contract.errors import OutcomeUnknown
from orderstream.inventory.rules import Cancel, Outcome, Standing, Wanted
from orderstream.runtime.broker_kafka import KafkaSink, KafkaSource
from orderstream.runtime.loop import Loop
from orderstream.runtime.stage import Batch, Keeps, Output, Positions, Record, Stage
from tests.simulation.database import SimulatedPositions, Transaction, simulated
from tests.simulation.groups import Ticket
from tests.simulation.schedule import here
from tests.simulation.stores import SimulatedStock
from tests.simulation.world import Engine, World


class OffsetsBeforeStore(Loop):
    def _handle(
        self, records: Sequence[Record], events: Sequence[Any], after: Positions
    ) -> list[Output]:
        if self._stage.keeps is Keeps.OFFSETS_IN_KAFKA:
            self._publish([], after)
        return super()._handle(records, events, after)


class OutputsWithoutOffsets(Loop):
    def _publish(self, outputs: Sequence[Output], after: Positions) -> None:
        if outputs:
            self._sink.begin()
            for output in outputs:
                self._sink.produce(output)
            self._sink.commit()
        super()._publish([], after)


class DeadLettersAtOnce(Loop):
    def _failed(self, record: Record, error: Exception) -> list[Output]:
        outputs = super()._failed(record, error)
        dead = [output for output in outputs if output.topic.endswith(self._suffix)]
        if dead:
            self._sink.send(dead)
        return [output for output in outputs if output not in dead]


class NoRewind(Loop):
    def recover(self) -> None:
        if self._stage.keeps is Keeps.OFFSETS_IN_KAFKA:
            self._sink.ready()
        self._held.clear()


class UnknownCommitTakenForDone(KafkaSink):
    def commit(self) -> None:
        try:
            super().commit()
        except OutcomeUnknown:
            self.ready()


class NothingIsHeldBack(Loop):
    def _hold_back(self, records: Sequence[Record]) -> Sequence[Record]:
        return records


class NoGeneration(KafkaSource):
    """What becomes of group metadata that is made up from a name (style.md, smell 4)."""

    def generation(self) -> Any:
        return Ticket(None, "", -1)


class ReadsUncommitted(KafkaSource):
    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        setattr(self._consumer, "_committed", False)  # noqa: B010 - as the option would.


class ForgetsWhatWaits(Loop):
    """Loses what is kept back, and goes on behind it."""

    def step(self) -> int:
        if self._pairing:
            self._pairing.clear()
        return super().step()


class NoPositionCheck(SimulatedPositions):
    def _step(self, rows: Transaction, at: Any, after: int) -> int:
        rows.lock("position", at)
        rows.put(after, "position", at)
        return 1


class PositionsApart(SimulatedPositions):
    """Commits the position in a transaction of its own, after that of the rows."""

    def advance(self, tx: Connection, positions: Positions) -> None: ...

    def confirm(self, positions: Positions) -> None:
        with self._database.transaction() as tx:
            super().advance(tx, positions)
        super().confirm(positions)


class NoTombstone(SimulatedStock):
    def cancel(self, tx: Connection, cancels: Sequence[Cancel], now: datetime) -> list[Standing]:
        rows = simulated(tx)
        known = [c for c in cancels if rows.get("reservation", c.order_key) is not None]
        return super().cancel(tx, known, now)


class NoStockLock(SimulatedStock):
    def lock_stock(self, rows: Transaction, skus: Collection[str]) -> dict[str, int]:
        rows.statement("SELECT stock")
        found = {sku: rows.get("stock", sku) for sku in sorted(skus)}
        return {sku: row[0] - row[1] for sku, row in found.items() if row is not None}


class NoLockOrder(SimulatedStock):
    def in_order(self, skus: Collection[str]) -> Iterable[str]:
        for sku in sorted(skus, reverse=here().name.endswith("1")):
            yield sku
            here().sleep(1.0)  # Else two that lock at the same time are rare.


class NotAlone(SimulatedStock):
    def alone(self, tx: Connection) -> None:
        simulated(tx).statement("nothing is locked")


class ForgetsOutcomes(SimulatedStock):
    """Decides again what was decided before."""

    def settle(self, tx: Connection, orders: Sequence[Wanted], now: datetime) -> dict[str, Outcome]:
        rows = simulated(tx)
        for order in orders:
            if (row := rows.get("reservation", order.order_key)) and row.outcome:
                rows.lock("reservation", order.order_key)
                rows.put(None, "reservation", order.order_key)
        return super().settle(tx, orders, now)


def skips_what_is_known(stage: Stage, world: World) -> Stage:
    """Say nothing of an order that was decided before."""
    if stage.name != "inventory":
        return stage
    handle = stage.handle

    def skipping(batch: Batch, tx: Connection) -> Sequence[Output]:
        committed = world.rows["inventory"].committed
        known = {event.key for _, event in batch if ("reservation", event.key) in committed}
        outputs = handle(batch, tx)
        return [output for output in outputs if (output.key or b"").decode() not in known]

    return replace(stage, handle=skipping)


@dataclass(frozen=True)
class Mutation:
    """A broken engine, and the seeds within which it must be noticed."""

    what: str
    engine: Engine
    seeds: range


def _mutation(what: str, first: int = 1, seeds_max: int = 400, **parts: Any) -> Mutation:
    return Mutation(what, Engine(**parts), range(first, first + seeds_max))


MUTATIONS: dict[str, Mutation] = {
    "offsets-before-store": _mutation(
        "offsets are committed before the store", loop=OffsetsBeforeStore
    ),
    "outputs-without-offsets": _mutation(
        "results and offsets in two Kafka transactions", loop=OutputsWithoutOffsets
    ),
    "skips-known": _mutation(
        "known outcomes are skipped instead of said again", stage=skips_what_is_known
    ),
    "decides-again": _mutation("outcomes are not remembered", stock=ForgetsOutcomes),
    "dead-letter-at-once": _mutation(
        "dead letters outside the transaction", loop=DeadLettersAtOnce
    ),
    "no-rewind": _mutation("no rewind after an abort", loop=NoRewind),
    "unknown-is-done": _mutation(
        "an unknown Kafka commit is taken for done", 601, sink=UnknownCommitTakenForDone
    ),
    "nothing-held-back": _mutation("a retry's due time is ignored", loop=NothingIsHeldBack),
    "no-generation": _mutation("offsets are sent without the generation", 101, source=NoGeneration),
    "read-uncommitted": _mutation("open transactions are read", source=ReadsUncommitted),
    "no-position-check": _mutation("stored positions without compare", positions=NoPositionCheck),
    "forgets-what-waits": _mutation("what is kept back is lost", loop=ForgetsWhatWaits),
    "positions-apart": _mutation(
        "stored positions in a transaction of their own", positions=PositionsApart
    ),
    "no-tombstone": _mutation("a cancellation before its order is ignored", stock=NoTombstone),
    "no-stock-lock": _mutation("stock is read without a lock", 1801, stock=NoStockLock),
    "no-lock-order": _mutation("SKUs are locked in any order", 1201, stock=NoLockOrder),
    "not-alone": _mutation("cancellations beside decisions", 51, stock=NotAlone),
}
