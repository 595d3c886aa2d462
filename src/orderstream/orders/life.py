"""What becomes of an order after it was accepted: cancelled, fulfilled, expired. Knows no HTTP.

Whatever ends an order's life is decided in one place, the order service's store, where the first
to come stays: so no order is both cancelled and fulfilled, and a 409 is exact. The decision is then
published; what a crash or a fault of Kafka leaves unpublished, `relay` publishes later.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import structlog
from msgspec import UNSET, convert

from orderstream.contract.envelope import Envelope
from orderstream.contract.errors import OutcomeUnknown, Unavailable
from orderstream.contract.events import OrderCancelled, OrderFulfilled, encode
from orderstream.contract.topics import Topics
from orderstream.contract.values import Contact
from orderstream.orders.rules import SOURCE, Becomes, may_become
from orderstream.orders.store import Change, ChangeStore
from orderstream.runtime.clock import Clock
from orderstream.runtime.publisher import Publisher
from orderstream.runtime.tracing import Traced, untraced

LOOK_EVERY_S = 1.0
LEFT_BEHIND_S = 2.0  # A change that is unpublished for longer has nobody who is publishing it.
AT_ONCE = 500
SWEPT_BY_OTHERS_S = 10.0  # So long is a lock believed that somebody else is said to have.
CLOCKS_DIFFER_BY = timedelta(hours=1)

log = structlog.get_logger("orderstream.life")


@dataclass(frozen=True, slots=True)
class Changed:
    """The order has become this for good; `published` unless Kafka has yet to hear of it."""

    order_id: int | str
    status: Becomes
    published: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """The change is not legal for an order of this status."""

    status: str


class Overdue(Protocol):
    """An order whose reservation has lasted too long."""

    @property
    def order_id(self) -> int | str: ...
    @property
    def user_id(self) -> int | str | None: ...
    @property
    def decided_at(self) -> datetime: ...
    @property
    def notify(self) -> Contact | None: ...


Place = tuple[datetime, str]
PageOf = Callable[[str], Awaitable[dict[str, Any] | None]]
OverdueOf = Callable[[datetime, Place, int], Sequence[Overdue]]

MaySweep = Callable[[], bool]

THE_BEGINNING: Place = (datetime(1970, 1, 1, tzinfo=UTC), "")


class Life:
    """Ends orders' lives for one event loop.

    `page_of` gives an order's page as the API shows it. `overdue_of` gives so many confirmed orders
    that were decided before a time, by time and id, from behind a place on; `ttl` is the time that
    a reservation may last; `may_sweep` says whether no other process is known to sweep.
    What a sweep ends has the trace that `traced` gives.
    """

    def __init__(
        self,
        store: ChangeStore,
        publisher: Publisher,
        topics: Topics,
        clock: Clock,
        page_of: PageOf,
        overdue_of: OverdueOf,
        ttl: timedelta | None,
        may_sweep: MaySweep = lambda: True,
        traced: Traced = untraced,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._topics = topics
        self._clock = clock
        self._page_of = page_of
        self._overdue_of = overdue_of
        self._ttl = ttl
        self._may_sweep = may_sweep
        self._traced = traced
        self._kept_out_since: datetime | None = None
        self._swept = THE_BEGINNING  # Nothing decided before is overdue any more.
        self._cancelled = Envelope("order.cancelled", SOURCE)
        self._fulfilled = Envelope("order.fulfilled", SOURCE)

    async def end(
        self,
        order_key: str,
        becomes: Becomes,
        by: str | None = None,
        reason: str | None = None,
        traceparent: bytes | None = None,
    ) -> Changed | Refused | None:
        """Cancel or fulfil an order; None for one that nobody knows. Safe to repeat.

        Raises Unavailable: nothing was changed. Raises OutcomeUnknown: it may have been.
        """
        page = await self._page_of(order_key)
        if page is None:
            return None
        if not may_become(page["status"], becomes):
            return Refused(page["status"])
        order_id = page["orderId"]
        notify = None if page.get("notify") is None else convert(page["notify"], Contact)
        change = self._change(order_id, page["userId"], notify, becomes, by, reason, traceparent)
        decided, published = (await asyncio.to_thread(self._store.decide, [change]))[order_key]
        if decided.becomes != becomes:
            return Refused(decided.becomes)
        if not published:
            published = await self._publish([decided])
        return Changed(order_id, becomes, published)

    async def is_of(self, order_key: str, owner: str) -> bool:
        """Tell whether there is an order and it is this owner's. Raises Unavailable."""
        page = await self._page_of(order_key)
        return page is not None and page.get("owner") == owner

    async def run(self) -> None:
        """Publish what was left behind, and let reservations expire, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.relay()
                if self._ttl is not None and await self.sweeps():
                    await self.sweep(self._ttl)
            except Unavailable as error:
                log.warning("changes wait", reason=str(error))
            except Exception as error:
                log.error("changes wait", exc_info=error)

    async def relay(self) -> int:
        """Publish what was decided and not published; return how many. Raises Unavailable.

        Two processes may publish the same: it is the same event, under the same id.
        """
        before = self._clock() - timedelta(seconds=LEFT_BEHIND_S)
        left = await asyncio.to_thread(self._store.unpublished, before, AT_ONCE)
        if left:
            log.info("publishing changes that were left behind", count=len(left))
            await self._publish(left)
        return len(left)

    async def sweeps(self) -> bool:
        """Tell whether it is this process that sweeps: all of them might, it is only less work.

        Who is said to sweep may have died, or never have been: nobody is kept out for long.
        """
        now = self._clock()
        if await asyncio.to_thread(self._may_sweep):
            self._kept_out_since = None
            return True
        since = self._kept_out_since = self._kept_out_since or now
        if now - since < timedelta(seconds=SWEPT_BY_OTHERS_S):
            return False
        self._kept_out_since = now
        return True

    async def sweep(self, ttl: timedelta) -> int:
        """End the orders whose reservations have lasted too long; return how many.

        It only tidies: an overdue order is shown as EXPIRED, and not fulfilled, before it is swept.
        """
        until = self._clock() - ttl
        swept, place = 0, self._swept
        while overdue := await asyncio.to_thread(self._overdue_of, until, place, AT_ONCE):
            with self._traced() as traceparent:
                changes = [
                    self._change(
                        o.order_id, o.user_id, o.notify, "EXPIRED", None, None, traceparent
                    )
                    for o in overdue
                ]
                decided = await asyncio.to_thread(self._store.decide, changes)
                left = [change for change, published in decided.values() if not published]
                await self._publish(left)
            swept += len(overdue)
            place = overdue[-1].decided_at, str(overdue[-1].order_id)
        # Another worker's clock may be behind, and its decisions with it.
        self._swept = until - CLOCKS_DIFFER_BY, ""
        return swept

    def _change(
        self,
        order_id: int | str,
        user_id: int | str | None,
        notify: Contact | None,
        becomes: Becomes,
        by: str | None,
        reason: str | None,
        traceparent: bytes | None,
    ) -> Change:
        now = self._clock()
        if becomes == "FULFILLED":
            event = OrderFulfilled(
                order_id=order_id,
                fulfilled_at=now,
                by=by,
                user_id=user_id,
                notify=notify or UNSET,
            )
        else:
            event = OrderCancelled(
                order_id=order_id,
                cancelled_at=now,
                cause=becomes,
                by=by,
                reason=reason,
                user_id=user_id,
                notify=notify or UNSET,
            )
        return Change(str(order_id), becomes, encode(event), now, traceparent)

    async def _publish(self, changes: Sequence[Change]) -> bool:
        """Publish them; false when Kafka did not take all: `relay` goes on with the rest."""
        try:
            sent = [self._sent(change) for change in changes]
        except Unavailable:
            return False
        results = await asyncio.gather(*sent, return_exceptions=True)
        done = [c.order_key for c, r in zip(changes, results, strict=True) if r is None]
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, OutcomeUnknown):
                raise result
        if done:
            try:
                await asyncio.to_thread(self._store.published, done)
            except Unavailable as error:  # Published again later: the same event.
                log.warning("changes not marked as published", reason=str(error))
        return len(done) == len(changes)

    def _sent(self, change: Change) -> asyncio.Future[None]:
        fulfilled = change.becomes == "FULFILLED"
        envelope = self._fulfilled if fulfilled else self._cancelled
        topic = self._topics.order_fulfilled if fulfilled else self._topics.order_cancelled
        key = change.order_key.encode()
        headers = envelope.headers(key, change.at, change.traceparent)
        return self._publisher.publish(topic, key, change.event, headers)
