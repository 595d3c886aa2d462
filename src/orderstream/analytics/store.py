"""What analytics keeps: counts, and what each order has counted as."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Protocol

from psycopg import Connection

from orderstream.analytics.rules import Changes


class CountStore(Protocol):
    """Counts that grow by adding."""

    def facts(self, tx: Connection, order_keys: Collection[str]) -> dict[str, int]:
        """Return what is known of these orders (rules.Fact); those never counted are left out."""
        ...

    def add(self, tx: Connection, changes: Changes) -> None:
        """Add to the counts, inside the caller's transaction."""
        ...

    def summary(self) -> dict[str, Any]:
        """Return orders by outcome, and decision latency."""
        ...

    def timeseries(self, since: datetime, until: datetime) -> list[dict[str, Any]]:
        """Return orders by outcome for each minute in which there was one."""
        ...

    def top(self, limit: int) -> list[dict[str, Any]]:
        """Return the SKUs that sold most, with what was asked for in vain."""
        ...
