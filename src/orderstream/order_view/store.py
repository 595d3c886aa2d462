"""What the order view keeps: one page per order, and the questions it can answer fast."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from psycopg import Connection

from orderstream.contract.errors import OrderstreamError
from orderstream.contract.values import Contact
from orderstream.order_view.rules import Page, Status

Sort = Literal["-created", "created", "-decided", "decided", "-took", "took"]
SORTED_MAX = 10_000  # Orders that are sorted by what has no index.
Place = tuple[datetime | timedelta, str]


class TooMany(OrderstreamError):
    """More orders fit than can be sorted in no time."""


@dataclass(frozen=True)
class Query:
    """Which orders: all that fit every part given; sorted, from behind the cursor.

    Those with `-` have the greatest first. When an order was created has an index. When it was
    decided and how long that took have none: of at most SORTED_MAX orders that fit but for the
    SKU, those that were decided are sorted.
    """

    status: Status | None = None
    user_id: str | None = None
    owner: str | None = None
    sku: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    sort: Sort = "-created"
    behind: Place | None = None
    limit: int = 50


@dataclass(frozen=True)
class Found:
    """A page as the API shows it, and its exact place in the list."""

    shown: dict[str, Any]
    place: Place


@dataclass(frozen=True)
class Overdue:
    """A confirmed order that was decided long ago."""

    order_id: int | str
    user_id: int | str | None
    decided_at: datetime
    notify: Contact | None


class ViewStore(Protocol):
    """Pages by order. Folding an event in twice changes nothing that is shown."""

    def fold_in(self, tx: Connection, pages: Iterable[Page]) -> None:
        """Merge what is newly known with what was, inside the caller's transaction."""
        ...

    def get(self, order_keys: Collection[str]) -> dict[str, dict[str, Any]]:
        """Return the pages of these orders, as the API shows them, by order key."""
        ...

    def grown(self, known: Mapping[str, int]) -> dict[str, int]:
        """Return how long the timelines are that are longer than is known, by order key."""
        ...

    def find(self, query: Query) -> list[Found]:
        """Return the pages that fit, without their timelines. Raises TooMany."""
        ...

    def overdue(self, before: datetime, behind: tuple[datetime, str], limit: int) -> list[Overdue]:
        """Return confirmed orders decided before a time, by time and id, from behind a place on."""
        ...
