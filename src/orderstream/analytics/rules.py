"""How events become numbers: a fold over a batch, given what each order counted as before."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
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


class Fact(IntEnum):
    """What is known of an order: the greatest of them, RELEASED aside, is what it counts as.

    Each is a bit, so that a plain number holds several; arithmetic of IntFlag costs far more.
    """

    FAILED = 1
    CONFIRMED = 2
    REJECTED = 4
    EXPIRED = 8
    CANCELLED = 16
    FULFILLED = 32
    RELEASED = 64


OUTCOMES = (
    Fact.CONFIRMED,
    Fact.REJECTED,
    Fact.FAILED,
    Fact.CANCELLED,
    Fact.EXPIRED,
    Fact.FULFILLED,
)

# Buckets grow by 2^(1/4) = 19 %, so a quantile read from them is at most that much too high.
BUCKETS_PER_DOUBLING = 4
LATENCY_MIN_MS = 1.0
BUCKET_MAX = 120  # 2^30 ms: 12 days.


class Failed(Struct, frozen=True, gc=False):
    """An order was parked as a dead letter at this time."""

    key: str
    at: datetime


Counted = (
    InventoryReserved
    | InventoryRejected
    | InventoryReleased
    | OrderCancelled
    | OrderFulfilled
    | Failed
)


@dataclass(slots=True)
class Changes:
    """What to add to the counts, and all that is known of each order from now on."""

    facts: dict[str, int] = field(default_factory=dict[str, int])
    outcomes: Counter[str] = field(default_factory=Counter[str])
    per_minute: Counter[tuple[datetime, str]] = field(default_factory=Counter[tuple[datetime, str]])
    sold: Counter[str] = field(default_factory=Counter[str])
    lost: Counter[str] = field(default_factory=Counter[str])
    latency: Counter[int] = field(default_factory=Counter[int])


def count(events: Iterable[Counted], before: Mapping[str, int]) -> Changes:
    """Count each fact of an order once, in whatever order they are read, and however often.

    An order counts as the last thing that it became; each fact stays in the minute in which it
    happened: minutes tell what happened then.
    """
    changes = Changes()
    for event in events:
        fact, at = fact_of(event)
        key = event.key
        known = changes.facts.get(key) or before.get(key, 0)
        if fact is None or known & fact:
            continue
        changes.facts[key] = known | fact
        was, now = outcome(known), outcome(known | fact)
        if now != was:
            changes.outcomes[now] += 1
            if was:
                changes.outcomes[was] -= 1
        if fact is not Fact.RELEASED:
            changes.per_minute[at.replace(second=0, microsecond=0), outcome(fact)] += 1
        match event:
            case InventoryReserved():
                for sku, quantity in quantities_by_sku(event.items).items():
                    changes.sold[sku] += quantity
            case InventoryReleased():
                for sku, quantity in quantities_by_sku(event.items).items():
                    changes.sold[sku] -= quantity
                continue
            case InventoryRejected():
                wanted = quantities_by_sku(event.items)
                for sku in event.short:
                    changes.lost[sku] += wanted.get(sku, 0)
            case _:
                continue
        took = event.decided_at - event.ordered_at
        changes.latency[bucket(took.total_seconds() * 1000)] += 1
    return changes


def fact_of(event: Counted) -> tuple[Fact | None, datetime]:
    """Return what an event tells, and when that was; None for what another event tells as well."""
    match event:
        case InventoryReserved():
            return Fact.CONFIRMED, event.decided_at
        case InventoryRejected():
            return None if event.reason == "CANCELLED" else Fact.REJECTED, event.decided_at
        case OrderCancelled():
            fact = Fact.EXPIRED if event.cause == "EXPIRED" else Fact.CANCELLED
            return fact, event.cancelled_at
        case OrderFulfilled():
            return Fact.FULFILLED, event.fulfilled_at
        case InventoryReleased():
            return Fact.RELEASED, event.released_at
        case Failed():
            return Fact.FAILED, event.at


@cache
def outcome(facts: int) -> str:
    """Return what an order counts as, of which this is known; empty for nothing yet."""
    greatest = (facts & ~Fact.RELEASED).bit_length()
    return Fact(1 << greatest - 1).name if greatest else ""


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
