"""What the overview shows: everything looked at every two seconds, and an hour of it kept.

Looked at the same way whether somebody watches or not, so the charts have no holes; a page that is
open costs the services nothing more.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from orderstream.console.services import Services
from orderstream.contract.errors import OrderstreamError
from orderstream.runtime.admin import Lag
from orderstream.runtime.clock import Clock, to_epoch_ms

EVERY_S = 2.0
KEPT = 1800  # An hour.
POINTS = 360  # Of a chart: one in ten seconds of an hour.
LATENCY_OF = 200  # The newest orders, of which the decision latency is told.
KAFKA_WAIT_S = 1.5
STUCK_AFTER = 3  # Looks in which a service had something to read, and did not get on.

log = structlog.get_logger("orderstream.console")


@dataclass(frozen=True)
class Seen:
    """Kafka as it is: of each service where it is in each partition that it reads.

    What Kafka counts is of all workers of a service, wherever they run.
    """

    brokers: int
    accepted: int  # Orders that ever came, and what was redriven: no transactions end there.
    lags: Mapping[str, Sequence[Lag]]
    letters_end: int  # Moves when a dead letter comes, or one is handled.


@dataclass
class Sample:
    """One look. Rates are per second since the look before; None: not known.

    `handled` is in offsets, of which the end of a transaction takes one.
    """

    at_ms: int
    accepted: float | None = None
    outcomes: dict[str, float] = field(default_factory=dict[str, float])
    p50_ms: float | None = None
    p99_ms: float | None = None
    lag: dict[str, int] = field(default_factory=dict[str, int])
    handled: dict[str, float] = field(default_factory=dict[str, float])
    dead_letters: int | None = None


class Sampler:
    """Looks, and keeps what it saw. What is away has no figures, and is looked at again."""

    def __init__(
        self,
        services: Services,
        look: Callable[[], Seen],
        key: Callable[[], str | None],
        clock: Clock,
    ) -> None:
        """`look` asks Kafka, in a thread; `key` is one that may read, if any."""
        self._services = services
        self._look_at_kafka = look
        self._key = key
        self._clock = clock
        self._kept: deque[Sample] = deque(maxlen=KEPT)
        self._health: dict[str, dict[str, Any]] = {}
        self._before: dict[str, tuple[float, float]] = {}
        self._still: dict[str, int] = {}
        self._asking: asyncio.Task[Seen] | None = None
        self._letters_end = self._letters_counted = 0
        self._letters_open: int | None = None
        self.seen: Seen | None = None  # Of Kafka, at the last look; None: it is away.

    async def run(self) -> None:
        """Look every two seconds until cancelled."""
        while True:
            began = time.monotonic()
            try:
                self._kept.append(await self._look())
            except Exception:
                log.exception("a look failed")
            await asyncio.sleep(max(0.1, EVERY_S - (time.monotonic() - began)))

    @property
    def dead_letters(self) -> int | None:
        """How many nobody has handled; None: not known."""
        return self._kept[-1].dead_letters if self._kept else None

    def overview(self, since_ms: int = 0) -> dict[str, Any]:
        """Return how it is now, and an hour's points, or those since a time."""
        now = self._kept[-1] if self._kept else Sample(0)
        kept = list(self._kept)
        step = 1 if since_ms else max(1, len(kept) // POINTS)
        return {
            "now": _document(now),
            "health": self._health,
            "stuck": [name for name, count in self._still.items() if count >= STUCK_AFTER],
            "points": [_document(one) for one in kept[step - 1 :: step] if one.at_ms > since_ms],
        }

    async def _look(self) -> Sample:
        sample = Sample(to_epoch_ms(self._clock()))
        key = self._key()
        names = list(self._services.addresses)
        looks: list[Awaitable[None]] = [self._ready(name) for name in names]
        looks += [self._kafka(sample)]
        await asyncio.gather(*looks)
        await asyncio.gather(
            self._numbers(sample, key), self._latency(sample, key), self._letters(sample, key)
        )
        return sample

    async def _ready(self, name: str) -> None:
        try:
            status, body = await self._services.text(name, "/readyz")
        except OrderstreamError as error:
            self._health[name] = {"up": False, "says": str(error)}
            return
        document = _read(body)
        says = "; ".join(f"{who} is away" for who in document.get("without", {}))
        if status != 200:
            says = str(document.get("detail", f"answers {status}"))
        self._health[name] = {
            "up": status == 200,
            "says": says,
            "faults": document.get("faults", {}),
            "without": document.get("without", {}),
        }

    async def _kafka(self, sample: Sample) -> None:
        """Ask Kafka, and wait for it a while only: the others go on when it is away."""
        if self._asking is None:
            self._asking = asyncio.create_task(asyncio.to_thread(self._look_at_kafka))
        done, _ = await asyncio.wait([self._asking], timeout=KAFKA_WAIT_S)
        if not done:
            self._health["kafka"] = {"up": False, "says": "does not answer yet"}
            self.seen = None
            return
        asked, self._asking = self._asking, None
        try:
            seen = asked.result()
        except OrderstreamError as error:
            self._health["kafka"] = {"up": False, "says": str(error)}
            self.seen = None
            return
        self.seen = seen
        self._health["kafka"] = {"up": True, "says": f"{seen.brokers} broker(s)"}
        self._letters_end = seen.letters_end
        sample.accepted = self._rate("accepted", seen.accepted, sample)
        for service, partitions in seen.lags.items():
            behind = sum(lag.behind for lag in partitions)
            at = sum(lag.committed or 0 for lag in partitions)
            moved = self._rate(f"offset {service}", at, sample)
            sample.lag[service] = behind
            if moved is not None:
                sample.handled[service] = moved
            still = behind > 0 and moved == 0
            self._still[service] = self._still.get(service, 0) + 1 if still else 0

    async def _numbers(self, sample: Sample, key: str | None) -> None:
        summary = await self._asked("analytics", "/api/analytics/summary", key)
        if summary is None:
            return
        for outcome, count in summary["outcomes"].items():
            rate = self._rate(outcome, count, sample)
            if rate is not None:
                sample.outcomes[outcome] = rate

    async def _latency(self, sample: Sample, key: str | None) -> None:
        page = await self._asked("order", "/api/orders", key, limit=LATENCY_OF)
        orders: list[dict[str, Any]] = page["orders"] if page else []
        took = sorted(
            _ms(order["decidedAt"]) - _ms(order["createdAt"])
            for order in orders
            if order.get("decidedAt") and order.get("createdAt")
        )
        if took:
            sample.p50_ms, sample.p99_ms = share(took, 0.5), share(took, 0.99)

    async def _letters(self, sample: Sample, key: str | None) -> None:
        """Have them counted when something moved."""
        if self._letters_open is None or self._letters_end != self._letters_counted:
            counted = self._letters_end
            found = await self._asked("order", "/api/dead-letters:causes", key)
            if found is not None:
                self._letters_open, self._letters_counted = found["count"], counted
        sample.dead_letters = self._letters_open

    async def _asked(self, service: str, path: str, key: str | None, **query: object) -> Any:
        if not self._health.get(service, {}).get("up"):
            return None
        try:
            return await self._services.get(service, path, key, **query)
        except OrderstreamError:
            return None  # Its health says so, or nobody who may ask is signed in.

    def _rate(self, name: str, count: float, sample: Sample) -> float | None:
        """Return what came per second since this was counted before.

        What went is no rate: a group that was set back, or orders that became something else.
        """
        now = sample.at_ms / 1000
        before = self._before.get(name)
        self._before[name] = (now, count)
        if before is None or now <= before[0]:
            return None
        return max(0.0, count - before[1]) / (now - before[0])


def _document(sample: Sample) -> dict[str, Any]:
    return {
        "at": sample.at_ms,
        "accepted": sample.accepted,
        "outcomes": sample.outcomes,
        "p50": sample.p50_ms,
        "p99": sample.p99_ms,
        "lag": sample.lag,
        "handled": sample.handled,
        "deadLetters": sample.dead_letters,
    }


def _read(body: str) -> dict[str, Any]:
    try:
        return dict[str, Any](json.loads(body))
    except (ValueError, TypeError):
        return {}


def _ms(text: str) -> int:
    return to_epoch_ms(datetime.fromisoformat(text))


def share(ordered: Sequence[int], part: float) -> float:
    """Return the value below which that part of the values lies."""
    return float(ordered[min(len(ordered) - 1, int(part * len(ordered)))])
