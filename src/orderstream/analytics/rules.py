"""How events become numbers: a fold over a batch, given what each order counted as before."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from msgspec import Struct

from orderstream.contract.events import InventoryRejected, InventoryReserved
from orderstream.contract.values import quantities_by_sku

CONFIRMED, REJECTED, FAILED = "CONFIRMED", "REJECTED", "FAILED"
OUTCOMES = (CONFIRMED, REJECTED, FAILED)

# Buckets grow by 2^(1/4) = 19 %, so a quantile read from them is at most that much too high.
BUCKETS_PER_DOUBLING = 4
LATENCY_MIN_MS = 1.0
BUCKET_MAX = 120  # 2^30 ms: 12 days.


class Failed(Struct, frozen=True, gc=False):
    """An order was parked as a dead letter at this time."""

    key: str
    at: datetime


Counted = InventoryReserved | InventoryRejected | Failed


class Standing(NamedTuple):
    """What an order counts as, and whether its failure was counted in the minute of it."""

    outcome: str
    failed: bool


@dataclass(slots=True)
class Changes:
    """What to add to the counts, and what each order counts as from now on."""

    standings: dict[str, Standing] = field(default_factory=dict[str, Standing])
    outcomes: Counter[str] = field(default_factory=Counter[str])
    per_minute: Counter[tuple[datetime, str]] = field(default_factory=Counter[tuple[datetime, str]])
    sold: Counter[str] = field(default_factory=Counter[str])
    lost: Counter[str] = field(default_factory=Counter[str])
    latency: Counter[int] = field(default_factory=Counter[int])


def count(events: Iterable[Counted], before: Mapping[str, Standing]) -> Changes:
    """Count each order's failure once and its decision once, in whatever order they are read.

    A decided order counts as decided and no longer as FAILED. A failure stays in the minute in
    which it happened: minutes tell what happened then.
    """
    changes = Changes()
    for event in events:
        standing = changes.standings.get(event.key) or before.get(event.key)
        if isinstance(event, Failed):
            if standing is not None and standing.failed:
                continue
            outcome = FAILED if standing is None else standing.outcome
            changes.per_minute[_minute(event.at), FAILED] += 1
            _stand(changes, event.key, standing, Standing(outcome, failed=True))
            continue
        if standing is not None and standing.outcome != FAILED:
            continue
        outcome = CONFIRMED if isinstance(event, InventoryReserved) else REJECTED
        changes.per_minute[_minute(event.decided_at), outcome] += 1
        _stand(changes, event.key, standing, Standing(outcome, failed=standing is not None))
        for sku, quantity in quantities_by_sku(event.items).items():
            if isinstance(event, InventoryReserved):
                changes.sold[sku] += quantity
            elif sku in event.short:
                changes.lost[sku] += quantity
        changes.latency[bucket((event.decided_at - event.ordered_at).total_seconds() * 1000)] += 1
    return changes


def bucket(latency_ms: float) -> int:
    """Return the bucket of a latency; a clock that ran backwards counts as no time at all."""
    if latency_ms <= LATENCY_MIN_MS:
        return 0
    return min(math.ceil(math.log2(latency_ms) * BUCKETS_PER_DOUBLING), BUCKET_MAX)


def latency_ms(of_bucket: int) -> float:
    """Return the longest latency that a bucket holds."""
    return LATENCY_MIN_MS * 2 ** (of_bucket / BUCKETS_PER_DOUBLING)


def quantile_ms(histogram: Mapping[int, int], quantile: float) -> float | None:
    """Return the latency that this share of orders did not exceed; None without orders."""
    total = sum(histogram.values())
    if not total:
        return None
    left = max(math.ceil(total * quantile), 1)
    for of_bucket in sorted(histogram):
        left -= histogram[of_bucket]
        if left <= 0:
            return round(latency_ms(of_bucket), 1)
    return None


def _stand(changes: Changes, key: str, before: Standing | None, now: Standing) -> None:
    changes.standings[key] = now
    if before is None or before.outcome != now.outcome:
        changes.outcomes[now.outcome] += 1
        if before is not None:
            changes.outcomes[before.outcome] -= 1


def _minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)
