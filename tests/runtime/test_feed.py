"""The feed reads the log while somebody listens, whatever the moment that they come or go."""

import asyncio
import json
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import pytest

from orderstream.contract.errors import Unavailable
from orderstream.order_view import feed as feed_module
from orderstream.order_view.feed import Feed, Frame
from orderstream.order_view.feed_reader import event_of
from orderstream.order_view.last_id import encode_positions
from orderstream.order_view.packed import pack

TOPIC = "events"


class Log:
    """A log of one partition, and who reads it."""

    def __init__(self) -> None:
        self.end = 0
        self.readers: list[asyncio.Queue[Frame | None]] = []
        self.away = False
        self.breaks_off = False  # Before the end of what somebody missed.

    async def read(self, begins: str | None, ends: str | None) -> AsyncGenerator[Frame]:
        if self.away:
            return
        if begins and ends:
            first, last = offset_of(begins), offset_of(ends)
            yield frame(first, first)
            if self.breaks_off:
                yield frame(first, last - 1)
                return
            yield frame(first, last)
            return
        came = asyncio.Queue[Frame | None]()
        self.readers.append(came)
        try:
            yield frame(self.end, self.end)
            while (found := await came.get()) is not None:
                yield found
        finally:
            self.readers.remove(came)

    def say(self, count: int = 1) -> None:
        """Let so many events come."""
        for reader in self.readers:
            reader.put_nowait(frame(self.end, self.end + count))
        self.end += count

    def break_off(self) -> None:
        for reader in self.readers:
            reader.put_nowait(None)


def frame(first: int, last: int) -> Frame:
    entries = [{"type": "x", "offset": offset} for offset in range(first, last)]
    place = encode_positions({(TOPIC, 0): last}, [TOPIC])
    events = b"".join(event_of(1, e) for e in entries) + b"id: %s\n\n" % place
    return Frame(place, events, pack(events))


def offset_of(last_id: str) -> int:
    return int(last_id.rsplit(".", 1)[1], 36)


class Client:
    """Takes what it is sent, until it goes as a client goes: by the cancel scope of its request."""

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.last_id = ""
        self.cut_off = False

    async def listen(self, parts: AsyncIterator[bytes]) -> None:
        async for part in parts:
            for line in part.decode().splitlines():
                name, _, value = line.partition(": ")
                if name == "id":
                    self.last_id = value
                elif name == "data":
                    self.offsets.append(json.loads(value)["offset"])
        self.cut_off = True


async def unpacked(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    gzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
    async for part in parts:
        yield gzip.decompress(part)


@asynccontextmanager
async def listening(
    feed: Feed, last_id: str | None = None, *, packed: bool = False
) -> AsyncIterator[Client]:
    client = Client()
    async with anyio.create_task_group() as group:
        parts = feed.of_all(last_id, packed)
        group.start_soon(client.listen, unpacked(parts) if packed else parts)
        await until(lambda: client.last_id)
        yield client
        group.cancel_scope.cancel()


async def until(look: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not look():
            await asyncio.sleep(0.001)


def run(test: Callable[[Log, Feed], Awaitable[None]]) -> None:
    async def main() -> None:
        log = Log()
        feed = Feed([TOPIC], log.read)
        await test(log, feed)
        await feed.close()
        assert log.readers == []

    asyncio.run(main())


class TestListeners:
    def test_get_the_same_packed_whenever_they_come(self) -> None:
        async def test(log: Log, feed: Feed) -> None:
            async with listening(feed) as plain, listening(feed, packed=True) as one:
                log.say(3)
                await until(lambda: one.offsets == plain.offsets == [0, 1, 2])
                async with listening(feed, one.last_id, packed=True) as other:
                    log.say(2)
                    await until(lambda: other.offsets == [3, 4])
                await until(lambda: one.offsets == plain.offsets == [0, 1, 2, 3, 4])
                async with listening(feed, other.last_id, packed=True) as again:
                    log.say()
                    await until(lambda: again.offsets == [5])

        run(test)

    def test_share_one_reader_and_the_last_to_go_leaves_none(self) -> None:
        async def test(log: Log, feed: Feed) -> None:
            async with listening(feed) as one:
                async with listening(feed) as other:
                    assert len(log.readers) == 1
                    log.say(2)
                    await until(lambda: one.offsets == other.offsets == [0, 1])
                log.say()
                await until(lambda: one.offsets == [0, 1, 2])
            await until(lambda: log.readers == [])

        run(test)

    def test_who_come_while_the_last_one_goes_are_not_cut_off(self) -> None:
        async def test(log: Log, feed: Feed) -> None:
            for _ in range(20):
                async with listening(feed):
                    pass
                async with listening(feed) as client:
                    at = log.end
                    log.say()
                    await until(lambda at=at, client=client: client.offsets == [at])

        run(test)

    def test_who_were_cut_off_miss_nothing(self) -> None:
        async def test(log: Log, feed: Feed) -> None:
            async with listening(feed) as before:
                log.say()
                await until(lambda: before.offsets == [0])
            log.say(3)
            async with listening(feed, before.last_id) as client:
                await until(lambda: client.offsets == [1, 2, 3])
                log.say()
                await until(lambda: client.offsets == [1, 2, 3, 4])

        run(test)

    def test_are_cut_off_where_what_they_missed_is_not_told_to_its_end(self) -> None:
        async def test(log: Log, feed: Feed) -> None:
            async with listening(feed) as before:
                pass
            log.say(3)
            log.breaks_off = True
            async with listening(feed, before.last_id) as client:
                await until(lambda: client.cut_off)
            assert client.offsets == [0, 1]
            log.breaks_off = False
            async with listening(feed, client.last_id) as again:
                await until(lambda: again.offsets == [2])

        run(test)

    def test_who_do_not_take_what_they_missed_keep_no_other_from_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(feed_module, "CATCHING_UP_MAX_S", 0.05)
        monkeypatch.setattr(feed_module, "HEARTBEAT_S", 0.02)

        async def test(log: Log, feed: Feed) -> None:
            async with listening(feed) as before:
                pass
            log.say(3)
            stuck = [feed.of_all(before.last_id) for _ in range(feed_module.CATCHING_UP_MAX)]
            for parts in stuck:
                await anext(parts)
                await anext(parts)
            async with listening(feed, before.last_id) as client:
                await until(lambda: client.offsets == [0, 1, 2])
            for parts in stuck:
                await cast("AsyncGenerator[bytes]", parts).aclose()

        run(test)

    def test_are_cut_off_where_reading_ends_and_come_again(self) -> None:
        async def test(log: Log, feed: Feed) -> None:
            async with listening(feed) as client:
                log.break_off()
                await until(lambda: client.cut_off)
            log.say()
            async with listening(feed, client.last_id) as again:
                await until(lambda: again.offsets == [0])

        run(test)

    def test_who_do_not_take_what_comes_are_cut_off_and_nobody_else(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(feed_module, "BEHIND_MAX_BYTES", 1_000)

        async def test(log: Log, feed: Feed) -> None:
            slow = feed.of_all(None)
            await anext(slow)
            async with listening(feed) as quick:
                for count in range(1, 101):
                    log.say()
                    await until(lambda count=count: len(quick.offsets) == count)
            with pytest.raises(StopAsyncIteration):
                await anext(slow)

        run(test)

    def test_are_told_that_kafka_is_away(self) -> None:
        async def test(log: Log, feed: Feed) -> None:
            log.away = True
            with pytest.raises(Unavailable):
                await anext(feed.of_all(None))

        run(test)
