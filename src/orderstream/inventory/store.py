"""What inventory keeps: stock, and every outcome ever given."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from psycopg import Connection

from orderstream.inventory.rules import Cancel, Outcome, Standing, Wanted


@dataclass(frozen=True, slots=True)
class StockLevel:
    """One SKU: what is on the shelf, and how much of it is promised to orders."""

    sku: str
    on_hand: int
    reserved: int

    @property
    def available(self) -> int:
        """What the next order can have."""
        return self.on_hand - self.reserved


class StockStore(Protocol):
    """Stock and reservations. A change of stock that would oversell is refused, whoever asks."""

    def settle(self, tx: Connection, orders: Sequence[Wanted], now: datetime) -> dict[str, Outcome]:
        """Give each order its outcome, by order key, inside the caller's transaction.

        An order settled before keeps its recorded outcome, so redelivery says the same again.
        """
        ...

    def alone(self, tx: Connection) -> None:
        """Keep every other batch out until the transaction ends: call it before anything else.

        For a batch that changes what was decided; batches that only decide run side by side.
        """
        ...

    def cancel(self, tx: Connection, cancels: Sequence[Cancel], now: datetime) -> list[Standing]:
        """Release what these orders have reserved, and see that they get nothing later.

        Returns those whose stock was released, now or before: a redelivery says the same again.
        """
        ...

    def fulfil(self, tx: Connection, order_keys: Sequence[str]) -> None:
        """Take what these orders have reserved off the shelf, once. Raises NotReserved."""
        ...

    def levels(self, after: str, limit: int) -> list[StockLevel]:
        """Return stock in order of SKU, from the first SKU behind `after`."""
        ...

    def level(self, sku: str) -> StockLevel | None:
        """Return one SKU's stock, or None if nobody ever stocked it."""
        ...

    def empty_of(self, skus: Sequence[str]) -> frozenset[str]:
        """Return those of the SKUs that are stocked and of which nothing is available."""
        ...

    def set_on_hand(self, levels: Sequence[tuple[str, int]]) -> list[StockLevel]:
        """Set what is on the shelf, all SKUs or none. Raises TooFew."""
        ...

    def adjust(self, sku: str, change: int) -> StockLevel | None:
        """Add to what is on the shelf, or take away; None for an unknown SKU. Raises TooFew."""
        ...


class TooFew(Exception):
    """Fewer would be on the shelf than orders have reserved."""

    def __init__(self, sku: str, reserved: int) -> None:
        why = f"{reserved} are reserved" if reserved else "there cannot be less than none"
        super().__init__(f"too few of {sku} would be on hand: {why}")
        self.sku = sku
        self.reserved = reserved
