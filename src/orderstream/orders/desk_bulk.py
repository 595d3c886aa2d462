"""Where many orders come in at once: claimed, published and confirmed together. Knows no HTTP.

Each order is treated as `Desk.accept` treats one; what is done once for each there, a task, a
future, a commit, is done once for all of them here.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from orderstream.contract.errors import OrderstreamError, OutcomeUnknown, Unavailable
from orderstream.orders.desk import (
    Accepted,
    Conflict,
    Desk,
    Gone,
    among_ours,
    conflict,
    created,
    unknown_claimed,
)
from orderstream.orders.rules import Request
from orderstream.orders.store import Claim, Held
from orderstream.runtime.publisher_batch import BatchPublisher, Record

COMMITS_AT_ONCE = 2  # Of claims: single orders want connections to the store too.
UNMARKED_MAX = 20_000

Outcome = Accepted | Conflict | Gone | Exception


@dataclass(slots=True)
class _Brought:
    """An order with an id of its own, and where its outcome belongs."""

    at: int
    request: Request
    claim: Claim
    answer: asyncio.Future[Accepted | Conflict]


class BulkDesk(Desk):
    """A desk that also takes orders by the hundred."""

    @cached_property
    def _batches(self) -> BatchPublisher:
        return BatchPublisher(self._publisher)

    @cached_property
    def _claim_turns(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(COMMITS_AT_ONCE)

    async def accept_all(
        self, requests: Sequence[Request], traceparent: bytes | None = None
    ) -> list[Outcome]:
        """Accept some hundred orders; return what became of each, errors included, in their order.

        Two with the same order id are as two requests: one order, or a conflict.
        """
        outcomes: list[Outcome] = [Unavailable("the order was not looked at")] * len(requests)
        fresh: list[int] = []
        brought: list[_Brought] = []
        alone: list[int] = []
        empties = self._empties
        for at, request in enumerate(requests):
            if empties is not None and empties.doubts([line.sku for line in request.items]):
                alone.append(at)
            elif request.order_id is None:
                fresh.append(at)
            elif (one := self._begin(at, request)) is not None:
                brought.append(one)
            else:  # It is under way: somebody else's answer is this one's too.
                alone.append(at)
        if not brought and not alone:
            await self._accept_fresh(requests, fresh, traceparent, outcomes)
            return outcomes
        await asyncio.gather(
            self._accept_fresh(requests, fresh, traceparent, outcomes),
            self._accept_brought(brought, traceparent, outcomes),
            *(self._accept_alone(requests[at], at, traceparent, outcomes) for at in alone),
        )
        return outcomes

    # Orders that are given an id ------------------------------------------------------------

    async def _accept_fresh(
        self,
        requests: Sequence[Request],
        places: Sequence[int],
        traceparent: bytes | None,
        outcomes: list[Outcome],
    ) -> None:
        if not places:
            return
        try:
            ids = await self._take_ids(len(places))
            records = self._records(
                zip(ids, [requests[at] for at in places], strict=True), traceparent
            )
            faults = await self._batches.publish_all(self._topic, records)
        except Exception as error:  # noqa: BLE001 - it is the outcome of each
            for at in places:
                outcomes[at] = error
            return
        for at, order_id in zip(places, ids, strict=True):
            outcomes[at] = Accepted(order_id)
        if faults:
            await self._tell_faults(requests, dict(zip(ids, places, strict=True)), faults, outcomes)

    async def _tell_faults(
        self,
        requests: Sequence[Request],
        places: dict[int, int],
        faults: dict[bytes, OrderstreamError],
        outcomes: list[Outcome],
    ) -> None:
        """Put in what went wrong; an id whose order may be on the log is claimed for a retry."""
        unknown: list[tuple[int, Request, OutcomeUnknown]] = []
        for key, error in faults.items():
            order_id = int(key)
            outcomes[places[order_id]] = error
            if isinstance(error, OutcomeUnknown):
                unknown.append((order_id, requests[places[order_id]], error))
        if unknown:
            for told in await self._unknown_all(unknown):
                outcomes[places[int(told.order_id)]] = told

    async def _take_ids(self, count: int) -> list[int]:
        """Return so many ids, once there are that many. Raises Unavailable."""
        await self._until_ids(count)
        ids = self._ids.take_many(count)
        self._refill_in_time()
        return ids

    # Orders that bring an id ----------------------------------------------------------------

    def _begin(self, at: int, request: Request) -> _Brought | None:
        """Enter the order as under way; None where its id is already."""
        assert request.order_id is not None
        claim = Claim.of_order(request.order_id, request.fingerprint())
        if claim.name in self._under_way:
            return None
        answer: asyncio.Future[Accepted | Conflict] = asyncio.get_running_loop().create_future()
        self._under_way[claim.name] = claim.fingerprint, answer
        return _Brought(at, request, claim, answer)

    async def _accept_brought(
        self, brought: Sequence[_Brought], traceparent: bytes | None, outcomes: list[Outcome]
    ) -> None:
        if not brought:
            return
        try:
            new = await self._claim_brought(brought, outcomes)
            await self._publish_brought(new, traceparent, outcomes)
        except Exception as error:  # noqa: BLE001 - it is the outcome of each that has none yet
            for one in brought:
                if not isinstance(outcomes[one.at], Accepted | Conflict):
                    outcomes[one.at] = error
        finally:
            for one in brought:
                del self._under_way[one.claim.name]
                _hand_on(one.answer, outcomes[one.at])

    async def _claim_brought(
        self, brought: Sequence[_Brought], outcomes: list[Outcome]
    ) -> list[_Brought]:
        """Claim all ids with one commit; return the orders that are still to be published."""
        while len(self._published) > UNMARKED_MAX and self._marking is not None:
            await asyncio.shield(self._marking)
        # Asked first: one may be noted meanwhile.
        to_be_noted = {one.claim.name for one in brought if one.claim.name in self._published}
        async with self._claim_turns:
            held = await asyncio.to_thread(self._store.claim, [one.claim for one in brought])
        new: list[_Brought] = []
        for one in brought:
            name = one.claim.name
            found: Held | None = held[name]
            if found is None:
                outcomes[one.at] = among_ours(one.claim.order_id)
            elif found.fingerprint != one.claim.fingerprint:
                outcomes[one.at] = conflict(name)
            elif found.published or name in to_be_noted or name in self._published:
                outcomes[one.at] = Accepted(found.order_id, replayed=True)
            else:  # Its id as it was first written: 12 and "12" are one.
                one.claim = Claim(name, found.fingerprint, found.order_id)
                new.append(one)
        return new

    async def _publish_brought(
        self, new: Sequence[_Brought], traceparent: bytes | None, outcomes: list[Outcome]
    ) -> None:
        if not new:
            return
        records = self._records(((one.claim.order_id, one.request) for one in new), traceparent)
        for one, (_, _, headers) in zip(new, records, strict=True):
            headers.append(one.claim.header)
        faults = await self._batches.publish_all(self._topic, records)
        for one in new:
            order_id = one.claim.order_id
            fault = faults.get(str(order_id).encode()) if faults else None
            if isinstance(fault, OutcomeUnknown):
                outcomes[one.at] = unknown_claimed(order_id, fault, "orderId")
            else:
                outcomes[one.at] = Accepted(order_id) if fault is None else fault
        names = [one.claim.name for one in new if isinstance(outcomes[one.at], Accepted)]
        if names:
            self._mark_published(names)

    async def _accept_alone(
        self, request: Request, at: int, traceparent: bytes | None, outcomes: list[Outcome]
    ) -> None:
        try:
            if request.order_id is not None:
                await self._others_ended(f"order:{request.order_id}", request.fingerprint())
            outcomes[at] = await self.accept(request, None, traceparent)
        except Exception as error:  # noqa: BLE001 - it is the outcome
            outcomes[at] = error

    async def _others_ended(self, name: str, fingerprint: bytes) -> None:
        """Wait until no other order is under way under this name: it may come to nothing."""
        while (first := self._under_way.get(name)) is not None and first[0] != fingerprint:
            await asyncio.wait([first[1]])

    # Records --------------------------------------------------------------------------------

    def _records(
        self, orders: Iterable[tuple[int | str, Request]], traceparent: bytes | None
    ) -> list[Record]:
        """Return the records of orders that are accepted at one moment."""
        now = self._clock()
        headers, write = self._envelope.headers, self._write
        records: list[Record] = []
        for order_id, request in orders:
            key = str(order_id).encode()
            records.append(
                (key, write(created(order_id, request, now)), headers(key, now, traceparent))
            )
        return records


def _hand_on(answer: asyncio.Future[Accepted | Conflict], outcome: Outcome) -> None:
    """Answer those who wait for the same order."""
    if isinstance(outcome, Accepted | Conflict):
        answer.set_result(outcome)
        return
    ended = Unavailable("the first request ended")
    answer.set_exception(outcome if isinstance(outcome, Unavailable) else ended)
    answer.exception()  # Taken, so that nobody waiting is no warning.
