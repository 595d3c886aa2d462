"""How events become numbers: a fold over a batch, given what each order counted as before."""

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache

from msgspec import Struct

from orderstream.contract.events import (
    InventoryRejected,
    InventoryReleased,
    InventoryReserved,
    OrderCancelled,
    OrderFulfilled,
)
from orderstream.contract.values import quantities_by_sku

# What is known of an order. Each is a bit, so that a plain number holds several; of those that it
# may count as, the greatest is what it counts as. All eight fit a byte.
FAILED, CONFIRMED, REJECTED, EXPIRED, CANCELLED, FULFILLED, RELEASED, ACCEPTED = (
    1 << bit for bit in range(8)
)
OUTCOMES = {
    CONFIRMED: "CONFIRMED",
    REJECTED: "REJECTED",
    FAILED: "FAILED",
    CANCELLED: "CANCELLED",
    EXPIRED: "EXPIRED",
    FULFILLED: "FULFILLED",
}
HAPPENS = OUTCOMES | {ACCEPTED: "ACCEPTED"}  # What has its place in a minute.
PENDING = "PENDING"  # What an order counts as that was accepted, and no more.

# Buckets grow by 2^(1/4) = 19 %, so a quantile read from them is at most that much too high.
BUCKETS_PER_DOUBLING = 4
LATENCY_MIN_MS = 1.0
BUCKET_MAX = 120  # 2^30 ms: 12 days.

Minute = int  # Since 1970.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE, _MS = timedelta(minutes=1), timedelta(milliseconds=1)


class Accepted(Struct, frozen=True, gc=False):
    """An order was accepted at this time."""

    key: str
    at: datetime


class Failed(Struct, frozen=True, gc=False):
    """An order was parked as a dead letter at this time."""

    key: str
    at: datetime
    user_id: int | str | None = None


Counted = (
    Accepted
    | InventoryReserved
    | InventoryRejected
    | InventoryReleased
    | OrderCancelled
    | OrderFulfilled
    | Failed
)


@dataclass(slots=True)
class Changes:
    """What to add to the counts, and all that is known of each order from now on.

    What is zero is there as well, so that rows do not depend on how events came in batches.
    """

    facts: dict[str, int] = field(default_factory=dict[str, int])
    outcomes: Counter[str] = field(default_factory=Counter[str])
    per_minute: Counter[tuple[Minute, int]] = field(default_factory=Counter[tuple[Minute, int]])
    sold: Counter[tuple[Minute, str]] = field(default_factory=Counter[tuple[Minute, str]])
    lost: Counter[tuple[Minute, str]] = field(default_factory=Counter[tuple[Minute, str]])
    users: dict[tuple[Minute, int], Counter[str]] = field(
        default_factory=dict[tuple[Minute, int], Counter[str]]
    )
    latency: Counter[tuple[Minute, int]] = field(default_factory=Counter[tuple[Minute, int]])


# Told what is known of some orders, returns what changes.
Counting = Callable[[Mapping[str, int]], Changes]


