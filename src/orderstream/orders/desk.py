"""Where orders come in: claim, publish, answer. Knows no HTTP.

An order is accepted when Kafka has it on every in-sync replica; nothing else has to happen first,
unless the client brought an order id or a key of its own, which is then claimed (design.md 1).
"""

from __future__ import annotations  # Else each call of a function makes its inner ones' types.

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import structlog
from msgspec import UNSET, Struct, structs

from orderstream.contract.envelope import Envelope, Headers
from orderstream.contract.errors import OutcomeUnknown, Unavailable
from orderstream.contract.events import OrderCreated, encode
from orderstream.contract.formats import WriteOrder
from orderstream.orders.empties import Empties
from orderstream.orders.ids import OrderIds
from orderstream.orders.rules import SOURCE, Request
from orderstream.orders.store import Claim, ClaimStore, Held, name_of_key
from orderstream.runtime.clock import Clock
from orderstream.runtime.publisher import Publisher

ID_BLOCK = 10_000

log = structlog.get_logger("orderstream.orders")


class Accepted(Struct, frozen=True, gc=False):
    """The order is on Kafka; `replayed` when it already was, or was on its way."""

    order_id: int | str
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Conflict:
    """Another order stands under this id or key."""

    name: str  # "orderId" or "Idempotency-Key"
    message: str


@dataclass(frozen=True, slots=True)
class Gone:
    """Nothing is left of these SKUs: the order was refused, and nothing was kept of it."""

    skus: list[str]


class Unknown(OutcomeUnknown):
    """The order may be on Kafka, or not; `todo` says how the client finds out without a second."""

    def __init__(self, order_id: int | str, message: str, todo: str) -> None:
        super().__init__(message)
        self.order_id = order_id
        self.todo = todo


Settled = Callable[[Accepted | BaseException], None]


