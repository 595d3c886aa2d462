"""The only place that reads a clock, so that a decision can be replayed with another."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]

monotonic = time.monotonic


def utc_now() -> datetime:
    """Return the time in UTC, to the microsecond."""
    return datetime.now(UTC)


def from_epoch_ms(epoch_ms: int) -> datetime:
    """Return the UTC time of a Kafka timestamp, which counts milliseconds since 1970."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)


def to_epoch_ms(at: datetime) -> int:
    """Return the Kafka timestamp of a time."""
    return int(at.timestamp() * 1000)
