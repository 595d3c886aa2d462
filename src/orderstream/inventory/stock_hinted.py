"""Stock levels that are read often, kept in Redis for a moment; and which goods ran out."""

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
from psycopg import Connection

from orderstream.inventory.rules import Cancel, Outcome, Standing, Wanted
from orderstream.inventory.store import StockLevel, StockStore
from orderstream.runtime.hints import Hints

LEVEL_S = 1.0
EMPTY_S = 30.0
EMPTY = "empty"  # The group of SKUs that orders could not have.

_decode = msgspec.json.Decoder(tuple[int, int]).decode


class HintedStock:
    """A StockStore before another, which alone decides and is written to.

    Only the level of one SKU may come from Redis; it was true at most LEVEL_S ago.
    """

    def __init__(self, store: StockStore, hints: Hints) -> None:
        self._store = store
        self._hints = hints

    def settle(self, tx: Connection, orders: Sequence[Wanted], now: datetime) -> dict[str, Outcome]:
        """See StockStore."""
        outcomes = self._store.settle(tx, orders, now)
        short = {sku for outcome in outcomes.values() for sku in outcome.short}
        if short:
            self._hints.add(EMPTY, short, now.timestamp(), EMPTY_S)
        return outcomes

    def alone(self, tx: Connection) -> None:
        """See StockStore."""
        self._store.alone(tx)

    def cancel(self, tx: Connection, cancels: Sequence[Cancel], now: datetime) -> list[Standing]:
        """See StockStore."""
        return self._store.cancel(tx, cancels, now)

    def fulfil(self, tx: Connection, order_keys: Sequence[str]) -> None:
        """See StockStore."""
        self._store.fulfil(tx, order_keys)

    def levels(self, after: str, limit: int) -> list[StockLevel]:
        """See StockStore."""
        return self._store.levels(after, limit)

    def level(self, sku: str) -> StockLevel | None:
        """See StockStore."""
        said = self._hints.get([_hint(sku)])[0]
        if said is not None and (level := _read(sku, said)) is not None:
            return level
        level = self._store.level(sku)
        if level is not None:
            value = msgspec.json.encode((level.on_hand, level.reserved))
            self._hints.put({_hint(sku): value}, LEVEL_S)
        return level

    def empty_of(self, skus: Sequence[str]) -> frozenset[str]:
        """See StockStore."""
        return self._store.empty_of(skus)

    def set_on_hand(self, levels: Sequence[tuple[str, int]]) -> list[StockLevel]:
        """See StockStore."""
        written = self._store.set_on_hand(levels)
        self._forget(sku for sku, _ in levels)
        return written

    def adjust(self, sku: str, change: int) -> StockLevel | None:
        """See StockStore."""
        level = self._store.adjust(sku, change)
        self._forget([sku])
        return level

    def _forget(self, skus: Iterable[str]) -> None:
        known = list(skus)
        self._hints.drop([_hint(sku) for sku in known])
        self._hints.remove(EMPTY, known)


def _hint(sku: str) -> str:
    return f"stock:{sku}"


def _read(sku: str, said: bytes) -> StockLevel | None:
    """Read a level; None for one that cannot be."""
    try:
        on_hand, reserved = _decode(said)
    except msgspec.DecodeError:
        return None
    return StockLevel(sku, on_hand, reserved) if 0 <= reserved <= on_hand else None