class Desk:
    """Accepts orders for one event loop."""

    def __init__(
        self,
        store: ClaimStore,
        publisher: Publisher,
        topic: str,
        clock: Clock,
        partitions: int,
        empties: Empties | None = None,
        write: WriteOrder = encode,
    ) -> None:
        """The topic has `partitions`. With `empties`, what is gone is refused."""
        self._empties = empties
        self._write = write
        self._store = store
        self._publisher = publisher
        self._topic = topic
        self._clock = clock
        self._envelope = Envelope("order.created", SOURCE)
        self._ids = OrderIds(partitions)
        self._now: datetime | None = None  # In this turn of the event loop, once it was asked for.
        self._refill: asyncio.Task[bool] | None = None
        self._telling: set[asyncio.Future[Unknown]] = set()  # Held, so that none is lost.
        self._claims: dict[str, tuple[Claim, asyncio.Future[Held | None]]] = {}
        self._claiming: asyncio.Task[None] | None = None
        self._published: set[str] = set()
        self._marking: asyncio.Task[None] | None = None
        self._under_way: dict[str, tuple[bytes, asyncio.Future[Accepted | Conflict]]] = {}

    async def accept(
        self, request: Request, key: str | None = None, traceparent: bytes | None = None
    ) -> Accepted | Conflict | Gone:
        """Accept an order, once per order id and per key.

        Raises Unavailable (not accepted), or Unknown (perhaps accepted) with the id to retry with.
        """
        if self._empties is not None and (gone := await self._gone(self._empties, request, key)):
            return gone
        if request.order_id is None and key is None:
            order_id = await self._next_id()
            try:
                await self._publish(order_id, request, traceparent)
            except OutcomeUnknown as error:
                raise await self._unknown(order_id, request, error) from error
            return Accepted(order_id)
        return await self._accept_claimed(request, key, traceparent)

    def accept_now(self, request: Request, traceparent: bytes | None, settled: Settled) -> bool:
        """Accept an order without an id or a key of its own, without a task of its own.

        Returns False, with nothing done, where there is something to wait for before it can be
        sent: then it is `accept`'s. Raises Unavailable: not accepted. `settled` is called in the
        event loop, later; what went wrong by then, such as Unknown, is handed to it.
        """
        if request.order_id is not None or not self._ids:
            return False
        if self._empties is not None and self._empties.doubts([i.sku for i in request.items]):
            return False
        order_id = self._take_id()

        def confirmed(error: OutcomeUnknown | None) -> None:
            if error is None:
                settled(Accepted(order_id))
            else:
                telling = asyncio.ensure_future(self._unknown(order_id, request, error))
                self._telling.add(telling)
                telling.add_done_callback(self._telling.discard)
                telling.add_done_callback(lambda told: settled(told.exception() or told.result()))

        self._publisher.send(*self._record(order_id, request, traceparent), confirmed)
        return True

    async def _gone(self, empties: Empties, request: Request, key: str | None) -> Gone | None:
        """Return what is gone of an order; None for a repeat, which gets its answer again."""
        skus = [line.sku for line in request.items]
        if not empties.doubts(skus):
            return None
        names = [] if key is None else [name_of_key(key, request.owner)]
        if request.order_id is not None:
            names.append(f"order:{request.order_id}")
        if not self._under_way.keys().isdisjoint(names):
            return None
        gone = await empties.of(skus)
        if gone and not (names and await asyncio.to_thread(self._store.held, names)):
            return Gone(gone)
        return None

    # Orders that bring an id or a key ------------------------------------------------------

    async def _accept_claimed(
        self, request: Request, key: str | None, traceparent: bytes | None
    ) -> Accepted | Conflict:
        fingerprint = request.fingerprint()
        name = f"order:{request.order_id}" if key is None else name_of_key(key, request.owner)
        if name in self._under_way:  # The same client, twice at once: one order, one answer.
            first_fingerprint, first = self._under_way[name]
            if first_fingerprint != fingerprint:
                return conflict(name)
            result = await asyncio.shield(first)
            if isinstance(result, Accepted):
                return Accepted(result.order_id, replayed=True)
            return result
        answer: asyncio.Future[Accepted | Conflict] = asyncio.get_running_loop().create_future()
        self._under_way[name] = fingerprint, answer
        try:
            result = await self._claim_and_publish(request, key, fingerprint, traceparent)
            answer.set_result(result)
            return result
        except BaseException as error:
            answer.set_exception(
                error if isinstance(error, Unavailable) else Unavailable("the first request ended")
            )
            raise
        finally:
            answer.exception()  # Taken, so that nobody waiting is no warning.
            del self._under_way[name]

    async def _claim_and_publish(
        self, request: Request, key: str | None, fingerprint: bytes, traceparent: bytes | None
    ) -> Accepted | Conflict:
        order_id = request.order_id
        claims: list[Claim] = []
        published = False
        if key is not None:
            wanted = order_id if order_id is not None else await self._next_id()
            claim = Claim.of_key(key, fingerprint, wanted, request.owner)
            held = await self._held(claim)
            if held is None or held.fingerprint != fingerprint:
                return conflict(claim.name)
            order_id, published = held.order_id, held.published
            claims.append(claim)
        if request.order_id is not None:
            claim = Claim.of_order(request.order_id, fingerprint)
            held = await self._held(claim)
            if held is None:
                return among_ours(request.order_id)
            if held.fingerprint != fingerprint:
                return conflict(claim.name)
            order_id = held.order_id
            published = published or held.published
            claims.append(claim)
        assert order_id is not None
        if published:
            return Accepted(order_id, replayed=True)
        try:
            await self._publish(order_id, request, traceparent, claims)
        except OutcomeUnknown as error:
            raise unknown_claimed(
                order_id, error, "orderId" if key is None else "Idempotency-Key"
            ) from error
        self._mark_published([claim.name for claim in claims])
        return Accepted(order_id)

    async def _held(self, claim: Claim) -> Held | None:
        """Claim; an order that is on Kafka and not yet noted as such counts as published."""
        to_be_noted = claim.name in self._published  # Asked first: it may be noted meanwhile.
        held = await self._claim(claim)
        if held is not None and (to_be_noted or claim.name in self._published):
            return replace(held, published=True)
        return held

    async def _claim(self, claim: Claim) -> Held | None:
        """Claim together with everybody who asks meanwhile: one commit for all."""
        future: asyncio.Future[Held | None] = asyncio.get_running_loop().create_future()
        if claim.name in self._claims:
            await asyncio.wait([self._claims[claim.name][1]])
            return await self._claim(claim)
        self._claims[claim.name] = claim, future
        if self._claiming is None:
            self._claiming = asyncio.create_task(self._claim_all())
        return await future

    async def _claim_all(self) -> None:
        while self._claims:
            batch, self._claims = self._claims, {}
            try:
                held = await asyncio.to_thread(
                    self._store.claim, [claim for claim, _ in batch.values()]
                )
            except Exception as error:  # noqa: BLE001 - handed to those who wait
                for _, future in batch.values():
                    if not future.done():
                        future.set_exception(error)
                continue
            for name, (_, future) in batch.items():
                if not future.done():
                    future.set_result(held[name])
        self._claiming = None

    def _mark_published(self, names: list[str]) -> None:
        """Note it soon, together with others: a repeat after a crash only publishes once more."""
        self._published.update(names)
        if self._marking is None:
            self._marking = asyncio.create_task(self._mark_all())

    async def _mark_all(self) -> None:
        while self._published:
            names = sorted(self._published)
            try:
                await asyncio.to_thread(self._store.published, names)
            except Exception as error:  # noqa: BLE001 - costs a repeat one more record, no more
                log.warning("claims not marked as published", count=len(names), reason=str(error))
            self._published.difference_update(names)
        self._marking = None

    # Publishing ----------------------------------------------------------------------------

    async def _publish(
        self,
        order_id: int | str,
        request: Request,
        traceparent: bytes | None,
        claims: Sequence[Claim] = (),
    ) -> None:
        topic, key, value, headers = self._record(order_id, request, traceparent)
        headers += [claim.header for claim in claims]
        await self._publisher.publish(topic, key, value, headers)

    def _record(
        self, order_id: int | str, request: Request, traceparent: bytes | None
    ) -> tuple[str, bytes, bytes, Headers]:
        now = self._now or self._look_at_clock()
        order = created(order_id, request, now)
        key = order.key.encode()
        return self._topic, key, self._write(order), self._envelope.headers(key, now, traceparent)

    def _look_at_clock(self) -> datetime:
        """Return the time, which is that of all orders in this turn of the event loop."""
        now = self._now = self._clock()
        asyncio.get_running_loop().call_soon(self._forget_time)
        return now

    def _forget_time(self) -> None:
        self._now = None

    async def _unknown(self, order_id: int, request: Request, error: OutcomeUnknown) -> Unknown:
        """Claim the id that we gave, so that a retry with it is one order; and say how to retry."""
        (told,) = await self._unknown_all([(order_id, request, error)])
        return told

    async def _unknown_all(
        self, orders: Sequence[tuple[int, Request, OutcomeUnknown]]
    ) -> list[Unknown]:
        """Claim ids that we gave; return what to say of each."""
        claims = [
            Claim.of_order(order_id, structs.replace(order, order_id=order_id).fingerprint())
            for order_id, order, _ in orders
        ]
        try:
            await asyncio.to_thread(self._store.unknown, claims)
        except Unavailable as store_error:
            log.error(
                "orders of unknown outcome could not be claimed",
                order_id=[str(order_id) for order_id, _, _ in orders],
                reason=str(store_error),
            )
            todo = "Look at /api/orders/{} in a while, and send it again if it is not there."
        else:
            todo = "Send it again with this orderId, and it will be one order."
        return [
            Unknown(order_id, str(error), todo.format(order_id)) for order_id, _, error in orders
        ]

    # Order ids -----------------------------------------------------------------------------

    async def _next_id(self) -> int:
        """Return an id, once there is one. Raises Unavailable."""
        await self._until_ids(1)
        return self._take_id()

    async def _until_ids(self, count: int) -> None:
        """Return once there are so many ids in hand. Raises Unavailable."""
        while len(self._ids) < count:
            if self._refill is None:
                self._refill = asyncio.create_task(self._fetch_ids())
            if not await asyncio.shield(self._refill):
                raise Unavailable("no order id can be given: the order store is away")

    def _take_id(self) -> int:
        """Return an id from the block in hand; the next block is fetched before it is used up."""
        order_id = self._ids.take(self._publisher.turn())
        self._refill_in_time()
        return order_id

    def _refill_in_time(self) -> None:
        if len(self._ids) < ID_BLOCK // 2 and self._refill is None:
            self._refill = asyncio.create_task(self._fetch_ids())

    async def _fetch_ids(self) -> bool:
        """Fetch the next block; false when the store is away."""
        try:
            self._ids.put(await asyncio.to_thread(self._store.id_block, ID_BLOCK))
            return True
        except Unavailable as error:
            log.warning("no new order ids", left=len(self._ids), reason=str(error))
            return False
        finally:
            self._refill = None

    async def close(self) -> None:
        """Finish what is under way."""
        for task in (self._claiming, self._marking, self._refill):
            if task is not None:
                await asyncio.wait([task], timeout=4)


def created(order_id: int | str, request: Request, now: datetime) -> OrderCreated:
    """Return the event of an order that is accepted now."""
    return OrderCreated(
        order_id=order_id,
        user_id=request.user_id,
        items=request.items,
        created_at=now,
        owner=UNSET if request.owner is None else request.owner,
        notify=request.notify,
    )


def conflict(name: str) -> Conflict:
    """Say that another order stands under this name of a claim."""
    if not name.startswith("order:"):
        return Conflict("Idempotency-Key", "this Idempotency-Key came with another order before")
    return Conflict("orderId", f"order {name.removeprefix('order:')} exists with other contents")


def among_ours(order_id: int | str) -> Conflict:
    """Say that an order id is none that a client may bring."""
    return Conflict(
        "orderId",
        f"order id {order_id} is among those that this service gives itself;"
        " choose another, or leave it out to be given one",
    )


def unknown_claimed(order_id: int | str, error: OutcomeUnknown, name: str) -> Unknown:
    """Say how to retry an order that was claimed before it was sent."""
    todo = f"Send it again with the same {name}, and it will be one order."
    return Unknown(order_id, str(error), todo)
