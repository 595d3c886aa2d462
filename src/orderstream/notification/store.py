"""What notification keeps: one row per event and channel."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from psycopg import Connection

from orderstream.notification.rules import Notice


class NoticeStore(Protocol):
    """Notices by event and channel; none is kept twice."""

    def add(
        self, tx: Connection, channel: str, notices: Sequence[Notice], now: datetime
    ) -> list[Notice]:
        """Keep the notices and return those that were not there yet, in the order given."""
        ...

    def find(self, order_key: str | None, status: str | None, limit: int) -> list[dict[str, Any]]:
        """Return notices, newest first, as the API shows them."""
        ...
