"""What analytics keeps: counts by minute, and what is known of each order."""

from collections.abc import Iterable
from typing import Any, Protocol

from psycopg import Connection

from orderstream.analytics.ranges import Cut, Range
from orderstream.analytics.rules import Counting

Row = dict[str, Any]


class CountStore(Protocol):
    """Counts that grow by adding. What is read is as of one moment; times are UTC."""

    def add(self, tx: Connection, order_keys: Iterable[str], counting: Counting) -> None:
        """Add to the counts, inside the caller's transaction.

        `counting` is told what is known of these orders (rules.py), those never counted left out,
        and returns what changes: of no other orders.
        """
        ...

    def summary(self) -> Row:
        """Return all orders by what they count as, and decision latency."""
        ...

    def happened(self, of: Range) -> Row:
        """Return what happened in a range: orders accepted, by outcome, and decision latency."""
        ...

    def timeseries(self, of: Range, cut: Cut, empty: bool = False) -> list[Row]:
        """Return what happened in each unit of the range, `empty` ones included or not."""
        ...

    def skus(
        self, of: Range | None, limit: int, by: str = "sold", sku: str | None = None
    ) -> list[Row]:
        """Return the SKUs of which most was `sold`, or `lost`; of all time without a range."""
        ...

    def skus_over_time(
        self, of: Range, cut: Cut, limit: int, by: str = "sold", sku: str | None = None
    ) -> list[Row]:
        """Return the same of these SKUs for each unit in which there was something of them."""
        ...

    def users(self, of: Range, limit: int, user_id: str | None = None) -> list[Row]:
        """Return the users of whom most orders were decided."""
        ...

    def users_over_time(
        self, of: Range, cut: Cut, limit: int, user_id: str | None = None
    ) -> list[Row]:
        """Return the same of these users for each unit in which there was something of them."""
        ...

    def funnel(self, of: Range) -> tuple[list[Row], dict[str, int]]:
        """Return the steps that orders took in a range, and where all orders are now."""
        ...

    def latency(self, of: Range) -> dict[int, int]:
        """Return orders by bucket of decision latency."""
        ...

    def latency_over_time(
        self, of: Range, cut: Cut, empty: bool = False
    ) -> list[tuple[str, dict[int, int]]]:
        """Return the same for each unit, by its start; `empty` ones included or not."""
        ...