def count(keys: Iterable[str], events: Iterable[Counted], before: Mapping[str, int]) -> Changes:
    """Count each fact of an order once, in whatever order they are read, and however often.

    `keys` are those of the events. An order counts as the last thing that it became; each fact
    stays in the minute in which it happened, however late it is read: minutes tell what happened
    then.
    """
    changes = Changes()
    facts, sold, lost = changes.facts, changes.sold, changes.lost
    # What is one each is put down first: a Counter takes a list faster than piece by piece.
    happened: list[tuple[Minute, int]] = []
    decided: list[tuple[Minute, int]] = []
    users: defaultdict[tuple[Minute, int], list[str]] = defaultdict(list)
    minute, began, ends = 0, timedelta(), _MINUTE  # Since 1970, where no zone's time overflows.
    for key, event in zip(keys, events, strict=True):
        fact, at = fact_of(event)
        known = facts.get(key) or before.get(key, 0)
        if not fact or known & fact:
            continue
        facts[key] = known | fact
        since = at - _EPOCH
        if not began <= since < ends:  # Most are of the minute of those before.
            minute = since // _MINUTE
            began, ends = minute * _MINUTE, (minute + 1) * _MINUTE
        if isinstance(event, Accepted):
            happened.append((minute, fact))
            continue
        if isinstance(event, InventoryReleased):
            for line in event.items:
                place = minute, line.sku
                sold[place] = sold.get(place, 0) - line.qty
            continue
        happened.append((minute, fact))
        if event.user_id is not None:
            users[minute, fact].append(str(event.user_id))
        if isinstance(event, InventoryReserved):
            for line in event.items:
                place = minute, line.sku
                sold[place] = sold.get(place, 0) + line.qty
        elif isinstance(event, InventoryRejected):
            wanted = quantities_by_sku(event.items)
            for sku in event.short:
                place = minute, sku
                lost[place] = lost.get(place, 0) + wanted.get(sku, 0)
        else:
            continue
        decided.append((minute, bucket((event.decided_at - event.ordered_at) / _MS)))
    changes.per_minute = Counter(happened)
    changes.latency = Counter(decided)
    changes.users = {place: Counter(some) for place, some in users.items()}
    changes.outcomes = _moved(facts, before)
    return changes


def _moved(facts: Mapping[str, int], before: Mapping[str, int]) -> Counter[str]:
    """Return how many orders more count as each outcome."""
    changes = Counter(dict.fromkeys((PENDING, *OUTCOMES.values()), 0))
    moves = Counter(zip([before.get(key, 0) for key in facts], facts.values(), strict=True))
    for (was, now), orders in moves.items():
        changes[outcome(now)] += orders
        if was:
            changes[outcome(was)] -= orders
    changes.pop("", None)
    return changes


def fact_of(event: Counted) -> tuple[int, datetime]:
    """Return what an event tells, and when that was; 0 for what another event tells as well."""
    match event:
        case Accepted():
            return ACCEPTED, event.at
        case InventoryReserved():
            return CONFIRMED, event.decided_at
        case InventoryRejected():
            return 0 if event.reason == "CANCELLED" else REJECTED, event.decided_at
        case OrderCancelled():
            return EXPIRED if event.cause == "EXPIRED" else CANCELLED, event.cancelled_at
        case OrderFulfilled():
            return FULFILLED, event.fulfilled_at
        case InventoryReleased():
            return RELEASED, event.released_at
        case Failed():
            return FAILED, event.at


@cache
def outcome(facts: int) -> str:
    """Return what an order counts as, of which this is known; empty for nothing that counts."""
    greatest = (facts & ~(RELEASED | ACCEPTED)).bit_length()
    if greatest:
        return OUTCOMES[1 << greatest - 1]
    return PENDING if facts & ACCEPTED else ""


def sell_through(sold: int, lost: int) -> float | None:
    """Return the share of what was wanted that was sold; None where nothing was.

    In a range, more may have been given back than was sold: then nothing was.
    """
    kept = max(sold, 0)
    return round(kept / (kept + lost), 4) if kept + lost else None


def latency_ms(of_bucket: int) -> float:
    """Return the longest latency that a bucket holds."""
    return LATENCY_MIN_MS * 2 ** (of_bucket / BUCKETS_PER_DOUBLING)


_EDGES_MS = [latency_ms(of_bucket) for of_bucket in range(BUCKET_MAX)]


def bucket(took_ms: float) -> int:
    """Return the bucket of a latency; a clock that ran backwards counts as no time at all."""
    return bisect_left(_EDGES_MS, took_ms)


QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def quantiles_ms(
    histogram: Mapping[int, int], names: Iterable[str] = QUANTILES
) -> dict[str, float | None]:
    """Return quantiles of a histogram by name."""
    return {name: quantile_ms(histogram, QUANTILES[name]) for name in names}


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
