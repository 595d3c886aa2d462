"""Every event as it happens, for whoever listens to all of them.

The log is read only while somebody listens, once for all of them, by a process of its own that
stands behind all others for its turn on the processor (feed_reader.py): who looks on holds up
nobody. A listener who was cut off says where (the last id it got) and misses nothing; what was sent
right before the cut may come again, under the same event id.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass

from orderstream.contract.errors import Unavailable
from orderstream.order_view.last_id import decode_positions
from orderstream.order_view.packed import BEGINNING, pack
from orderstream.runtime.listener import HEARTBEAT, HEARTBEAT_S, RETRY, CutOff, Listener

BEHIND_MAX_BYTES = 8 << 20  # About 30,000 events: one further behind is cut off, to come again.
CATCHING_UP_MAX = 4  # At once: each is a process.
CATCHING_UP_MAX_S = 60.0


@dataclass(frozen=True)
class Frame:
    """Events as they are sent, also compressed, and the id of the place behind them.

    The first of all has no events; the last of a bounded reading has none either, and where it ends
    as its id: without it something is missing.
    """

    last_id: bytes
    events: bytes
    packed: bytes = b""


ReadFrames = Callable[[str | None, str | None], AsyncGenerator[Frame]]


class Feed:
    """Hands events to listeners; for one event loop.

    `read_frames` reads from one id, or from now, to another, or for ever; it begins with an empty
    frame that says where, and ends when it cannot go on. `topics` are those that it reads.
    """

    def __init__(self, topics: Sequence[str], read_frames: ReadFrames) -> None:
        self._topics = topics
        self._read_frames = read_frames
        self._listeners: set[Listener[Frame]] = set()
        self._last_id = b""  # Up to here everything was handed out.
        self._reading: asyncio.Task[None] | None = None
        self._beginning = asyncio.Lock()
        self._catching_up = asyncio.Semaphore(CATCHING_UP_MAX)
        self._closed = False

    async def of_all(self, last_id: str | None, packed: bool = False) -> AsyncIterator[bytes]:
        """Give every event as server-sent events, on demand as a gzip stream.

        Raises Unavailable, Malformed for a wrong id.
        """
        if last_id:
            decode_positions(last_id, self._topics)
        heartbeat = pack(HEARTBEAT) if packed else HEARTBEAT
        async with self._listening() as (listener, now):
            first = RETRY + b"id: %s\n\n" % (last_id.encode() if last_id else now)
            yield BEGINNING + pack(first) if packed else first
            if last_id and last_id.encode() != now:
                while not await self._may_catch_up():
                    if listener.ended:
                        return
                    yield heartbeat
                reached = b""
                with self._catching_up_for_a_while():
                    async with aclosing(self._read_frames(last_id, now.decode())) as missed:
                        async for frame in missed:
                            reached = frame.last_id
                            yield (frame.packed if packed else frame.events) or heartbeat
                if reached != now:
                    return  # Broken off: the client comes again, from where it is.
            while True:
                try:
                    frames = await listener.take()
                except CutOff:
                    return
                came = [frame.packed if packed else frame.events for frame in frames]
                yield b"".join(came) or heartbeat

    async def _may_catch_up(self) -> bool:
        """Take one of the places for that, or return that there was none for a while."""
        try:
            await asyncio.wait_for(self._catching_up.acquire(), HEARTBEAT_S)
        except TimeoutError:
            return False
        return True

    @contextmanager
    def _catching_up_for_a_while(self) -> Generator[None]:
        """Give the place back; early, where a client does not take what it asked for."""
        held = [self._catching_up]

        def give_back() -> None:
            while held:
                held.pop().release()

        timer = asyncio.get_running_loop().call_later(CATCHING_UP_MAX_S, give_back)
        try:
            yield
        finally:
            timer.cancel()
            give_back()

    async def close(self) -> None:
        """Cut every listener off."""
        self._closed = True
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    @asynccontextmanager
    async def _listening(self) -> AsyncGenerator[tuple[Listener[Frame], bytes]]:
        """Add a listener, and say up to where all others were told."""
        listener = Listener[Frame]()
        async with self._beginning:
            if self._closed:
                raise Unavailable("the service is about to end")
            if self._reading is not None and self._reading.cancelling():
                await asyncio.wait([self._reading])
            if self._reading is None:
                await self._begin_reading()
                if self._closed:  # Meanwhile.
                    await self.close()
                    raise Unavailable("the service is about to end")
            self._listeners.add(listener)
            now = self._last_id
        try:
            yield listener, now
        finally:
            self._listeners.discard(listener)
            if not self._listeners and self._reading is not None:
                self._reading.cancel()

    async def _begin_reading(self) -> None:
        frames = self._read_frames(None, None)
        try:
            self._last_id = (await anext(frames)).last_id
        except StopAsyncIteration:
            raise Unavailable("the log cannot be read: Kafka is away") from None
        except BaseException:
            await frames.aclose()
            raise
        self._reading = asyncio.create_task(self._hand_out(frames))

    async def _hand_out(self, frames: AsyncGenerator[Frame]) -> None:
        try:
            async with aclosing(frames):
                async for frame in frames:
                    self._last_id = frame.last_id
                    for listener in self._listeners:
                        if listener.behind > BEHIND_MAX_BYTES:
                            listener.end()
                        elif frame.events:
                            listener.put(frame, len(frame.events))
        finally:
            self._reading = None
            for listener in self._listeners:
                listener.end()
