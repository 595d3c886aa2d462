"""A time range as a shop reads it: cut into minutes, hours or days of its own zone."""

from datetime import UTC, datetime, time, timedelta, tzinfo
from enum import StrEnum

from msgspec import Struct

from orderstream.contract.envelope import rfc3339


class Unit(StrEnum):
    """What a range is cut into."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


LENGTH = {
    Unit.MINUTE: timedelta(minutes=1),
    Unit.HOUR: timedelta(hours=1),
    Unit.DAY: timedelta(days=1),
}


class Range(Struct, frozen=True):
    """From `since` on and before `until`, both with a zone."""

    since: datetime
    until: datetime

    def units(self, unit: Unit) -> int:
        """Say about how many units it has."""
        return max(0, -(-(self.until - self.since) // LENGTH[unit]))


class Cut(Struct, frozen=True):
    """How a range is cut, and in whose days."""

    unit: Unit
    zone: tzinfo

    def starts(self, of: Range) -> list[datetime]:
        """Return when each unit of a range begins, in UTC; the first may begin before the range."""
        starts = [self._start(of.since)]
        while (after := self._next(starts[-1])) < of.until:
            starts.append(after)
        return starts

    def shown(self, at: datetime) -> str:
        """Write a time as it is in the zone."""
        if self.zone == UTC or getattr(self.zone, "key", "") == "UTC":
            return rfc3339(at.astimezone(UTC))
        return at.astimezone(self.zone).isoformat(timespec="milliseconds")

    def _start(self, at: datetime) -> datetime:
        local = at.astimezone(self.zone)
        if self.unit is Unit.DAY:
            # A midnight that the clocks pass over is when they do: it is no earlier.
            return datetime.combine(local.date(), time(), self.zone).astimezone(UTC)
        into = timedelta(seconds=local.second, microseconds=local.microsecond)
        if self.unit is Unit.HOUR:
            into += timedelta(minutes=local.minute)
        return at.astimezone(UTC) - into  # In UTC: an hour that comes twice is two hours.

    def _next(self, start: datetime) -> datetime:
        if self.unit is Unit.DAY:
            tomorrow = start.astimezone(self.zone).date() + timedelta(days=1)
            return datetime.combine(tomorrow, time(), self.zone).astimezone(UTC)
        return self._start(start + LENGTH[self.unit])
