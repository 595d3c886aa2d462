"""Latencies counted in buckets whose width grows with the value: quick, small, within 0.4 %."""

_SUB_BITS = 7  # 128 buckets for each doubling.
_EXACT = 1 << (_SUB_BITS + 1)  # Below, every value has a bucket of its own.
VALUE_US_MAX = (1 << 40) - 1  # Larger ones, from 12 days, count as this.


class Histogram:
    """Counts whole microseconds; a percentile is off by at most 1/256 of itself."""

    def __init__(self) -> None:
        self._counts = [0] * (bucket_of(VALUE_US_MAX) + 1)
        self.count = 0
        self.max_us = 0

    def add(self, value_us: int) -> None:
        """Count one value; one below zero counts as zero."""
        if not 0 <= value_us <= VALUE_US_MAX:
            value_us = 0 if value_us < 0 else VALUE_US_MAX
        self._counts[bucket_of(value_us)] += 1
        self.count += 1
        if value_us > self.max_us:
            self.max_us = value_us

    def percentile_us(self, percent: float) -> float:
        """Return the value that `percent` of those counted do not exceed; 0 when there are none."""
        wanted = max(self.count * percent / 100, 1)
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return min(middle_of(bucket), self.max_us)
        return 0.0

    def shown_ms(self) -> dict[str, float]:
        """Return the usual percentiles in milliseconds."""
        shown = {
            name: round(self.percentile_us(percent) / 1000, 3)
            for name, percent in (("p50", 50), ("p90", 90), ("p99", 99), ("p99.9", 99.9))
        }
        return shown | {"max": round(self.max_us / 1000, 3)}


def bucket_of(value_us: int) -> int:
    """Return the bucket that counts this value."""
    if value_us < _EXACT:
        return value_us
    shift = value_us.bit_length() - _SUB_BITS - 1
    return (shift << _SUB_BITS) + (value_us >> shift)


def middle_of(bucket: int) -> float:
    """Return the middle of the values that a bucket counts."""
    if bucket < _EXACT:
        return bucket
    shift = (bucket >> _SUB_BITS) - 1
    return ((bucket - (shift << _SUB_BITS)) << shift) + ((1 << shift) - 1) / 2
