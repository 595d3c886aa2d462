"""Events as they happen, for whoever listens: of one order, or of all.

The log is followed only while somebody listens, once for all of them. A listener who was cut off
says where (the last id it got) and misses nothing; what was sent right before the cut may come
again, under the same event id.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import structlog

from orderstream.contract.errors import Malformed, Unavailable
from orderstream.order_view.rules import Failed, Seen
from orderstream.order_view.timeline import shown
from orderstream.runtime.stage import Decoder, Partition, Positions, Record

WAITING_MAX = 10_000  # Events that one listener may be behind; then it is cut off, to come again.
HEARTBEAT_S = 15.0
CATCHING_UP_MAX = 4
HEARTBEAT = b": still here\n\n"

log = structlog.get_logger("orderstream.feed")

OnRecords = Callable[[Sequence[Record]], None]
Follow = Callable[[OnRecords], tuple[Positions, Callable[[], None]]]
PageOf = Callable[[str], Awaitable[dict[str, Any] | None]]
ReadBetween = Callable[[Positions, Positions, OnRecords], None]


class CutOff(Exception):
    """The listener is too slow, or the service ends: the client comes again with its last id."""


class Listener:
    """What one client has yet to be sent."""

    def __init__(self) -> None:
        self.waiting: list[Seen] = []
        self.ended = False
        self._wake = asyncio.Event()

    def put(self, events: Sequence[Seen]) -> None:
        """Add events, or end it when it is too far behind."""
        if len(self.waiting) + len(events) > WAITING_MAX:
            self.end()
        else:
            self.waiting += events
            self._wake.set()

    def end(self) -> None:
        """Send no more."""
        self.ended = True
        self._wake.set()

    async def take(self) -> list[Seen]:
        """Return what is there, or nothing after a while. Raises CutOff."""
        if not self.waiting and not self.ended:
            try:
                await asyncio.wait_for(self._wake.wait(), HEARTBEAT_S)
            except TimeoutError:
                return []
        if self.ended:
            raise CutOff
        self._wake.clear()
        taken, self.waiting = self.waiting, []
        return taken


class Feed:
    """Hands events to listeners; for one event loop.

    `follow` begins to follow the log and returns where, and what ends it; both it and
    `read_between` block. `reads` are the view's decoders by topic.
    """

    def __init__(
        self, reads: Mapping[str, Decoder], follow: Follow, read_between: ReadBetween
    ) -> None:
        self._reads = reads
        self._topics = list(reads)
        self._follow = follow
        self._read_between = read_between
        self._of_all: set[Listener] = set()
        self._of_order: defaultdict[bytes, set[Listener]] = defaultdict(set)
        self._listeners = 0
        self._came = 0  # Listeners ever.
        self._at: Positions = {}  # Up to here everything was handed out.
        self._unfollow: Callable[[], None] | None = None
        self._following: object = None  # Which time; what an earlier one still brings is too late.
        self._letting_go: set[asyncio.Task[None]] = set()
        self._changing = asyncio.Lock()
        self._catching_up = asyncio.Semaphore(CATCHING_UP_MAX)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    # Streams -------------------------------------------------------------------------------

    async def of_all(self, last_id: str | None) -> AsyncIterator[bytes]:
        """Give every event as server-sent events. Raises Unavailable, Malformed for a wrong id."""
        begins = None if not last_id else decode_positions(last_id, self._topics)
        async with self._listening(None) as listener:
            at = dict(self._at)
            yield b"retry: 1000\nid: %s\n\n" % encode_positions(begins or at, self._topics)
            if begins is not None:
                async for events in self._missed(begins, at):
                    _advance(begins, events)
                    yield _shown(events, encode_positions(at | begins, self._topics))
            while True:
                events = await _next(listener)
                if events is None:
                    return
                _advance(at, events)
                yield _shown(events, encode_positions(at, self._topics))

    async def of_order(
        self, order_id: int | str, page_of: PageOf, last_id: str | None
    ) -> AsyncIterator[bytes]:
        """Give the events of one order, from its first on. Raises as `of_all`."""
        at = {} if not last_id else decode_positions(last_id, self._topics)
        async with self._listening(str(order_id)) as listener:
            page = await page_of(str(order_id))
            yield b"retry: 1000\n\n"
            entries: Sequence[dict[str, Any]] | None = () if page is None else page["timeline"]
            while entries is not None:
                for entry in entries:
                    place = entry["topic"], entry["partition"]
                    if entry["offset"] >= at.get(place, 0):
                        at[place] = entry["offset"] + 1
                        yield _event(order_id, entry, encode_positions(at, self._topics))
                if not entries:
                    yield HEARTBEAT
                events = await _next(listener)
                entries = None if events is None else [shown(seen) for seen in events]

    async def close(self) -> None:
        """Cut every listener off."""
        self._closed = True
        for listener in [*self._of_all, *(one for some in self._of_order.values() for one in some)]:
            listener.end()
        await self._let_go()

    # Listening -----------------------------------------------------------------------------

    @asynccontextmanager
    async def _listening(self, order_key: str | None) -> AsyncGenerator[Listener]:
        listener = Listener()
        group = self._of_all if order_key is None else self._of_order[order_key.encode()]
        async with self._changing:
            if self._closed:
                raise Unavailable("the service is about to end")
            if self._unfollow is None:
                self._loop = asyncio.get_running_loop()
                self._following, self._at = time, early = object(), {}
                begins, self._unfollow = await asyncio.to_thread(
                    self._follow, partial(self._on_records, time)
                )
                self._at = begins | early  # Records may have come before this line.
            self._listeners += 1
            self._came += 1
            group.add(listener)
        try:
            yield listener
        finally:
            group.discard(listener)
            if order_key is not None and not group:
                self._of_order.pop(order_key.encode(), None)
            self._listeners -= 1
            if not self._listeners:
                # Not here: a listener who went is cancelled anew at each await.
                task = asyncio.create_task(self._let_go())
                self._letting_go.add(task)
                task.add_done_callback(self._letting_go.discard)

    async def _let_go(self) -> None:
        """Follow the log no longer, unless somebody listens again."""
        async with self._changing:
            if self._unfollow is not None and (self._closed or not self._listeners):
                unfollow, self._unfollow, self._following = self._unfollow, None, None
                await asyncio.to_thread(unfollow)

    async def _missed(self, begins: Positions, ends: Positions) -> AsyncIterator[list[Seen]]:
        """Give what was said between a listener's last time and now."""
        loop, found = asyncio.get_running_loop(), asyncio.Queue[list[Seen] | None](2)

        def read() -> None:
            def put(events: list[Seen] | None) -> None:
                asyncio.run_coroutine_threadsafe(found.put(events), loop).result()

            try:
                self._read_between(begins, ends, lambda records: put(self._decoded(records)))
            finally:
                put(None)

        async with self._catching_up:
            reading = asyncio.create_task(asyncio.to_thread(read))
            while (events := await found.get()) is not None:
                yield events
            await reading

    # In the thread that follows the log ----------------------------------------------------

    def _on_records(self, following: object, records: Sequence[Record]) -> None:
        assert self._loop is not None
        came = self._came
        events = self._decoded(self._wanted(records))
        at = {_partition(record): (record.offset() or 0) + 1 for record in records}
        try:
            self._loop.call_soon_threadsafe(self._hand_out, following, records, came, events, at)
        except RuntimeError:  # The loop has ended, and with it everybody who listened.
            log.debug("nobody listens any more")

    def _wanted(self, records: Sequence[Record]) -> Sequence[Record]:
        return records if self._of_all else [r for r in records if r.key() in self._of_order]

    def _decoded(self, records: Sequence[Record]) -> list[Seen]:
        events: list[Seen] = []
        for record in records:
            try:
                events.append(self._reads[record.topic() or ""](record))
            except Malformed:
                continue  # The view passes over it too.
        return events

    # In the event loop ---------------------------------------------------------------------

    def _hand_out(
        self,
        following: object,
        records: Sequence[Record],
        came: int,
        events: Sequence[Seen],
        at: Positions,
    ) -> None:
        if following is not self._following:
            return
        if came != self._came:  # For somebody who came since they were decoded.
            events = self._decoded(self._wanted(records))
        self._at |= at
        if not events:
            return
        for listener in self._of_all:
            listener.put(events)
        if self._of_order:
            for seen in events:
                for listener in self._of_order.get(seen.event.key.encode(), ()):
                    listener.put([seen])


