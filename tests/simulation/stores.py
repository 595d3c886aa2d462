"""The services' stores on simulated rows: the same steps as the PostgreSQL adapters, one by one.

What an adapter leaves to the rules is left to the same rules here; what it says in SQL is said
again, with the locks that the statement takes.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from psycopg import Connection, errors

from orderstream.analytics.rules import Changes, Counting
from orderstream.contract.envelope import event_id
from orderstream.contract.errors import TransactionAborted
from orderstream.inventory.rules import (
    Cancel,
    Free,
    Outcome,
    Standing,
    Status,
    Wanted,
    cancel_all,
    fulfil_all,
    reserve_all,
    summed,
    taken,
)
from orderstream.notification.rules import Notice
from orderstream.order_view.rules import Page
from orderstream.runtime.stage import Positions
from tests.simulation.database import Transaction, simulated
from tests.simulation.schedule import here

Stock = tuple[int, int]  # On hand, reserved.


class Reservation:
    """A row of `reservation`."""

    __slots__ = ("order_key", "outcome", "quantities", "released_at", "status")

    def __init__(
        self,
        order_key: str,
        status: Status,
        quantities: Mapping[str, int],
        outcome: Outcome | None,
        released_at: datetime | None,
    ) -> None:
        self.order_key = order_key
        self.status: Status = status
        self.quantities = quantities
        self.outcome = outcome
        self.released_at = released_at

    def standing(self) -> Standing:
        return Standing(self.order_key, self.status, self.quantities, self.released_at)


class SimulatedStock:
    """See inventory/store_postgres.py."""

    def settle(self, tx: Connection, orders: Sequence[Wanted], now: datetime) -> dict[str, Outcome]:
        rows = simulated(tx)
        self.deciding(rows)
        free = self.lock_stock(rows, {line.sku for order in orders for line in order.lines})
        rows.statement("SELECT reservation")
        known: dict[str, Outcome] = {}
        ended: dict[str, Status] = {}
        for order in orders:
            row = rows.get("reservation", order.order_key)
            if row is not None and row.outcome is not None:
                known[order.order_key] = row.outcome
            elif row is not None:
                ended[order.order_key] = row.status
        fresh = reserve_all(orders, known, ended, free, now)
        if fresh:
            self._write(rows, fresh, upsert=bool(ended))
            gone = [key for key, status in ended.items() if status == "FULFILLED"]
            if gone:
                self.fulfil(tx, [key for key in gone if fresh[key].reason is None])
        return known | fresh

    def alone(self, tx: Connection) -> None:
        rows = simulated(tx)
        rows.statement("lock: changing")
        rows.lock("inventory")

    def cancel(self, tx: Connection, cancels: Sequence[Cancel], now: datetime) -> list[Standing]:
        rows = simulated(tx)
        known = self._standings(rows, {cancel.order_key: None for cancel in cancels})
        changed = cancel_all(cancels, known, now)
        self._write_standings(rows, changed, now)
        self._move(rows, summed(s.quantities for s in changed.values()), 0, -1)
        return [s for s in (known | changed).values() if s.released_at is not None]

    def fulfil(self, tx: Connection, order_keys: Sequence[str]) -> None:
        rows = simulated(tx)
        known = self._standings(rows, dict.fromkeys(order_keys))
        changed = fulfil_all(order_keys, known)
        self._write_standings(rows, changed, None)
        self._move(rows, summed(s.quantities for s in changed.values()), -1, -1)

    def deciding(self, rows: Transaction) -> None:
        rows.statement("lock: deciding")
        rows.lock("inventory", shared=True)

    def lock_stock(self, rows: Transaction, skus: Collection[str]) -> Free:
        rows.statement("SELECT stock FOR UPDATE")
        free: Free = {}
        for sku in self.in_order(skus):
            if rows.get("stock", sku) is not None:
                here().point(f"lock {sku}")  # Rows are locked one by one.
                rows.lock("stock", sku)
                on_hand, reserved = rows.get("stock", sku)
                free[sku] = on_hand - reserved
        return free

    def in_order(self, skus: Collection[str]) -> Iterable[str]:
        return sorted(skus)

    def _write(self, rows: Transaction, fresh: Mapping[str, Outcome], *, upsert: bool) -> None:
        rows.statement(f"INSERT reservation {list(fresh)}")
        for key, outcome in fresh.items():
            rows.lock("reservation", key)
            known = rows.get("reservation", key)
            if known is not None and (not upsert or known.outcome is not None):
                raise TransactionAborted(f"simulated: another worker has decided {key}")
            status: Status = "RESERVED" if outcome.reason is None else "REJECTED"
            quantities = outcome.quantities
            row = Reservation(key, status, quantities, outcome, known and known.released_at)
            rows.put(row, "reservation", key)
        changes = taken(fresh.values())
        if changes:
            self.update_stock(rows, changes, 0, 1)

    def _standings(self, rows: Transaction, keys: Mapping[str, None]) -> dict[str, Standing]:
        rows.statement(f"SELECT reservation {list(keys)}")
        found = {key: rows.get("reservation", key) for key in keys}
        return {key: row.standing() for key, row in found.items() if row is not None}

    def _write_standings(
        self, rows: Transaction, standings: Mapping[str, Standing], released_at: datetime | None
    ) -> None:
        if not standings:
            return
        rows.statement(f"UPSERT reservation {list(standings)}")
        for key, standing in standings.items():
            rows.lock("reservation", key)
            known = rows.get("reservation", key)
            row = (
                Reservation(key, standing.status, {}, None, None)
                if known is None
                else Reservation(key, standing.status, known.quantities, known.outcome, released_at)
            )
            rows.put(row, "reservation", key)

    def _move(self, rows: Transaction, quantities: dict[str, int], shelf: int, held: int) -> None:
        if quantities:
            self.lock_stock(rows, quantities)
            self.update_stock(rows, quantities, shelf, held)

    def update_stock(
        self, rows: Transaction, quantities: Mapping[str, int], shelf: int, held: int
    ) -> None:
        rows.statement(f"UPDATE stock {quantities}")
        for sku, quantity in quantities.items():
            rows.lock("stock", sku)
            on_hand, reserved = rows.get("stock", sku)
            after = (on_hand + shelf * quantity, reserved + held * quantity)
            if not 0 <= after[1] <= after[0]:
                rows.broken(f"{sku} would be oversold, but for the database's check: {after}")
                raise errors.CheckViolation(f"simulated: {sku} would be {after}")
            rows.put(after, "stock", sku)


class SimulatedView:
    """See order_view/store_postgres.py; a row keeps where each event of its timeline stands."""

    def fold_in(self, tx: Connection, pages: Iterable[Page]) -> None:
        rows = simulated(tx)
        todo = sorted(pages, key=lambda page: page.order_key)
        if todo:
            rows.statement(f"UPSERT orders {[page.order_key for page in todo]}")
        for page in todo:
            rows.lock("orders", page.order_key)
            rows.put(merged(rows.get("orders", page.order_key), page), "orders", page.order_key)


def merged(old: Mapping[str, Any] | None, page: Page) -> Mapping[str, Any]:
    """Merge what is newly known into a row, as FOLD_IN does."""
    new: dict[str, Any] = {
        "numeric_id": page.numeric_id,
        "status": page.status,
        "user_id": page.user_id,
        "items": page.items,
        "reason": page.reason,
        "short": page.short or None,
        "created_at": page.created_at,
        "decided_at": page.decided_at,
        "timeline": tuple(
            (s.topic, s.partition, s.offset, event_id(s.event.key, s.event_type), s.at)
            for s in page.timeline
        ),
    }
    if old is None:
        return new
    for name in ("user_id", "items", "short", "created_at", "decided_at"):
        if old[name] is not None:
            new[name] = old[name]
    if old["status"] > new["status"]:
        new["reason"] = old["reason"]
    elif old["status"] == new["status"]:
        new["reason"] = old["reason"] if new["reason"] is None else new["reason"]
    new["status"] = max(old["status"], new["status"])
    new["numeric_id"] = old["numeric_id"] or new["numeric_id"]
    new["timeline"] = old["timeline"] + new["timeline"]
    return new


class SimulatedNotices:
    """See notification/store_postgres.py."""

    def add(
        self, tx: Connection, channel: str, notices: Sequence[Notice], now: datetime
    ) -> list[Notice]:
        rows = simulated(tx)
        once = {notice.event_id: notice for notice in notices}
        rows.statement(f"INSERT notice {list(once)}")
        added: list[Notice] = []
        for key, notice in once.items():
            rows.lock("notice", (key, channel))
            if rows.get("notice", (key, channel)) is None:
                rows.put((notice, now), "notice", (key, channel))
                added.append(notice)
        return added

    def told(self, tx: Connection) -> Positions:
        del tx
        return {}  # No store here was ever restored.

    def intend(
        self,
        tx: Connection,
        channels: Sequence[str],
        notices: Sequence[Notice],
        now: datetime,
        *,
        told_before: bool = False,
    ) -> None:
        assert not told_before
        rows = simulated(tx)
        new = {
            notice.event_id: notice
            for notice in notices
            if all(
                rows.get("notice", (notice.event_id, name)) is None for name in ("log", *channels)
            )
        }
        rows.statement(f"INSERT intents {list(new)}")
        for key, notice in new.items():
            for channel in channels:
                rows.lock("notice", (key, channel))
                rows.put((notice, now), "notice", (key, channel))


class SimulatedCounts:
    """See analytics/store_postgres.py."""

    def add(self, tx: Connection, order_keys: Iterable[str], counting: Counting) -> None:
        rows = simulated(tx)
        rows.statement("lock: counting")
        rows.lock("counting")
        rows.statement("SELECT counted")
        found = {key: rows.get("counted", key) for key in order_keys}
        changes = counting({key: facts for key, facts in found.items() if facts is not None})
        if not changes.facts:
            return
        rows.statement("UPSERT counted")
        for key, facts in sorted(changes.facts.items()):
            rows.lock("counted", key)
            rows.put(facts, "counted", key)
        rows.statement("UPSERT counts")
        for table, counts in counters(changes).items():
            for key, count in sorted(counts.items(), key=str):
                rows.lock(table, key)
                rows.put((rows.get(table, key) or 0) + count, table, key)


def counters(changes: Changes) -> dict[str, Mapping[Any, int]]:
    """Return the counts that grow, by table."""
    return {
        "outcomes": changes.outcomes,
        "per_minute": changes.per_minute,
        "sold": changes.sold,
        "lost": changes.lost,
        "latency": changes.latency,
        "users": {
            (*place, user): orders
            for place, some in changes.users.items()
            for user, orders in some.items()
        },
    }
