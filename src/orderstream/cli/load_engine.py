"""Sends orders as fast as they are answered, or by a timetable, and counts what comes back.

One process drives more than 10,000 orders/s with a small part of a core: requests are bytes made
beforehand, and an answer costs one look for its end. What is not known to be accepted is never
counted as accepted.
"""

import asyncio
import math
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import NamedTuple, cast

from orderstream.cli.load_http import Answer, AnswerReader, NotHttp, with_order_id
from orderstream.cli.load_plan import Plan, Schedule, Tally
from orderstream.contract.errors import Unavailable

ACCEPTED = frozenset((200, 201, 202))
CONNECT_AGAIN_S = 0.1
CONNECT_TIMEOUT_S = 5.0
LOOK_EVERY_S = 0.25


class _Order(NamedTuple):
    request: bytes
    since: float


class _Connection(asyncio.Protocol):
    """One connection with at most one request under way."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._reader = AnswerReader()
        self._transport: asyncio.Transport | None = None
        self._order: _Order | None = None
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, order: _Order, now: float) -> None:
        assert self._transport is not None
        self._order, self._sent = order, now
        self._transport.write(order.request)

    def data_received(self, data: bytes) -> None:
        order = self._order
        try:
            answer = self._reader.feed(data)
        except NotHttp as error:
            self._engine.in_trouble(str(error))
            self.end()
            return
        if answer is None:
            return
        if order is None:
            self._engine.in_trouble("an answer that nobody asked for")
            self.end()
            return
        self._order = None
        if answer.close:
            self.end()
        self._engine.answered(self, order, self._sent, answer)

    def connection_lost(self, exc: Exception | None) -> None:
        order, self._order, self._transport = self._order, None, None
        self._engine.lost(self, order, exc)

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def end(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Engine:
    """Carries out one plan, once."""

    def __init__(
        self, plan: Plan, on_accepted: Callable[[bytes, float], None] | None = None
    ) -> None:
        """`on_accepted` is told the answer's body and when the order was to be sent."""
        self.tally = Tally()
        self._plan = plan
        self._on_accepted = on_accepted
        self._schedule = Schedule(plan.rate) if plan.rate else None
        self._given = 0  # Orders handed to a connection, each counted once.
        self._due: float = 0  # Orders whose time has come.
        self._limit: float = math.inf if plan.orders is None else plan.orders
        self._again: deque[_Order] = deque()  # Retries whose time has come.
        self._waiting = 0  # Retries whose time has not come.
        self._idle: deque[_Connection] = deque()
        self._open: set[_Connection] = set()
        self._over = threading.Event()
        self._connecting: set[asyncio.Task[None]] = set()
        self._progress_at = 0.0
        self._accepted_before = 0

    async def run(self) -> Tally:
        """Send every order and return the tally. Raises Unavailable when nobody answers at all."""
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()
        pacer: threading.Thread | None = None
        try:
            await self._connect_all()
            tally = self.tally
            tally.began = tally.ended = self._progress_at = perf_counter()
            if self._schedule is None:
                self._due = self._limit
                self._give_out()
            else:
                pacer = threading.Thread(target=self._pace, name="pacer", daemon=True)
                pacer.start()
                self._release()
            self._look()
            await self._done
        finally:
            self._over.set()
            if pacer is not None:
                await self._loop.run_in_executor(None, pacer.join)
            await self._close()
        return self.tally

    def stop(self) -> None:
        """Send no further order; those under way are waited for."""
        if self._schedule is not None:
            self.tally.unsent += int(self._due) - self._given
        self._limit = self._due = self._given
        self._end_if_done()

    # Orders out ------------------------------------------------------------------------------

    def _next(self, now: float) -> _Order | None:
        if self._again:
            return self._again.popleft()
        number = self._given
        if number >= self._due:
            return None
        self._given = number + 1
        requests = self._plan.requests
        since = now
        if self._schedule is not None:
            since = self.tally.began + self._schedule.at(number)
        return _Order(requests[number % len(requests)], since)

    def _give_out(self) -> None:
        """Hand what is due to connections that are free."""
        while self._idle:
            now = perf_counter()
            order = self._next(now)
            if order is None:
                self._end_if_done()
                return
            self._idle.popleft().send(order, now)

    def _pace(self) -> None:
        """Wake the event loop at each step of the timetable, in a thread: its own timers are
        up to a millisecond late."""
        assert self._schedule is not None
        step = 0
        while True:
            step += 1
            wait_s = self.tally.began + step * self._schedule.tick_s - perf_counter()
            if self._over.wait(max(wait_s, 0)):
                return
            if wait_s < -0.1:  # We were stopped for a while: all that is due goes out together.
                step = int((perf_counter() - self.tally.began) / self._schedule.tick_s)
            with suppress(RuntimeError):  # The loop is closed already.
                self._loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        assert self._schedule is not None
        due = self._schedule.due(perf_counter() - self.tally.began)
        self._due = min(due, self._limit)
        self._give_out()

    # Answers in ------------------------------------------------------------------------------

    def answered(self, connection: _Connection, order: _Order, sent: float, answer: Answer) -> None:
        """Take an answer, and send the connection's next order."""
        if self._done.done():
            return
        tally, now = self.tally, perf_counter()
        tally.ended = now
        status = answer.status
        tally.statuses[status] += 1
        if status in ACCEPTED:
            tally.accepted += 1
            tally.from_schedule.add(int((now - order.since) * 1e6))
            tally.from_sending.add(int((now - sent) * 1e6))
            tally.last_accepted = answer.body
            if self._on_accepted is not None:
                self._on_accepted(answer.body, order.since)
        elif answer.retry_after is not None:
            if self._retry(connection, order, answer):
                return
        else:
            tally.refused += 1
            self.in_trouble(f"{status} {answer.body[:300].decode(errors='replace')}".strip())
        if not connection.usable:
            self._end_if_done()
            return
        following = self._next(now)
        if following is None:
            self._idle.append(connection)
            self._end_if_done()
        else:
            connection.send(following, now)

    def _retry(self, connection: _Connection, order: _Order, answer: Answer) -> bool:
        """Send it again when asked to; true if the connection waits with it.

        Without a timetable it does, as a client would; with one, other orders cannot wait.
        """
        if self._waiting >= self._plan.waiting_max:
            self.tally.given_up += 1
            return False
        assert answer.retry_after is not None
        self.tally.retries += 1
        self._waiting += 1
        repeated = _Order(with_order_id(order.request, answer.body), order.since)
        waits_with_it = self._schedule is None

        def again() -> None:
            if self._done.done():
                return
            self._waiting -= 1
            self._again.append(repeated)
            if waits_with_it and connection.usable:
                self._idle.append(connection)
            self._give_out()

        self._loop.call_later(answer.retry_after, again)
        return waits_with_it

    def lost(self, connection: _Connection, order: _Order | None, exc: Exception | None) -> None:
        """Take note that a connection ended, and make another."""
        self._open.discard(connection)
        with suppress(ValueError):
            self._idle.remove(connection)
        if self._done.done():
            return
        self.tally.connections_lost += 1
        if order is not None:
            self.tally.unknown += 1
            self.in_trouble(f"a connection ended before the answer ({exc or 'closed'})")
        self._end_if_done()
        if not self._done.done():
            task = self._loop.create_task(self._connect_again())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def in_trouble(self, what: str) -> None:
        """Remember the first thing that went wrong."""
        self.tally.trouble = self.tally.trouble or what

    # Connections -----------------------------------------------------------------------------

    async def _connect(self) -> None:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, connection = await self._loop.create_connection(
                lambda: _Connection(self), self._plan.host, self._plan.port
            )
        if connection.usable:
            self._open.add(connection)
            self._idle.append(connection)

    async def _connect_all(self) -> None:
        count = self._plan.connections
        results = await asyncio.gather(
            *(self._connect() for _ in range(count)), return_exceptions=True
        )
        for result in results:
            if isinstance(result, OSError):
                why = str(result) or f"none within {CONNECT_TIMEOUT_S:g} s"
                raise Unavailable(
                    f"{self._plan.host}:{self._plan.port} does not take {count} connections: {why}"
                ) from result
            if result is not None:
                raise result

    async def _connect_again(self) -> None:
        while not self._done.done():
            try:
                await self._connect()
            except OSError as error:  # A timeout is one too.
                self.tally.connects_failed += 1
                self.in_trouble(f"a new connection failed: {str(error) or 'it took too long'}")
                await asyncio.sleep(CONNECT_AGAIN_S)
            else:
                self._give_out()
                return

    # The end -----------------------------------------------------------------------------------

    def _look(self) -> None:
        """See now and then whether the time is up or nothing moves any more."""
        if self._done.done():
            return
        now, plan, tally = perf_counter(), self._plan, self.tally
        nothing_to_do = self._given == tally.settled and self._given >= self._due
        if nothing_to_do or tally.accepted != self._accepted_before:
            self._progress_at, self._accepted_before = now, tally.accepted
        if now - self._progress_at > plan.stall_s:
            self.in_trouble(f"no order was accepted for {plan.stall_s:g} s")
            self.break_off()
            return
        again_in = LOOK_EVERY_S
        if plan.seconds is not None and self._limit != self._given:
            left = tally.began + plan.seconds - now
            if left <= 0:
                self.stop()
            else:
                again_in = min(again_in, left)
        self._loop.call_later(again_in, self._look)

    def break_off(self) -> None:
        """End at once: what is under way counts as unknown, what waits as given up."""
        if self._done.done():
            return
        tally = self.tally
        waiting = self._waiting + len(self._again)
        tally.unknown += self._given - tally.settled - waiting
        tally.given_up += waiting
        if self._limit != math.inf:
            tally.unsent += int(self._limit) - self._given
        elif self._schedule is not None:
            tally.unsent += int(self._due) - self._given
        self._done.set_result(None)

    def _end_if_done(self) -> None:
        if not self._done.done() and self._limit <= self._given == self.tally.settled:
            self._done.set_result(None)

    async def _close(self) -> None:
        if not self._done.done():
            self._done.cancel()
        connecting = list(self._connecting)
        for task in connecting:
            task.cancel()
        await asyncio.gather(*connecting, return_exceptions=True)
        for connection in list(self._open):
            connection.end()
        while self._open:  # Each transport says that it has closed.
            await asyncio.sleep(0)