async def _next(listener: Listener) -> list[Seen] | None:
    try:
        return await listener.take()
    except CutOff:
        return None


def _advance(at: Positions, events: Sequence[Seen]) -> None:
    for seen in events:
        at[seen.topic, seen.partition] = seen.offset + 1


def _partition(record: Record) -> Partition:
    return record.topic() or "", record.partition() or 0


def _shown(events: Sequence[Seen], last_id: bytes) -> bytes:
    """Write a batch of events; the last has the id, which stands for all before."""
    written = [_event(_id_of(seen), shown(seen)) for seen in events]
    return b"".join(written[:-1]) + b"id: %s\n" % last_id + written[-1] if written else HEARTBEAT


def _event(order_id: int | str, entry: dict[str, Any], last_id: bytes | None = None) -> bytes:
    identity = b"" if last_id is None else b"id: %s\n" % last_id
    data = msgspec.json.encode({"orderId": order_id} | entry)
    return identity + b"event: %s\ndata: %s\n\n" % (entry["type"].encode(), data)


def _id_of(seen: Seen) -> int | str:
    return seen.event.key if isinstance(seen.event, Failed) else seen.event.order_id


# Where a listener is ---------------------------------------------------------------------------


def encode_positions(at: Positions, topics: Sequence[str]) -> bytes:
    """Write positions as `topic.partition.next`, the topic by its number, in base 36."""
    number = {topic: n for n, topic in enumerate(topics)}
    parts = sorted((number[topic], partition, n) for (topic, partition), n in at.items())
    return "-".join(".".join(map(_base36, part)) for part in parts).encode()


def decode_positions(text: str, topics: Sequence[str]) -> Positions:
    """Read positions. Raises Malformed for what no service of ours wrote."""
    at: Positions = {}
    try:
        for part in text.split("-") if text else ():
            topic, partition, after = (int(number, 36) for number in part.split("."))
            at[topics[topic], partition] = after
    except (ValueError, IndexError):
        raise Malformed("it is not an id that this service gave", "Last-Event-ID") from None
    return at


def _base36(number: int) -> str:
    digits = ""
    while number >= 36:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return "0123456789abcdefghijklmnopqrstuvwxyz"[number] + digits
